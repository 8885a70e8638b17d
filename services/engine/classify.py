"""Step 1 of 4: classify. Which application a flow belongs to, how sure that is, and on what evidence.

All evidence of a record is weighed and kept; the strongest decides, and strong evidence that contradicts it makes the
verdict suspect. A verdict that rests on texts and the far address alone is kept and handed out again as it is.
Source of the order: docs/classification.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.catalogue import Application
from schemas.classification import Classification, Evidence, EvidenceKind, UnknownReason
from schemas.flow import FlowRecord
from services.engine.classify_addresses import is_group, network_of
from services.engine.classify_cache import BoundedCache
from services.engine.classify_media import UDP, is_media, is_voice_codec
from services.engine.classify_memory import SubscriberMemory, Trail
from services.engine.classify_table import CDN, Rule, Tables, Target
from services.engine.hostnames import canonical_address, is_address, normalise, pack_address

__all__ = ["Classifier", "SubscriberMemory"]

TCP = 6
DNS_PORT = 53

PROVIDED = 100
SAME_FLOW = 88
SERVER_NAME = 90
HTTP_HOST = 88
STUN_REALM = 85
FLOW_DESCRIPTION = 80
DNS_NAME = 75
EXPORTER_APPLICATION = 70
MEDIA_PORT = 70
SERVER_SEEN = 65
MEDIA_NETWORK = 65
ADDRESS = 60
IP_PROTOCOL = 60
MEDIA_RECENT = 55
SHARED_NAME = 50
USER_AGENT = 50
CONTENT_TYPE = 40
PORT = 30
BEHAVIOUR = 20
"""How far each kind of evidence is trusted alone: an order, not a probability."""

STRONG = 60
"""Evidence from here on can contradict other evidence, and is worth remembering."""

SUSPECT_FACTOR_PERCENT = 50

UPLOAD_OCTETS = 1_000_000
UPLOAD_RATIO = 8
"""A flow to a social or streaming application that sends 1 MB or more, eight times what it receives, is an upload."""


class _Name(NamedTuple):
    """A host as sent, what it is in the table, and how it is spelt there."""

    text: str
    matched: str | None
    target: Target | None

    @property
    def listed(self) -> bool:
        return self.target is not None and not self.target.shared and not self.target.public_name


class _Address(NamedTuple):
    """A far address: its one spelling, its network, whether it is a group, who owns it, which rules name it."""

    text: str
    network: bytes
    group: bool
    matched: str | None
    owner: Target | None
    rules: tuple[Rule, ...]


class _Found(NamedTuple):
    """Evidence that points at an application."""

    confidence: int
    kind: EvidenceKind
    value: str
    matched: str
    target: Target


class _Verdict(NamedTuple):
    classification: Classification
    target: Target | None


class Classifier:
    """Classifies flow records against one version of the applications; make a new one for a new version."""

    def __init__(self, applications: Sequence[Application], *, cache_entries: int) -> None:
        """Compile the tables. Each of the four caches holds at most `cache_entries`. Raises ValueError (see Tables)."""
        self._tables = Tables(applications)
        self._names: BoundedCache[str, _Name] = BoundedCache(cache_entries)
        self._addresses: BoundedCache[str, _Address] = BoundedCache(cache_entries)
        self._hints: BoundedCache[tuple[str | None, str | None], tuple[_Found, ...]] = BoundedCache(cache_entries)
        self._verdicts: BoundedCache[tuple[object, ...], _Verdict] = BoundedCache(cache_entries)

    def classify(self, flow: FlowRecord, memory: SubscriberMemory | None = None) -> Classification:
        """The verdict over one flow; `memory` lends what the subscriber did a moment ago, and learns from the flow.

        The same classifier, memory and flows in the same order give the same verdicts. Raises nothing.
        """
        address = self._addresses.get(flow.remote_ip) or self._locate(flow.remote_ip)
        trail = memory.trail_of(flow.subscriber_id) if memory is not None else None
        if flow.dns_answers is not None or (flow.remote_port == DNS_PORT and flow.server_name is None):
            if trail is not None:
                trail.learn_answers(flow)
            return self._classify_query(flow)
        dns_name = flow.dns_name
        if dns_name is None and trail is not None:
            dns_name = trail.name_of(address.text, flow)
        verdict = self._verdict(flow, address, dns_name, trail)
        if trail is not None and verdict.target is not None:
            _remember(flow, address, verdict.target, verdict.classification, trail)
        return verdict.classification

    def _verdict(self, flow: FlowRecord, address: _Address, dns_name: str | None, trail: Trail | None) -> _Verdict:
        name = flow.server_name or flow.http_host
        if name is None or flow.http_user_agent is not None or flow.http_content_type is not None or address.rules:
            return self._weigh(flow, address, dns_name, trail)
        upload = flow.octets_up >= UPLOAD_OCTETS and flow.octets_up >= UPLOAD_RATIO * flow.octets_down
        key = (
            flow.server_name, flow.http_host, dns_name, flow.stun_realm, flow.exporter_application, address.owner,
            flow.ip_protocol << 16 | flow.remote_port, upload,
        )  # fmt: skip
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._weigh(flow, address, dns_name, trail)
            if self._rests_on_texts(flow, name):
                self._verdicts.put(key, verdict)
        return verdict

    def _rests_on_texts(self, flow: FlowRecord, name: str) -> bool:
        """True when neither the subscriber's trail nor the counters had a say, so that the verdict can be kept."""
        target = self._name(name).target
        quic = flow.ip_protocol != UDP or flow.remote_port == 443
        return quic and (target is None or not (target.shared or target.public_name))

    # What the record holds, looked up.

    def _name(self, text: str) -> _Name:
        known = self._names.get(text)
        if known is None:
            host = normalise(text)
            hit = self._tables.names.find(host) if host is not None and not is_address(host) else None
            known = _Name(host or text, *(hit or (None, None)))
            self._names.put(text, known)
        return known

    def _locate(self, text: str) -> _Address:
        packed = pack_address(text)
        if packed is None:
            known = _Address(text, b"", True, None, None, ())
        else:
            matched, owner = next(self._tables.prefixes.covering(packed), (None, None))
            rules = tuple(self._tables.rules_at.covering(packed))
            known = _Address(
                canonical_address(text) or text, network_of(packed), is_group(packed), matched, owner, rules
            )
        self._addresses.put(text, known)
        return known

    def _classify_query(self, flow: FlowRecord) -> Classification:
        found = self._tables.port(flow.ip_protocol, flow.remote_port) or self._tables.port(UDP, DNS_PORT)
        evidence: list[Evidence] = []
        application = None
        if found is not None:
            application = found[1].application
            evidence.append(_evidence(_Found(PORT, "port", str(flow.remote_port), *found)))
        if flow.dns_name is not None:
            asked = self._name(flow.dns_name)
            owner = asked.target.application if asked.target is not None else None
            evidence.append(
                Evidence(kind="dns_name", value=asked.text, matched=asked.matched, application=owner, confidence=0)
            )
        return Classification(
            category="other", application=application, service="dns", confidence=PORT, evidence=tuple(evidence),
            reason=None if application else "no_evidence",
        )  # fmt: skip

    # Weighing.

    def _weigh(self, flow: FlowRecord, address: _Address, dns_name: str | None, trail: Trail | None) -> _Verdict:
        names = self._names_of(flow, dns_name)
        found = [_Found(confidence, kind, name.text, name.matched or "", name.target)
                 for confidence, kind, name in names if name.listed and name.target is not None]  # fmt: skip
        self._add_rules(found, flow, address)
        self._add_texts(found, flow)
        if address.owner is not None and address.matched is not None:
            found.append(_Found(ADDRESS, "address", address.text, address.matched, address.owner))
        self._add_ports(found, flow)
        nameless = not any(name.target is None or name.listed for _, kind, name in names if kind != "dns_name")
        if nameless and trail is not None and not address.group:
            _add_memory(found, flow, address, trail)
        self._add_shared(found, flow, names, trail)
        if not found and nameless:
            self._add_behaviour(found, flow)
        found.sort(key=_by_confidence, reverse=True)
        return _conclude(flow, found, names)

    def _names_of(self, flow: FlowRecord, dns_name: str | None) -> list[tuple[int, EvidenceKind, _Name]]:
        names: list[tuple[int, EvidenceKind, _Name]] = []
        if flow.server_name is not None:
            names.append((SERVER_NAME, "server_name", self._name(flow.server_name)))
        if flow.http_host is not None:
            names.append((HTTP_HOST, "http_host", self._name(flow.http_host)))
        if flow.stun_realm is not None:
            names.append((STUN_REALM, "stun_realm", self._realm(flow.stun_realm)))
        if dns_name is not None:
            names.append((DNS_NAME, "dns_name", self._name(dns_name)))
        return [(confidence, kind, name) for confidence, kind, name in names if name.text and not is_address(name.text)]

    def _realm(self, text: str) -> _Name:
        hit = self._tables.realms.get(text.lower())
        name = self._name(text) if hit is None else _Name(text.lower(), *hit)
        if name.target is not None and name.target.media is not None:
            return name._replace(target=name.target.media)
        return name

    def _add_rules(self, found: list[_Found], flow: FlowRecord, address: _Address) -> None:
        for rule in (*address.rules, *self._tables.rules_anywhere):
            if rule.matches(flow.ip_protocol, flow.remote_port):
                protocol, network, ports = rule.description
                narrow = network is not None and (bool(ports) or protocol is not None)
                trust = PROVIDED if rule.target.provided else FLOW_DESCRIPTION if narrow else PORT
                found.append(_Found(trust, "pfd", f"{address.text} {flow.remote_port}", rule.text, rule.target))

    def _add_texts(self, found: list[_Found], flow: FlowRecord) -> None:
        exported = flow.exporter_application
        if exported is not None:
            hit = self._exported(exported)
            if hit is not None:
                found.append(_Found(EXPORTER_APPLICATION, "exporter_application", exported, *hit))
        if flow.http_user_agent is not None or flow.http_content_type is not None:
            found.extend(self._hint(flow.http_user_agent, flow.http_content_type))

    def _exported(self, text: str) -> tuple[str, Target] | None:
        """`ndpi:TLS.WhatsApp` is asked for as it stands and then without the carrier: `ndpi:WhatsApp`."""
        name = text.lower()
        hit = self._tables.exporter_ids.get(name)
        if hit is None and "." in name:
            exporter, colon, rest = name.rpartition(":")
            hit = self._tables.exporter_ids.get(f"{exporter}{colon}{rest.partition('.')[2]}")
        return hit

    def _hint(self, user_agent: str | None, content_type: str | None) -> tuple[_Found, ...]:
        key = (user_agent, content_type)
        known = self._hints.get(key)
        if known is None:
            agents = _beginning(USER_AGENT, "user_agent", user_agent, self._tables.user_agents)
            types = _beginning(CONTENT_TYPE, "content_type", content_type, self._tables.content_types)
            known = (*agents, *types)
            self._hints.put(key, known)
        return known

    def _add_ports(self, found: list[_Found], flow: FlowRecord) -> None:
        protocol = flow.ip_protocol
        hit = self._tables.port(protocol, flow.remote_port)
        value = flow.remote_port
        if hit is None and protocol == UDP and flow.subscriber_port < 49_152:
            hit, value = self._tables.port(protocol, flow.subscriber_port), flow.subscriber_port
        if hit is not None:
            kind = "udp" if protocol == UDP else "tcp"
            found.append(_Found(PORT, "port", f"{kind}/{value}", *hit))
        bare = self._tables.ip_protocols.get(protocol)
        if bare is not None:
            found.append(_Found(IP_PROTOCOL, "port", f"ip/{protocol}", *bare))

    def _add_shared(
        self,
        found: list[_Found],
        flow: FlowRecord,
        names: list[tuple[int, EvidenceKind, _Name]],
        trail: Trail | None,
    ) -> None:
        """A shared name counts only beside something else that points at the same application."""
        for _, kind, name in names:
            target = name.target
            if target is None or not target.shared or target.subcategory == CDN:
                continue
            backed = any(item.target.application == target.application for item in found)
            backed = backed or (flow.ja4, target.application) in self._tables.ja4
            if backed or (trail is not None and trail.used(target.application, flow)):
                found.append(_Found(SHARED_NAME, kind, name.text, name.matched or "", target))

    def _add_behaviour(self, found: list[_Found], flow: FlowRecord) -> None:
        hit = self._tables.behaviours.get("voice_codec")
        if hit is not None and is_voice_codec(flow):
            found.append(_Found(BEHAVIOUR, "behaviour", "voice_codec", *hit))


