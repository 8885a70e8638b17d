"""Case 11: a record that says something else under an id that was used is told apart from a repeated one."""

import base64
from typing import Any

import msgspec
import pytest

from schemas import topics
from services.cli.reconcile import Report
from tests.cli.books import busy_world, reconcile
from tests.cli.world import World


def refused(cut: int | None = None, **fields: Any) -> Report:
    """Books in which one more record came under the id of the first flow of alice."""
    world = busy_world()
    alice = world.accounts["alice"]
    value = msgspec.json.encode(repeat_of(world, **fields))
    world.refuse(alice, "duplicate", record_id="r-1")
    letter = {"value": base64.b64encode(value[:cut]).decode(), "value_octets": len(value)}
    world.change(topics.DEAD_LETTERS, lambda found: found["record_id"] == "r-1", **letter)
    return reconcile(world.close(), strict=True)


def repeat_of(world: World, **fields: Any) -> dict[str, Any]:
    partition = world.accounts["alice"].partition
    records = [msgspec.json.decode(record.value) for record in world.log.topics[topics.FLOWS].records[partition]]
    first = next(record for record in records if record.get("record_id") == "r-1")
    return {**first, **fields}


def test_case_11_a_repeated_record_is_no_remark() -> None:
    report = refused()
    assert (report.ok, report.remarks, report.counts["duplicates_that_differ"]) == (True, (), 0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"octets_down": 70_000}, "says octets "),
        ({"subscriber_id": "mallory"}, "says subscriber_id mallory instead of alice.s"),
        ({"end_ms": 1_999_999_999_999}, "says ms "),
    ],
)
def test_case_11_a_duplicate_with_other_properties_is_flagged(fields: dict[str, Any], says: str) -> None:
    report = refused(**fields)
    assert report.ok
    assert report.counts["duplicates_that_differ"] == 1
    (remark,) = report.remarks
    assert remark.startswith("1 refused duplicates differ from the record decided; flow record 'r-1' at partition ")
    assert says in remark


def test_a_duplicate_that_was_cut_is_counted_as_not_compared() -> None:
    report = refused(cut=30, octets_down=70_000)
    counts = (report.counts["duplicates_that_differ"], report.remarks)
    assert counts == (0, ())
    assert report.counts["duplicates_not_compared"] >= 1
