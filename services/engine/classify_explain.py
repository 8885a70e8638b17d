"""Why a flow was classified as it was, for people: what decided, what agreed, what lost, and what had nothing to say.

The verdict is given, never computed again: an explanation cannot differ from what was decided.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from schemas.catalogue import Application
from schemas.classification import Classification, Evidence, EvidenceKind
from schemas.flow import FlowRecord
from services.engine.classify import Classifier
from services.engine.classify_evidence import STRONG
from services.engine.classify_table import NEUTRAL
from services.engine.classify_verdict import SUSPECT_PERCENT
from services.engine.hostnames import normalise

Role = Literal["decided", "agrees", "outweighed", "contradicts", "no_say"]
"""What a piece of evidence did for the verdict. `no_say`: a name that points at no single application."""

NO_ADDRESS = "0.0.0.0"  # noqa: S104 - RFC 1122: no address at all; nothing is bound to it
"""Far address of a question that names none."""

MAX_SHOWN_CHARACTERS = 100
"""How much of a value is shown."""

_KINDS: Mapping[EvidenceKind, str] = {
    "pfd": "flow description", "server_name": "server name", "http_host": "HTTP host", "dns_name": "DNS name",
    "stun_realm": "STUN realm", "exporter_application": "exporter's application", "address": "address",
    "asn": "autonomous system",
    "media": "subscriber's recent traffic", "port": "port", "content_type": "content type", "user_agent": "user agent",
    "ja4": "JA4", "behaviour": "rhythm of the packets",
}  # fmt: skip

_REASONS = {
    "no_evidence": "nothing in the record points anywhere",
    "name_not_listed": "no entry of the catalogue covers the name",
    "shared_cdn": "the name serves many applications, and nothing else points at one of them",
    "encrypted_client_hello": "the client hello is encrypted; only its outer name was seen",
}

_HELD: tuple[tuple[EvidenceKind, str], ...] = (
    ("server_name", "server_name"), ("http_host", "http_host"), ("stun_realm", "stun_realm"), ("dns_name", "dns_name"),
    ("exporter_application", "exporter_application"), ("user_agent", "http_user_agent"),
    ("content_type", "http_content_type"),
)  # fmt: skip
"""Kind of evidence, and the field of a record that can become it."""

_NAMES = frozenset(("server_name", "http_host", "stun_realm", "dns_name"))
_PROTOCOLS = {6: "tcp", 17: "udp"}


class Weighed(msgspec.Struct, frozen=True):
    """One piece of evidence and its role."""

    role: Role
    evidence: Evidence


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict and its reasons; `told` says it in sentences."""

    flow: FlowRecord
    classification: Classification
    catalogue_version: str
    application_name: str | None
    weighed: tuple[Weighed, ...]
    """Strongest first, as in the classification."""

    in_vain: tuple[str, ...]
    """What else the record held, and why it said nothing."""

    disputes: tuple[str, ...]
    """What contradicts the verdict; empty unless it is suspect."""

    def told(self) -> Iterator[tuple[str, str]]:
        """A label of one or two words, and a sentence to it."""
        yield "verdict", self._verdict()
        for item in self.weighed:
            yield item.role.replace("_", " "), _told(item)
        for text in self.in_vain:
            yield "in vain", text
        if self.classification.suspect:
            yield "suspect", f"{'; '.join(self.disputes)}: {SUSPECT_PERCENT} % of the confidence is left"
        yield "catalogue", self.catalogue_version

    def _verdict(self) -> str:
        verdict = self.classification
        if verdict.application is None:
            reason = _REASONS.get(verdict.reason or "", "no application")
            return f"{verdict.category}, no application: {reason}"
        service = f", service {verdict.service}" if verdict.service else ""
        name = f" ({self.application_name})" if self.application_name else ""
        return f"{verdict.category} / {verdict.application}{name}{service}, confidence {verdict.confidence}"


def explain(
    flow: FlowRecord,
    classification: Classification,
    *,
    classifier: Classifier,
    applications: Mapping[str, Application],
    catalogue_version: str,
) -> Explanation:
    """Why `classifier` gave `classification` to `flow`; `applications` (by id) are those it was made of."""
    weighed = tuple(_weigh(classification, applications))
    owner = classifier.owner_of(flow)
    application = applications.get(classification.application or "")
    return Explanation(
        flow=flow,
        classification=classification,
        catalogue_version=catalogue_version,
        application_name=application.name if application is not None else None,
        weighed=weighed,
        in_vain=tuple(_in_vain(flow, {item.evidence.kind for item in weighed}, owner)),
        disputes=tuple(_disputes(flow, classification, weighed, owner, applications)),
    )


def asked_flow(
    *,
    server_name: str | None = None,
    http_host: str | None = None,
    remote_ip: str | None = None,
    remote_port: int = 443,
    ip_protocol: int = 6,
    remote_as: int | None = None,
) -> FlowRecord:
    """A flow that holds nothing but what somebody asks about: no volume, no subscriber's past."""
    return FlowRecord(
        version="1.0", record_id="question", subscriber_id="nobody", exporter_id="question", start_ms=0, end_ms=0,
        ip_protocol=ip_protocol, subscriber_ip=NO_ADDRESS, subscriber_port=50_000, remote_ip=remote_ip or NO_ADDRESS,
        remote_port=remote_port, octets_up=0, octets_down=0, server_name=server_name, http_host=http_host,
        remote_as=remote_as,
    )  # fmt: skip


