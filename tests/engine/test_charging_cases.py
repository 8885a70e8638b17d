"""Cases that charging systems got wrong, one test for each that touches rating, under its number.

Here are rounding 1 to 5, numbers and units 6 to 9, balances 17 to 26, time 27 to 32, corrections 34; more of 18, 20,
26, 28 and 34 elsewhere by the same names. And as `test_case_<number>`: 10 and 11 in tests/policy/test_transaction.py
and tests/cli/test_reconcile_repeats.py, 16 in test_commands.py and test_correction_commands.py, 33 in the latter. The
others are no matter of one account's charging: crashes (12) in tests/faults, offsets and retention (13, 14) in
tests/runtime, the order of the stream (15) in tests/policy/test_intake.py.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import UsagePrice
from schemas.command import Credit, Debit
from schemas.state import AccountState
from schemas.units import format_micros, parse_octets
from services.engine.tariff import compile_tariff
from tests.engine.world import RefusedError, World, catalogue, micros, ms


def selling(price: dict[str, Any], **more: Any) -> World:
    """An account whose only source is a price."""
    world = World(catalogue({"id": "plan", "kind": "base_plan", "usage_prices": [{"id": "p", **price}], **more}))
    world.activate("plan")
    return world


def granting(*allowances: dict[str, Any], at: str | int = "2026-03-10 12:00", **more: Any) -> World:
    """An account whose only sources are buckets of product `x`."""
    world = World(catalogue({"id": "plan", "allowances": list(allowances), **more}), at=at)
    world.activate("plan", "x")
    return world


def priced(world: World, volume: int) -> str:
    decision = world.flow(volume)
    return decision.price.amount if decision.price else "0"


# -- rounding


@pytest.mark.parametrize(("used", "counted"), [(30, 30), (32, 36), (57, 60), (75, 78)])
def test_case_1_steps_match_hand_results_and_the_trace_is_the_debit(used: int, counted: int) -> None:
    price = {"id": "p", "amount": "0.06", "per_octets": 6, "whole_units": True}
    world = World(catalogue({"id": "plan", "usage_prices": [price]}), payment="prepaid")
    world.credit("10")
    world.activate("plan")
    amount = priced(world, used)
    assert amount == format_micros(counted * 10_000)
    assert world.balance() == micros("10") - micros(amount)
    world.emit()
    assert world.usage[-1].movements[0].amount == f"-{micros(amount)}"


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(st.integers(0, 5000), min_size=1, max_size=12), unit=st.integers(1, 999), whole=st.booleans())
def test_case_2_a_sliced_session_costs_what_it_costs_in_one(parts: list[int], unit: int, whole: bool) -> None:
    price = {"amount": "0.333333", "per_octets": unit, "whole_units": whole, "tiers": [{"above": 700, "amount": "0.1"}]}
    sliced, one = selling(price), selling(price)
    amounts = [priced(sliced, part) for part in parts]
    assert not any(amount.startswith("-") for amount in amounts)
    assert sum(map(micros, amounts)) == micros(priced(one, sum(parts)))


def test_case_3_sixty_sixtieths_are_one_whole() -> None:
    world = selling({"amount": "0.5", "per_octets": 60})
    assert sum(micros(priced(world, 1)) for _ in range(60)) == micros("0.5")


@pytest.mark.parametrize(("volume", "amount"), [(999, "3.996"), (1000, "4"), (1001, "4.002"), (1002, "4.004")])
def test_case_4_a_tier_begins_with_the_octet_above_its_boundary(volume: int, amount: str) -> None:
    price = {"amount": "4", "per_octets": 1000, "tiers": [{"above": 1000, "amount": "2"}]}
    assert priced(selling(price), volume) == amount


def test_case_5_the_total_is_the_sum_of_the_lines() -> None:
    """Tax is not the engine's; what it is reckoned on is exact, and rounded in no line by itself."""
    world = selling({"amount": "0.000333", "per_octets": 7})
    for number in range(40):
        world.flow(13, "netflix" if number % 3 else "whatsapp", service=None if number % 2 else "call")
        if number % 5 == 0:
            world.emit()
    world.emit()
    assert sum(micros(row.amount) for row in world.usage) == 333 * 40 * 13 // 7


# -- numbers and units


def test_case_6_small_prices_and_large_volumes_are_exact() -> None:
    assert priced(selling({"amount": "0.05", "per_octets": 1}), 1) == "0.05"
    assert priced(selling({"amount": "0.000001", "per_octets": 1}), 3 * 10**9 * 2) == "6000"
    world = granting({"id": "b", "octets": 3 * 10**9})
    assert world.left("x/b") == 3 * 10**9
    assert world.flow(3 * 10**9 - 1).charged_octets == 3 * 10**9 - 1


