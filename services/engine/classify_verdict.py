"""From weighed evidence to a verdict: the strongest decides, the service is told apart, contradiction is marked."""

from collections.abc import Sequence
from operator import attrgetter

import msgspec

from schemas.classification import Classification, Evidence, UnknownReason
from schemas.flow import FlowRecord
from services.engine.classify_evidence import STRONG, Found, Named
from services.engine.classify_table import Target

SUSPECT_PERCENT = 50
"""What a contradicted verdict keeps of its confidence."""

UPLOAD_OCTETS = 1_000_000
UPLOAD_RATIO = 8
"""A flow to a social or streaming application that sends 1 MB or more, eight times what it receives, is an upload."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The answer, and the target behind it."""

    classification: Classification
    target: Target | None


def is_upload(flow: FlowRecord) -> bool:
    """True when the counters say that the subscriber sends content."""
    return flow.octets_up >= UPLOAD_OCTETS and flow.octets_up >= UPLOAD_RATIO * flow.octets_down


def conclude(found: Sequence[Found], names: Named, owner: Target | None, *, media: bool, upload: bool) -> Verdict:
    """The verdict over `found`.

    `owner` is whose address the far side is, whether that was counted or not; `media` and `upload` say what the
    packets look like.
    """
    silent = _silent(names) if names else ()
    if not found:
        unknown = Classification(
            category="other", application=None, service=None, confidence=0, evidence=silent, reason=_why(names)
        )
        return Verdict(unknown, None)
    if len(found) > 1:
        found = sorted(found, key=attrgetter("confidence"), reverse=True)
    best, confidence = found[0].target, found[0].confidence
    target = best if best.service is not None else _with_service(best, found, media=media)
    suspect = _is_disputed(best, found, owner)
    classification = Classification(
        category=target.category, application=target.application, service=_service(target, upload=upload),
        confidence=confidence * SUSPECT_PERCENT // 100 if suspect else confidence,
        evidence=(*[item.evidence for item in found], *silent), suspect=suspect,
    )  # fmt: skip
    return Verdict(classification, target)


def _silent(names: Named) -> tuple[Evidence, ...]:
    """Names that point nowhere, for the explanation."""
    return tuple(
        [Evidence(kind=kind, value=name.text, matched=name.matched) for _, kind, name in names if not name.listed]
    )


def _with_service(target: Target, found: Sequence[Found], *, media: bool) -> Target:
    """The same application with the service that weaker evidence, or the rhythm of the packets, tells."""
    for item in found:
        other = item.target
        if other.service is not None and other.application == target.application:
            return other
        media = media or other.carries_media
    return target.media if media and target.media is not None else target


def _is_disputed(best: Target, found: Sequence[Found], owner: Target | None) -> bool:
    """True when something strong, or the address, points at another company's application."""
    for item in found:
        other = item.target
        if item.confidence >= STRONG and other is not best and not other.agrees(best):
            return True
    return owner is not None and owner is not best and not owner.agrees(best)


def _service(target: Target, *, upload: bool) -> str | None:
    if upload and target.service is None and target.category in {"social", "streaming"}:
        return "upload"
    return target.service


def _why(names: Named) -> UnknownReason:
    targets = [name.target for _, _, name in names if name.target is not None]
    if any(target.public_name for target in targets):
        return "encrypted_client_hello"
    if any(target.shared for target in targets):
        return "shared_cdn"
    return "name_not_listed" if names else "no_evidence"
