"""What the ledger takes and what it refuses, record by record."""

import json

import pytest

from services.rating.bookings import bucket_changes, gather
from tests.rating.fakes import FakeRecord
from tests.rating.usage_records import encoded, granted, moved, rated


def _raw(**changes) -> bytes:
    document = json.loads(encoded(rated()))
    document.update(changes)
    return json.dumps(document).encode()


def _gather(*values):
    return gather({0: [FakeRecord(at, 0, b"acc-1", value) for at, value in enumerate(values)]}, booked_at_ms=7)


def _movement(**changes):
    return [{"bucket_id": "p/a", "unit": "octets", "amount": "-1", "remaining": "0"} | changes]


@pytest.mark.parametrize(
    ("value", "cause", "said"),
    [
        (None, "malformed", "no value"),
        (b"", "malformed", "truncated"),
        (b"{", "malformed", "truncated"),
        (b"\xff\xfe", "malformed", "not a RatedUsage"),
        (b'{"version":"\xff"}', "malformed", "utf-8"),
        (b"[" * 100_000, "malformed", "not a RatedUsage"),
        (b'{"a":' * 100_000, "malformed", "not a RatedUsage"),
        (_raw(octets=-1), "malformed", "octets"),
        (_raw(octets="many"), "malformed", "octets"),
        (_raw(octets=10**36), "malformed", "octets is 1000"),
        (_raw(record_count=2**63), "malformed", "record_count is 9223372036854775808"),
        (_raw(rating_group=-1), "malformed", "rating_group is -1"),
        (_raw(price_octets_from=-1), "malformed", "price_octets_from is -1"),
        (_raw(amount="1.0000001"), "malformed", "amount: '1.0000001' has more than six decimal places"),
        (_raw(amount="9" * 30), "malformed", "amount"),
        (_raw(amount="NaN"), "malformed", "amount"),
        (_raw(movements=_movement(amount="0.5")), "malformed", "movements.amount is '0.5'"),
        (_raw(movements=_movement(remaining="9" * 37)), "malformed", "movements.remaining"),
        (_raw(movements=_movement(amount="9" * 5000)), "malformed", "movements.amount"),
        (_raw(movements=_movement(unit="litres")), "malformed", "unit"),
        (_raw(movements=_movement(bucket_id="p\0a")), "malformed", "movements.bucket_id holds a NUL"),
        (_raw(application="net\0flix"), "malformed", "application holds a NUL"),
        (_raw(sponsorships=[{"campaign_id": "c\0", "octets": 1}]), "malformed", "sponsorships.campaign_id holds a NUL"),
        (_raw(sponsorships=[{"campaign_id": "c", "octets": -1}]), "malformed", "octets"),
        (_raw(sponsorships=[{"campaign_id": "c", "octets": 10**36}]), "malformed", "sponsorships add up to"),
        (
            _raw(sponsorships=[{"campaign_id": "c", "octets": 1, "connections": 2**62}] * 2),
            "malformed",
            "more than 9223372036854775807 connections",
        ),
        (_raw(version="2.0"), "unknown_version", "version is '2.0'"),
        (b'{"version":"12.0"}', "unknown_version", "version is '12.0'"),
    ],
)
def test_a_record_that_cannot_be_booked_is_refused_with_its_cause_and_kept_whole(value, cause, said):
    batch = _gather(value, encoded(rated(1)))
    assert list(batch.bookings) == ["f-0-1-1-0"]
    [refused] = batch.refused
    assert (refused.partition, refused.offset, refused.cause) == (0, 0, cause)
    assert said in refused.detail
    assert (refused.key, refused.value) == (b"acc-1", value)


def test_text_that_only_looks_like_a_nul_is_booked():
    batch = _gather(encoded(rated(evidence="server_name:\\u0000.example")))
    assert batch.refused == []


def test_octets_beyond_the_integers_of_a_database_are_booked():
    batch = _gather(encoded(rated(octets=2**70, charged_octets=2**70)))
    assert batch.bookings["f-0-0-0-0"].usage["octets"] == 2**70


def test_money_is_booked_in_micros():
    batch = _gather(encoded(rated(amount="-1.25")))
    assert batch.bookings["f-0-0-0-0"].usage["amount_micros"] == -1_250_000


def test_the_second_of_two_equal_records_is_a_duplicate_and_of_two_different_ones_a_conflict():
    batch = _gather(encoded(rated()), encoded(rated()), encoded(rated(octets=5)))
    assert [(item.offset, item.cause, item.value is None) for item in batch.refused] == [
        (1, "duplicate", True),
        (2, "conflict", False),
    ]
    assert batch.bookings["f-0-0-0-0"].usage["octets"] == 1000


def test_changes_of_a_bucket_add_up_and_keep_its_last_grant():
    batch = _gather(
        encoded(granted(5_000)),
        encoded(rated(1, movements=(moved("prod-1/stream", -4_000, 1_000), moved("main", -25, 75, "micros")))),
        encoded(granted(9_000, number=2)),
    )
    changes = bucket_changes(batch.bookings.values())
    octets = changes["acc-1", "prod-1/stream", "octets"]
    assert (octets["remaining"], octets["granted"], octets["offering_id"]) == (10_000, 9_000, "stream-pack")
    assert octets["product_id"] == "prod-1"
    main = changes["acc-1", "main", "micros"]
    assert (main["remaining"], main["granted"], main["product_id"]) == (-25, None, None)


def test_a_partition_is_rated_until_its_latest_record():
    batch = _gather(encoded(rated(5)), encoded(rated(3)))
    assert batch.rated_until_ms == {0: rated(5).rated_at_ms}
