"""Small catalogues for tests."""

from schemas.catalogue import Catalogue

STREAM_PACK = {
    "id": "stream-pack",
    "name": "Streaming pack",
    "description": "Video for a month.",
    "kind": "add_on",
    "requires": ["basic"],
    "excludes": ["stream-lite"],
    "term_days": 30,
    "prices": [{"id": "stream-fee", "type": "recurring", "amount": "4.99"}],
    "allowances": [{"id": "stream", "name": "Video 5 GB", "octets": "5 GB", "scope": {"applications": ["netflix"]}}],
    "rules": ["stream-pack-rule"],
}


def catalogue(version: str = "v1", **changes) -> Catalogue:
    """Two applications, four offerings, three rules; `changes` replace whole lists."""
    parts = {
        "version": version,
        "currency": "EUR",
        "applications": [
            {"id": "netflix", "name": "Netflix", "category": "streaming",
             "pfds": [{"pfd_id": "1", "domain_names": ["nflxvideo.net"]}]},
            {"id": "whatsapp", "name": "WhatsApp", "category": "voip_im",
             "pfds": [{"pfd_id": "1", "domain_names": ["whatsapp.net"]}]},
        ],
        "offerings": [
            {"id": "basic", "name": "Basic plan", "kind": "base_plan", "rules": ["general", "no-voip-3g"],
             "usage_prices": [{"id": "oob", "amount": "0.01", "per_octets": "1 MB", "cap": "5"}],
             "allowances": [{"id": "data", "octets": "1 GB"}]},
            STREAM_PACK,
            {"id": "stream-lite", "name": "Streaming lite", "kind": "add_on", "lifecycle_status": "active"},
            {"id": "old", "name": "Old plan", "kind": "base_plan", "lifecycle_status": "retired"},
        ],
        "rules": [
            {"id": "general", "precedence": 1000},
            {"id": "no-voip-3g", "name": "No VoIP on 3G", "precedence": 50, "gate_status": "closed",
             "scope": {"categories": ["voip_im"], "rat_types": ["UTRA"]}},
            {"id": "stream-pack-rule", "name": "Video from the pack", "precedence": 100,
             "scope": {"applications": ["netflix"]}, "rating_group": 10},
        ],
    }  # fmt: skip
    return Catalogue.model_validate({**parts, **changes})