def _by_confidence(item: _Found) -> int:
    return item.confidence


def _beginning(
    confidence: int, kind: EvidenceKind, text: str | None, table: tuple[tuple[str, Target], ...]
) -> tuple[_Found, ...]:
    if text is None:
        return ()
    lower = text.lower()
    return next(
        ((_Found(confidence, kind, text, start, target),) for start, target in table if lower.startswith(start)), ()
    )


def _add_memory(found: list[_Found], flow: FlowRecord, address: _Address, trail: Trail) -> None:
    """What the subscriber did a moment ago, for a flow that has no name of its own."""
    seen = trail.server(address.text, flow)
    if seen is not None:
        same_flow = seen.detail == flow.subscriber_port
        trust = SAME_FLOW if same_flow else SERVER_SEEN
        found.append(_Found(trust, "media", address.text, "same flow" if same_flow else "same server", seen.target))
    if flow.ip_protocol not in {UDP, TCP}:
        return
    carried = any(item.target.carries_media for item in found)
    if flow.ip_protocol == UDP:
        tied = trail.media(flow)
        if tied is not None:
            found.append(_Found(MEDIA_PORT, "media", f"udp/{flow.subscriber_port}", "same media port", tied.target))
            return
    if carried or is_media(flow):
        recent = list(trail.signals(flow))
        near = next((item for item in recent if item.detail == address.network), None)
        if near is not None:
            found.append(_Found(MEDIA_NETWORK, "media", address.text, "same network", near.target))
        elif recent and not any(item.confidence >= STRONG for item in found):
            found.append(_Found(MEDIA_RECENT, "media", address.text, "used just before", recent[0].target))