def test_case_7_a_price_that_is_not_found_never_becomes_some_price() -> None:
    world = granting({"id": "b", "octets": 10})
    decision = world.flow(25)
    assert (decision.charged_octets, decision.blocked_octets, decision.price) == (10, 15, None)


@pytest.mark.parametrize(
    ("text", "octets"), [("1 kB", 1000), ("1 KiB", 1024), ("2 MB", 2_000_000), ("2 MiB", 2_097_152)]
)
def test_case_8_a_factor_of_1024_is_written_as_such(text: str, octets: int) -> None:
    assert parse_octets(text) == octets
    assert granting({"id": "b", "octets": text}).left("x/b") == octets
    for vague in ("1 K", "1 Mb", "1 gb"):
        with pytest.raises(ValueError, match="is not a volume"):
            parse_octets(vague)


def test_case_9_a_hundred_gigabytes_at_one_octet_a_unit_is_one_line() -> None:
    world = selling({"amount": "0.000001", "per_octets": 1, "whole_units": True})
    assert priced(world, 100 * 10**9) == "100000"
    world.emit()
    assert len([row for row in world.usage if row.kind == "usage"]) == 1
    assert world.account is not None
    assert len(world.account.counters) == 1


# -- balances


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(64)))
def test_case_17_of_64_debits_none_is_lost_and_none_overdraws(order: list[int]) -> None:
    """One account has one writer, so debits that were sent at once come one after another, in some order."""
    world = World(catalogue(), payment="prepaid")
    world.credit("100")
    taken = 0
    for number in order:
        amount = 1 + number % 5
        if world.balance() >= micros(str(amount)):
            world.debit(str(amount), command_id=f"d{number}")
            taken += amount
        else:
            with pytest.raises(RefusedError, match="insufficient_balance"):
                world.debit(str(amount), command_id=f"d{number}")
    assert world.balance() == micros("100") - micros(str(taken)) >= 0


def test_case_18_a_hard_limit_is_never_passed_in_one_shot_either() -> None:
    world = World(
        catalogue({"id": "plan", "usage_prices": [{"id": "p", "amount": "1", "per_octets": 1}]}), payment="prepaid"
    )
    world.credit("5")
    world.activate("plan")
    with pytest.raises(RefusedError, match="insufficient_balance"):
        world.debit("5.000001")
    decision = world.flow(7832)
    assert (decision.charged_octets, decision.blocked_octets, world.balance()) == (5, 7827, 0)


@pytest.mark.parametrize("kind", [Credit, Debit])
@pytest.mark.parametrize("amount", ["-2", "0", "0.0000001"])
def test_case_19_a_negative_amount_is_refused(kind: type, amount: str) -> None:
    world = World(catalogue())
    with pytest.raises(RefusedError, match="amount"):
        world.command(kind, amount=amount)
    assert world.balance() == 0


@settings(max_examples=40, deadline=None)
@given(volumes=st.lists(st.integers(0, 700), max_size=15))
def test_case_20_what_remains_falls_by_what_is_drawn_and_never_rises(volumes: list[int]) -> None:
    world = granting({"id": "b", "octets": 2000})
    for volume in volumes:
        before = world.left("x/b")
        decision = world.flow(volume)
        assert world.left("x/b") == before - decision.charged_octets == max(0, before - volume)


def test_case_21_equal_pools_are_drawn_in_one_order() -> None:
    pools = [{"id": name, "octets": 100} for name in ("left", "right")]
    orders = []
    for listed in (pools, pools[::-1]):
        world = granting(*listed)
        world.flow(150)
        orders.append((world.left("x/left"), world.left("x/right")))
    assert orders == [(0, 50), (0, 50)]


def test_case_22_several_buckets_in_one_session_are_not_overcharged() -> None:
    world = granting({"id": "a", "octets": 100, "priority": 1}, {"id": "b", "octets": 100, "priority": 2})
    decision = world.flow(150)
    assert [(draw.bucket_id, draw.octets) for draw in decision.draws] == [("x/a", 100), ("x/b", 50)]
    world.credit("10")
    world.reserve("hold", "8")
    world.reserve("hold", action="release")
    assert world.balance() == micros("10")
    assert world.account is not None
    assert not world.account.reservations


