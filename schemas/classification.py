"""Classification: which application a flow belongs to, and the evidence for it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.fields import Category

EvidenceKind = Literal[
    "pfd", "server_name", "http_host", "dns_name", "stun_realm", "exporter_application", "address", "media",
    "asn", "port", "content_type", "user_agent", "ja4", "behaviour",
]  # fmt: skip

UnknownReason = Literal["no_evidence", "name_not_listed", "shared_cdn", "encrypted_client_hello"]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One thing that was seen in the record and what the catalogue makes of it."""

    kind: Annotated[EvidenceKind, Meta(description="Which field or behaviour spoke.")]
    value: Annotated[str, Meta(description="What the record held, normalised.")]
    matched: Annotated[str | None, Meta(description="The catalogue entry that matched, e.g. a domain suffix.")] = None
    application: Annotated[str | None, Meta(description="The application that the entry belongs to.")] = None
    confidence: Annotated[int, Meta(ge=0, le=100, description="How far this evidence alone is trusted, 0-100.")] = 0


class Classification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verdict over one flow. `application` is None when nothing in the catalogue fits."""

    category: Annotated[Category, Meta(description="OTT category; `other` when unknown.")]
    application: Annotated[str | None, Meta(description="Application id in the catalogue, or null.")]
    service: Annotated[
        str | None, Meta(description="Service inside the application: chat, call, video, upload, live ... or null.")
    ]
    confidence: Annotated[int, Meta(ge=0, le=100, description="Trust in the verdict, 0-100 (ordinal).")]
    evidence: Annotated[tuple[Evidence, ...], Meta(description="Strongest first; the first one decided.")]
    suspect: Annotated[bool, Meta(description="True when strong evidence disagrees (spoofed name, fronting).")] = False
    reason: Annotated[UnknownReason | None, Meta(description="Why no application was found, or null.")] = None