def _conclude(flow: FlowRecord, found: list[_Found], names: list[tuple[int, EvidenceKind, _Name]]) -> _Verdict:
    unlisted = tuple(
        Evidence(kind=kind, value=name.text, matched=name.matched, confidence=0)
        for _, kind, name in names
        if not name.listed
    )
    if not found:
        reason = _why_unknown(names)
        nothing = Classification(
            category="other", application=None, service=None, confidence=0, evidence=unlisted, reason=reason
        )
        return _Verdict(nothing, None)
    best = found[0]
    target = _with_service(flow, best.target, found)
    suspect = any(item.confidence >= STRONG and not item.target.agrees(best.target) for item in found[1:])
    confidence = best.confidence * SUSPECT_FACTOR_PERCENT // 100 if suspect else best.confidence
    return _Verdict(
        Classification(
            category=target.category, application=target.application, service=_service(flow, target),
            confidence=confidence, evidence=(*map(_evidence, found), *unlisted), suspect=suspect,
        ),
        target,
    )  # fmt: skip


def _with_service(flow: FlowRecord, target: Target, found: list[_Found]) -> Target:
    """The same application with the service that weaker evidence, or the rhythm of the packets, tells."""
    if target.service is not None:
        return target
    for item in found:
        if item.target.service is not None and item.target.application == target.application:
            return item.target
    media = target.media
    if media is not None and (any(item.target.carries_media for item in found) or is_media(flow)):
        return media
    return target


