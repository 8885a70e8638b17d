"""How traffic was met, as far as a catalogue tells that apart: one word for rated usage, and what it stands for.

Usage is gathered by kinds that its rating treated alike, so what is booked can be rated again as it was met.
"""

import bisect
from typing import NamedTuple

from msgspec.structs import replace

from schemas.classification import Classification
from schemas.flow import FlowRecord
from services.engine.concerns import Told
from services.engine.tariff import Tariff, Traffic

DOUBTED = "doubted"
"""In place of the confidence: the verdict was not believed, and the traffic would have been treated otherwise."""

SUSPECT = "suspect"
"""In place of the confidence: the evidence disagreed, and that made no difference then."""


class Circumstances(NamedTuple):
    """What the word says; an empty part is one that no scope of its catalogue names, or the lowest of a scale."""

    rat_type: str = ""
    zone: str = ""
    dnn: str = ""
    congestion: str = ""
    confidence: str = ""


def circumstances_of(traffic: Traffic, tariff: Tariff, *, doubted: bool) -> str:
    """The word for `traffic`; empty where the tariff tells nothing apart of its kind. `doubted` as in a Selection."""
    told = tariff.concerns.of(traffic.application, traffic.category, traffic.service)
    certainty = DOUBTED if doubted else _certainty(traffic, told, tariff.min_confidence)
    if not told.anything and not certainty:
        return ""
    return "|".join(
        (
            _among(told.rat_types, traffic.rat_type),
            (traffic.zone or "") if told.zones else "",
            _among(told.dnns, traffic.dnn),
            str(max((level for level in told.levels if level <= traffic.congestion), default="")),
            certainty,
        )
    )


def read_circumstances(word: str) -> Circumstances:
    """The parts of a word; raises ValueError for a text that is none."""
    parts = Circumstances._make(word.split("|")) if word.count("|") == len(Circumstances._fields) - 1 else None
    if parts is None or not (parts.congestion or "0").isdecimal() or not _is_certainty(parts.confidence):
        raise ValueError(f"circumstances: {word!r} is no such word; copy it from the row of the ledger")
    return parts


def flow_as_met(flow: FlowRecord, met: Circumstances, tariff: Tariff) -> FlowRecord:
    """`flow` as if it had come so; the network of a zone is any that `tariff` counts to it."""
    places = tariff.surroundings
    return replace(
        flow,
        rat_type=met.rat_type or flow.rat_type,
        serving_plmn=places.network_in(met.zone) if places is not None and met.zone else None,
        dnn=met.dnn or None,
        congestion_level=int(met.congestion) if met.congestion else None,
    )


def verdict_as_met(seen: Classification, met: Circumstances) -> Classification:
    """`seen` as sure as it was; where that was not told apart, it was believed, and is taken for certain."""
    if met.confidence.isdecimal():
        return replace(seen, confidence=int(met.confidence))
    return replace(seen, suspect=met.confidence == SUSPECT)


def _among(names: frozenset[str], name: str | None) -> str:
    return name if name is not None and name in names else ""


def _certainty(traffic: Traffic, told: Told, min_confidence: int) -> str:
    if traffic.confidence < 0:
        return SUSPECT
    if told.confidences:
        return str(told.confidences[bisect.bisect_right(told.confidences, traffic.confidence) - 1])
    # Too weak to be believed: that makes no difference now, and may do so when it is rated again.
    return "0" if traffic.application is not None and traffic.confidence < min_confidence else ""


def _is_certainty(text: str) -> bool:
    return text in ("", DOUBTED, SUSPECT) or (text.isdecimal() and int(text) <= 100)