def test_case_23_two_rating_groups_in_one_session_stay_separate() -> None:
    rules = [
        {"id": "film", "scope": {"categories": ["streaming"]}, "rating_group": 7},
        {"id": "chat", "scope": {"categories": ["voip_im"]}, "rating_group": 8},
    ]
    plan = {"id": "plan", "allowances": [{"id": "b", "octets": 1000}], "rules": ["film", "chat"]}
    world = World(catalogue(plan, rules=rules))
    world.activate("plan")
    for app in ("netflix", "whatsapp", "netflix"):
        world.flow(100, app)
    world.emit()
    groups = {row.rating_group: row.charged_octets for row in world.usage if row.kind == "usage"}
    assert groups == {7: 200, 8: 100}


def test_case_23_one_application_in_two_rating_groups_stays_in_two_rows() -> None:
    """By nothing but the radio access, which is no part of what a row names."""
    rules = [
        {"id": "old", "scope": {"rat_types": ["UTRA"]}, "rating_group": 7},
        {"id": "new", "scope": {"rat_types": ["NR"]}, "rating_group": 8},
    ]
    plan = {"id": "plan", "allowances": [{"id": "b", "octets": 1000}], "rules": ["old", "new"]}
    world = World(catalogue(plan, rules=rules))
    world.activate("plan")
    for rat in ("UTRA", "NR", "UTRA"):
        world.flow(50, "netflix", rat=rat)
    world.emit()
    groups = [(row.rating_group, row.charged_octets) for row in world.usage if row.kind == "usage"]
    assert groups == [(7, 100), (8, 50)]


def test_case_24_a_free_offer_without_a_bucket_works() -> None:
    world = selling({"amount": "0", "per_octets": 1})
    decision = world.flow(10**12)
    assert (decision.treatment, decision.charged_octets, priced(world, 1)) == ("charged", 10**12, "0")
    assert world.gates() == {"default": "open"}


NIGHTS: dict[str, Any] = {
    "rules": [{"id": "film", "scope": {"windows": [{"start": "20:00", "end": "06:00"}]}, "charging": "sponsored",
               "campaign": "c"}],
    "campaigns": [{"id": "c", "sponsor_id": "s", "per_subscriber_octets": 100}],
}  # fmt: skip


@pytest.mark.parametrize("how", ["window", "catalogue", "successor"])
def test_case_25_a_rule_that_comes_back_and_a_restart_count_nothing_anew(how: str) -> None:
    price = {"id": "p", "amount": "1", "per_octets": 1, "cap": "50"}
    plan = {"id": "plan", "rules": ["film"], "usage_prices": [price]}
    made = catalogue(plan, **NIGHTS)
    world = World(made, at="2026-03-10 21:00")
    world.activate("plan")
    assert world.flow(60).sponsored_octets == 60
    if how == "catalogue":
        for version, gone in (("2", {"id": "plan", "usage_prices": [price]}), ("3", plan)):
            world.publish(catalogue(gone, **NIGHTS).model_copy(update={"version": version}))
            world.timer()
            assert ("film" in world.rules()) is (version == "3")
    elif how == "window":
        assert world.flow(10, at="2026-03-11 12:00").charged_octets == 10
        world.timer("2026-03-11 21:00")
    else:
        world.account = msgspec.msgpack.decode(msgspec.msgpack.encode(world.account), type=AccountState)
        world.tariff = compile_tariff(made)
    assert world.flow(60).sponsored_octets == 40
    assert world.flow(60).sponsored_octets == 0
    assert world.money() == micros("50")


def test_case_26_a_threshold_is_of_what_was_granted_last_and_not_of_what_is_left() -> None:
    data = {"id": "b", "octets": 1000, "notify_percents": [50, 80], "proration": "daily"}
    world = granting(data, at="2026-03-16 12:00")
    seen = []
    # Of sixteen days in thirty-one 516 were granted, of the cycle after it 1000.
    for volume, at in ((257, "16"), (1, "16"), (154, "17"), (1, "17")):
        world.flow(volume, at=f"2026-03-{at} 12:00")
        seen.append(len(world.told("threshold")))
    assert seen == [0, 1, 1, 2]
    world.flow(499, at="2026-04-01 12:00")
    assert len(world.told("threshold")) == 2
    world.flow(1)
    assert [note.percent for note in world.told("threshold")] == [50, 80, 50]


# -- time