def _service(flow: FlowRecord, target: Target) -> str | None:
    if target.service is not None or target.category not in {"social", "streaming"}:
        return target.service
    upload = flow.octets_up >= UPLOAD_OCTETS and flow.octets_up >= UPLOAD_RATIO * flow.octets_down
    return "upload" if upload else None


def _why_unknown(names: list[tuple[int, EvidenceKind, _Name]]) -> UnknownReason:
    targets = [name.target for _, _, name in names]
    if any(target is not None and target.public_name for target in targets):
        return "encrypted_client_hello"
    if any(target is not None and target.shared for target in targets):
        return "shared_cdn"
    return "name_not_listed" if names else "no_evidence"


def _evidence(item: _Found) -> Evidence:
    return Evidence(
        kind=item.kind, value=item.value, matched=item.matched, application=item.target.application,
        confidence=item.confidence,
    )  # fmt: skip


def _remember(
    flow: FlowRecord, address: _Address, target: Target, classification: Classification, trail: Trail
) -> None:
    """Strong, undisputed verdicts teach; weak ones would only repeat themselves."""
    if classification.suspect:
        return
    if classification.service == "call":
        trail.learn_media(target, flow)
    if classification.confidence < STRONG or target.neutral:
        return
    if target.category == "other":
        trail.forget_server(address.text)
        return
    trail.learn_server(address.text, target, flow)
    if target.media is not None:
        trail.learn_signal(target.media, address.network, flow)
