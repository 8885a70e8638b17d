"""From weighed evidence to a verdict: the strongest decides, the service is told apart, contradiction is marked."""

from typing import NamedTuple

from schemas.classification import Classification, Evidence, UnknownReason
from schemas.flow import FlowRecord
from services.engine.classify_evidence import STRONG, Found, Named
from services.engine.classify_media import is_media
from services.engine.classify_table import Target

SUSPECT_PERCENT = 50
"""What a contradicted verdict keeps of its confidence."""

UPLOAD_OCTETS = 1_000_000
UPLOAD_RATIO = 8
"""A flow to a social or streaming application that sends 1 MB or more, eight times what it receives, is an upload."""


class Verdict(NamedTuple):
    """The answer; the target behind it; whether it rests on the record's texts and far address alone."""

    classification: Classification
    target: Target | None
    settled: bool


def is_upload(flow: FlowRecord) -> bool:
    """True when the counters say that the subscriber sends content."""
    return flow.octets_up >= UPLOAD_OCTETS and flow.octets_up >= UPLOAD_RATIO * flow.octets_down


def conclude(flow: FlowRecord, found: list[Found], names: Named, owner: Target | None, *, settled: bool) -> Verdict:
    """The verdict over `found`; `owner` is whose address the far side is, whether that was counted or not."""
    silent = tuple(
        Evidence(kind=kind, value=name.text, matched=name.matched) for _, kind, name in names if not name.listed
    )
    if not found:
        unknown = Classification(
            category="other", application=None, service=None, confidence=0, evidence=silent, reason=_why(names)
        )
        return Verdict(unknown, None, settled)
    found.sort(key=_confidence, reverse=True)
    best = found[0]
    target = _with_service(flow, best.target, found)
    suspect = any(item.confidence >= STRONG and not item.target.agrees(best.target) for item in found)
    suspect = suspect or (owner is not None and not owner.agrees(best.target))
    classification = Classification(
        category=target.category, application=target.application, service=_service(flow, target),
        confidence=best.confidence * SUSPECT_PERCENT // 100 if suspect else best.confidence,
        evidence=(*(item.told() for item in found), *silent), suspect=suspect,
    )  # fmt: skip
    return Verdict(classification, target, settled)


def _confidence(item: Found) -> int:
    return item.confidence


def _with_service(flow: FlowRecord, target: Target, found: list[Found]) -> Target:
    """The same application with the service that weaker evidence, or the rhythm of the packets, tells."""
    if target.service is not None:
        return target
    for item in found:
        if item.target.service is not None and item.target.application == target.application:
            return item.target
    media = target.media
    if media is not None and (is_media(flow) or any(item.target.carries_media for item in found)):
        return media
    return target


def _service(flow: FlowRecord, target: Target) -> str | None:
    if target.service is None and target.category in {"social", "streaming"} and is_upload(flow):
        return "upload"
    return target.service


def _why(names: Named) -> UnknownReason:
    targets = [name.target for _, _, name in names if name.target is not None]
    if any(target.public_name for target in targets):
        return "encrypted_client_hello"
    if any(target.shared for target in targets):
        return "shared_cdn"
    return "name_not_listed" if names else "no_evidence"