def test_case_27_a_month_end_keeps_its_anchor() -> None:
    world = World(
        catalogue({"id": "plan", "prices": [{"id": "f", "type": "recurring", "amount": 1}]}),
        cycle_day=31,
        at="2026-01-31 00:00",
    )
    world.activate("plan")
    world.timer("2026-12-01 00:00")
    fees = [row.start_ms for row in world.usage if row.kind == "fee"]
    days = ("01-31", "02-28", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30", "10-31", "11-30")
    assert fees == [ms(f"2026-{day} 00:00") for day in days]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Asia/Kolkata", "UTC", "America/Los_Angeles"])
def test_case_28_no_zone_bills_a_month_twice(zone: str) -> None:
    offering = {"id": "plan", "prices": [{"id": "f", "type": "recurring", "amount": 1}]}
    world = World(catalogue(offering), zone=zone, at="2026-01-01 00:00")
    world.activate("plan")
    for hour in range(0, 24 * 90, 6):
        world.timer(ms("2026-01-01 00:00", zone) + hour * 3_600_000)
    fees = [row.start_ms for row in world.usage if row.kind == "fee"]
    assert fees == [ms(f"2026-{month:02d}-01 00:00", zone) for month in (1, 2, 3)]


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [("2026-03-28 20:00", "2026-03-29 20:00", 23), ("2026-10-24 20:00", "2026-10-25 20:00", 25)],
)
def test_case_28_a_day_pass_is_as_long_as_its_day(start: str, end: str, hours: int) -> None:
    world = World(
        catalogue({"id": "day", "kind": "pass", "term_days": 1, "allowances": [{"id": "b", "octets": 100}]}),
        zone="Europe/Paris",
        at=start,
    )
    world.activate("day", "x")
    end_ms = ms(end, "Europe/Paris")
    assert end_ms - ms(start, "Europe/Paris") == hours * 3_600_000
    assert world.flow(10, at=end_ms - 1).charged_octets == 10
    assert world.flow(10, at=end_ms).blocked_octets == 10


@pytest.mark.parametrize("month", [3, 10])
def test_case_28_a_day_pass_and_a_fee_by_the_day_are_charged_once_a_local_day(month: int) -> None:
    """The 29th of March has 23 hours in Paris, the 25th of October 25."""
    day = {"id": "day", "kind": "pass", "term_days": 1, "renewal": "automatic"}
    daily = {"type": "recurring", "amount": "31", "proration": "daily", "refund": "daily"}
    plan = {"id": "plan", "prices": [{"id": "rent", **daily}]}
    made = catalogue({**day, "prices": [{"id": "fee", "type": "one_time", "amount": "2"}]}, plan)
    world = World(made, zone="Europe/Paris", at=f"2026-{month:02}-24 20:00")
    world.activate("day")
    rented = world.activate("plan")
    world.timer(f"2026-{month:02}-31 19:59")
    fees = [row.start_ms for row in world.usage if row.kind == "fee" and row.price_id == "fee"]
    assert fees == [ms(f"2026-{month:02}-{date} 20:00", "Europe/Paris") for date in range(24, 31)]
    world.cancel(rented)
    by_day = [row.amount for row in world.usage if row.price_id == "rent"]
    assert by_day == ["8"]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Los_Angeles"])
def test_case_28_a_peak_window_goes_across_midnight_in_the_subscribers_zone(zone: str) -> None:
    night = {"id": "night", "octets": 100, "scope": {"windows": [{"days": ["fri"], "start": "22:00", "end": "02:00"}]}}
    world = World(catalogue({"id": "plan", "allowances": [night]}), at="2026-03-13 21:59", zone=zone)
    world.activate("plan", "x")
    seen = [
        world.flow(10, at=f"2026-03-{time}").charged_octets for time in ("13 21:59", "13 22:00", "14 01:59", "14 02:00")
    ]
    assert seen == [0, 10, 10, 0]


def test_case_29_an_end_is_exclusive_to_the_millisecond() -> None:
    world = granting({"id": "b", "octets": 100, "validity": "once", "valid_days": 1}, at="2026-03-10 12:00")
    end_ms = ms("2026-03-11 12:00")
    assert [world.flow(10, at=end_ms + step).charged_octets for step in (-1, 0, 1)] == [10, 0, 0]


def test_case_29_a_grant_at_the_reset_counts_once() -> None:
    world = granting({"id": "b", "octets": 100}, at=ms("2026-04-01 00:00"))
    world.timer(ms("2026-04-01 00:00"))
    assert world.left("x/b") == 100
    world.timer(ms("2026-05-01 00:00"))
    world.flow(1, at=ms("2026-05-01 00:00"))
    assert world.left("x/b") == 99
    assert len([row for row in world.usage if row.kind == "grant"]) == 2