def told_flow(flow: FlowRecord) -> str:
    """The far side of a flow in short: `tcp to 192.0.2.1:443`."""
    address = "" if flow.remote_ip == NO_ADDRESS else ascii(flow.remote_ip)[1:-1]
    address = f"[{address}]" if ":" in address else address
    return f"{_protocol(flow)} to {address or 'port '}{':' if address else ''}{flow.remote_port}"


def _weigh(classification: Classification, applications: Mapping[str, Application]) -> Iterator[Weighed]:
    counted: set[tuple[str, str]] = set()
    for place, item in enumerate(classification.evidence):
        # A shared name that is backed by something else stands there twice: with its weight, and as a name.
        if item.confidence == 0 and (item.kind, item.value) in counted:
            continue
        counted.add((item.kind, item.value))
        yield Weighed(_role(place, item, classification, applications), item)


def _role(place: int, item: Evidence, classification: Classification, applications: Mapping[str, Application]) -> Role:
    if item.confidence == 0:
        return "no_say"
    if place == 0:
        return "decided"
    if item.application == classification.application:
        return "agrees"
    if item.confidence >= STRONG and not _agree(item.application, classification.application, applications):
        return "contradicts"
    return "outweighed"


def _agree(one: str | None, other: str | None, applications: Mapping[str, Application]) -> bool:
    """As `Target.agrees` has it: one application, one company, or infrastructure."""
    first, second = applications.get(one or ""), applications.get(other or "")
    if first is None or second is None or first is second:
        return True
    neutral = first.subcategory in NEUTRAL or second.subcategory in NEUTRAL
    return neutral or (first.provider == second.provider != "")


def _disputes(
    flow: FlowRecord,
    classification: Classification,
    weighed: tuple[Weighed, ...],
    owner: tuple[str, str] | None,
    applications: Mapping[str, Application],
) -> Iterator[str]:
    if not classification.suspect:
        return
    for item in weighed:
        if item.role == "contradicts":
            evidence = item.evidence
            yield f"{_said(evidence.kind, evidence.value)} points at {_company(evidence.application, applications)}"
    told = any(item.role == "contradicts" and item.evidence.kind == "address" for item in weighed)
    if owner is not None and not told and not _agree(owner[1], classification.application, applications):
        yield f"{_said('address', flow.remote_ip)} lies in {owner[0]} of {_company(owner[1], applications)}"


def _company(application: str | None, applications: Mapping[str, Application]) -> str:
    found = applications.get(application or "")
    return f"{application} ({found.provider})" if found is not None and found.provider else f"{application}"


def _in_vain(flow: FlowRecord, spoke: set[str], owner: tuple[str, str] | None) -> Iterator[str]:
    if flow.dns_answers is not None:
        yield "a DNS query counts as DNS, whoever is asked for"
        return
    for kind, field in _HELD:
        value = getattr(flow, field)
        if value is not None and kind not in spoke:
            why = "is no name; the address says more" if kind in _NAMES else "is not in the catalogue"
            yield f"{_said(kind, value)} {why if value else 'is empty'}"
    if flow.remote_ip != NO_ADDRESS and not spoke & {"address", "pfd", "asn"}:
        where = "lies in no listed prefix" if owner is None else f"lies in {owner[0]} of {owner[1]}, not enough alone"
        yield f"{_said('address', flow.remote_ip)} {where}"
    if flow.remote_as and "asn" not in spoke and owner is None:
        yield f"{_said('asn', f'AS{flow.remote_as}')} is not in the catalogue"
    if "port" not in spoke:
        yield f"port {_protocol(flow)}/{flow.remote_port} is no application's own"
    if flow.ja4 is not None:
        yield f"{_said('ja4', flow.ja4)} only backs a shared name"


def _told(item: Weighed) -> str:
    evidence = item.evidence
    said = _said(evidence.kind, evidence.value)
    if item.role == "no_say":
        if evidence.matched is None:
            return f"{said} {'is not listed' if normalise(evidence.value) else 'is no host name'}"
        whose = f" of {evidence.application}" if evidence.application is not None else ", which does not decide alone"
        return f"{said} is covered by {evidence.matched}{whose}"
    entry = f" ({evidence.matched})" if evidence.matched not in {None, evidence.value} else ""
    return f"{said}{entry}: {evidence.application}, {evidence.confidence}"


def _said(kind: EvidenceKind, value: str) -> str:
    """The value as text that harms no terminal, whatever a stranger sent, and cut to what fits a line."""
    shown = value if len(value) <= MAX_SHOWN_CHARACTERS else f"{value[:MAX_SHOWN_CHARACTERS]}..."
    return f"{_KINDS[kind]} {shown!a}"


def _protocol(flow: FlowRecord) -> str:
    return _PROTOCOLS.get(flow.ip_protocol, f"protocol {flow.ip_protocol}")
