"""How traffic was met: rows say as much of it as the catalogue tells apart of their kind, and no more."""

from typing import Any

import pytest

from schemas.classification import Classification
from services.engine.circumstances import Circumstances, read_circumstances, verdict_as_met
from tests.engine.world import World, catalogue

CALLS_3G = {"id": "no-3g", "scope": {"categories": ["voip_im"], "rat_types": ["UTRA"]}, "gate_status": "closed"}
ROAM = {"id": "roam", "scope": {"applications": ["netflix"], "zones": ["eu"]}}
JAM = {"id": "jam", "scope": {"applications": ["youtube"]}, "min_congestion": 4}
SURE = {"id": "sure", "scope": {"services": ["call"]}, "min_confidence": 60}
ZONES = [{"id": "home", "home": True, "plmns": ["00101"]}, {"id": "eu", "plmns": ["262"]}]


def rows(*flows: dict[str, Any]) -> list[tuple[str | None, int]]:
    """The circumstances of the rows that flows come to, and how many flows are in each."""
    rules = [CALLS_3G, ROAM, JAM, SURE]
    plan = {"id": "plan", "allowances": [{"id": "data", "octets": 10_000}], "rules": [rule["id"] for rule in rules]}
    world = World(catalogue(plan, rules=rules, zones=ZONES))
    world.activate("plan", "p")
    for flow in flows:
        world.flow(100, flow.pop("app", None), **flow)
    world.emit()
    return [(row.circumstances, row.record_count) for row in world.usage if row.kind == "usage"]


@pytest.mark.parametrize(
    ("flows", "words"),
    [
        ([{"app": "facebook", "rat": rat} for rat in ("UTRA", "NR", None)], [(None, 3)]),
        ([{"app": "whatsapp", "rat": rat} for rat in ("UTRA", "NR", None)], [("UTRA||||", 1), ("||||", 2)]),
        ([{"app": "netflix", "serving_plmn": plmn} for plmn in ("26201", "00101")], [("|eu|||", 1), ("|home|||", 1)]),
        ([{"app": "youtube", "congestion_level": level} for level in (9, 4, 3)], [("|||4|", 2), ("||||", 1)]),
        ([{"service": "call", "confidence": n} for n in (90, 60, 40)], [("||||60", 2), ("||||31", 1)]),
        ([{"app": "facebook", "suspect": True}, {"app": "facebook"}], [("||||suspect", 1), (None, 1)]),
    ],
)  # fmt: skip
def test_rows_say_what_is_told_apart_of_their_kind(flows: list[dict[str, Any]], words: list[tuple[str, int]]) -> None:
    assert rows(*flows) == words


@pytest.mark.parametrize("word", ["", "UTRA", "|||||", "|||x|", "||||101", "||||sure", "|||-1|"])
def test_what_is_no_such_word_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is no such word; copy it from the row of the ledger"):
        read_circumstances(word)


def test_a_row_is_taken_for_as_sure_as_it_says() -> None:
    seen = Classification(category="social", application="facebook", service=None, confidence=100, evidence=())
    for certainty, confidence, suspect in (("", 100, False), ("60", 60, False), ("suspect", 100, True)):
        met = verdict_as_met(seen, Circumstances(confidence=certainty))
        assert (met.confidence, met.suspect) == (confidence, suspect)