def test_case_30_usage_before_an_expiry_that_arrives_after_it_draws_the_expired_bucket() -> None:
    world = granting({"id": "b", "octets": 100, "validity": "once", "valid_days": 1}, at="2026-03-10 12:00")
    world.timer("2026-03-11 12:00")
    assert world.left("x/b") == 0
    decision = world.flow(40, at="2026-03-11 11:00")
    assert [(draw.bucket_id, draw.octets, draw.remaining_octets) for draw in decision.draws] == [("x/b", 40, 60)]
    taken_back = [int(row.movements[0].amount) for row in world.usage if row.kind == "expiry"]
    assert taken_back == [-100, 40]


def test_case_30_a_command_of_before_changes_nothing_that_was_decided() -> None:
    world = granting({"id": "b", "octets": 100}, at="2026-03-10 12:00")
    world.timer("2026-04-01 00:00")
    world.flow(30)
    rows = list(world.usage)
    world.activate("plan", "y", at="2026-03-20 12:00")
    assert world.usage[: len(rows)] == rows
    assert (world.left("x/b"), world.left("y/b")) == (70, 100)


def test_case_31_what_has_expired_cannot_be_spent_though_nothing_swept_it() -> None:
    world = granting({"id": "b", "octets": 100, "validity": "once", "valid_days": 1}, at="2026-03-10 12:00")
    assert world.flow(10, at="2026-03-11 12:00").blocked_octets == 10


def test_case_31_a_sweep_takes_no_paid_credit() -> None:
    price = {"id": "p", "amount": "1", "per_octets": 10}
    plan = {
        "id": "plan",
        "allowances": [{"id": "b", "octets": 100, "validity": "once", "valid_days": 1}],
        "usage_prices": [price],
    }
    world = World(catalogue(plan), payment="prepaid")
    world.activate("plan", "x")
    world.credit("5")
    world.timer("2026-03-20 12:00")
    assert (world.left("x/b"), world.balance()) == (0, micros("5"))


def test_case_32_a_renewal_that_is_run_twice_is_paid_once() -> None:
    world = World(
        catalogue({"id": "plan", "prices": [{"id": "f", "type": "recurring", "amount": "3"}]}), payment="prepaid"
    )
    world.credit("10")
    world.activate("plan")
    for _ in range(2):
        world.timer("2026-04-01 00:00")
    assert world.balance() == micros("4")


def test_case_32_a_top_up_does_not_extend_what_it_does_not_say() -> None:
    world = granting({"id": "b", "octets": 100, "validity": "once", "valid_days": 1}, at="2026-03-10 12:00")
    world.credit("5", at="2026-03-11 11:00")
    assert world.flow(10, at="2026-03-11 12:00").charged_octets == 0
    assert world.balance() == micros("5")


# -- corrections


def test_case_34_the_day_of_an_upgrade_is_billed_once_and_refunds_never_pass_what_was_paid() -> None:
    fee = {"id": "f", "type": "recurring", "proration": "daily", "refund": "daily"}
    plans = [
        {"id": name, "kind": "base_plan", "prices": [{**fee, "amount": amount}]}
        for name, amount in (("s", "31"), ("m", "62"), ("l", "93"))
    ]
    world = World(catalogue(*plans), at="2026-03-01 00:00", payment="prepaid")
    world.credit("200")
    held = world.activate("s")
    for name in ("m", "l", "m", "l"):
        world.cancel(held, at="2026-03-11 10:00")
        held = world.activate(name, at="2026-03-11 10:00")
    # Eleven days at 1, the day of the changes among them, and twenty at 3.
    assert world.balance() == micros("200") - micros("11") - micros("60")
    world.cancel(held, at="2026-03-31 23:00")
    by_product: dict[str | None, int] = {}
    for row in world.usage:
        by_product[row.product_id] = by_product.get(row.product_id, 0) + (
            0 if row.kind == "credit" else micros(row.amount)
        )
    assert all(total >= 0 for total in by_product.values())


def test_a_tariff_that_cannot_be_reckoned_with_is_refused() -> None:
    """What would divide by nothing, or price by two units at once, is stopped where it is written."""
    for fields in ({"per_octets": 0}, {"tiers": [{"above": 5, "amount": 1}, {"above": 5, "amount": 2}]}):
        with pytest.raises(ValidationError):
            UsagePrice.model_validate({"id": "p", "amount": 1, **fields})
