"""Commands: each applied once, at its time, or refused without a trace."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.command import ActivateProduct, Credit, Debit, Reserve
from schemas.fields import MAX_EPOCH_MS
from services.engine import commands
from services.engine.commands import RECENT_COMMANDS
from tests.engine.world import RefusedError, World, catalogue, micros, ms

DATA = {"id": "data", "octets": 1000}
FEE = {"id": "fee", "type": "recurring", "amount": "5"}
PLAN = {"id": "plan", "kind": "base_plan", "allowances": [DATA], "prices": [FEE]}
ADD_ON = {"id": "add", "requires": ["plan"], "prices": [{"id": "once", "type": "one_time", "amount": "2"}]}


def test_a_profile_creates_the_account_and_its_first_cycle() -> None:
    world = World(catalogue(PLAN), create=False)
    world.profile(
        subscriber_ids=("a1", "b2"), time_zone="Europe/Paris", cycle_day=5, payment="prepaid", age_band="18-25"
    )
    account = world.account
    assert account is not None
    assert (account.subscriber_ids, account.payment, account.age_band) == (("a1", "b2"), "prepaid", "18-25")
    assert (account.cycle_start_ms, account.cycle_end_ms) == (
        ms("2026-03-05", "Europe/Paris"), ms("2026-04-05", "Europe/Paris"),
    )  # fmt: skip
    assert world.gates() == {"default": "closed"}


def test_an_account_must_be_created_first() -> None:
    world = World(catalogue(PLAN), create=False)
    with pytest.raises(RefusedError, match="create it with change_profile") as refused:
        world.activate("plan")
    assert refused.value.cause == "unknown_account"


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"payment": "barter"}, "payment"),
        ({"currency": "USD"}, "currency"),
        ({"subscriber_ids": ()}, "subscriber_ids"),
        ({"subscriber_ids": tuple(f"s{n}" for n in range(65))}, "subscriber_ids"),
    ],
)
def test_a_profile_that_breaks_a_rule_is_refused_and_changes_nothing(fields: dict[str, Any], cause: str) -> None:
    world = World(catalogue(PLAN))
    before = world.account
    with pytest.raises(RefusedError) as refused:
        world.profile(**fields)
    assert refused.value.cause == cause
    assert world.account == before
    with pytest.raises(RefusedError):
        World(catalogue(PLAN), create=False).profile(**fields)


@pytest.mark.parametrize("start_ms", [MAX_EPOCH_MS, MAX_EPOCH_MS - 86_400_000, ms("2226-03-15")])
def test_a_start_beyond_all_calendars_is_refused(start_ms: int) -> None:
    world = World(catalogue(PLAN, {"id": "week", "kind": "pass", "term_days": 7}))
    before = world.account
    with pytest.raises(RefusedError, match="more than 3660 days ahead") as refused:
        world.activate("week", start_ms=start_ms)
    assert (refused.value.cause, world.account) == ("start_ms", before)


def test_fields_left_out_keep_their_value() -> None:
    world = World(catalogue(PLAN), age_band="18-25", consumption_level="high")
    world.profile(segment="group")
    assert world.account is not None
    assert (world.account.age_band, world.account.consumption_level, world.account.segment) == (
        "18-25", "high", "group",
    )  # fmt: skip


def test_a_new_anchor_counts_from_the_end_of_the_present_cycle() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.profile(cycle_day=3)
    assert world.account is not None
    assert world.account.cycle_end_ms == ms("2026-04-01")
    world.timer("2026-04-01")
    assert world.account.cycle_end_ms == ms("2026-04-03")
    world.timer("2026-04-03")
    assert world.account.cycle_end_ms == ms("2026-05-03")
    # The two days until then are two of the 31 of a whole cycle.
    assert world.money() == 2 * 5_000_000 + 5_000_000 * 2 // 31


def test_a_member_who_joins_or_leaves_gets_or_loses_the_rules() -> None:
    world = World(catalogue(PLAN), subscriber_ids=("a1", "b2"))
    outcome = world.profile(subscriber_ids=("a1", "c3", "c3"))
    told = [(update.action, update.rule_id, update.subscriber_ids) for update in outcome.updates]
    assert told == [("install", "default", ("c3",)), ("remove", "default", ("b2",))]
    assert world.profile(subscriber_ids=("a1", "c3")).updates == ()


def test_activation_grants_charges_and_tells() -> None:
    world = World(catalogue(PLAN, ADD_ON))
    outcome = world.activate("plan") and world.usage
    assert [(row.kind, row.amount, row.product_id, row.offering_id) for row in outcome] == [
        ("fee", "5", "p1", "plan"), ("grant", "0", "p1", "plan"),
    ]  # fmt: skip
    grant = world.usage[1].movements[0]
    assert (grant.bucket_id, grant.amount, grant.remaining) == ("p1/data", "1000", "1000")
    assert (grant.valid_from_ms, grant.valid_until_ms) == (ms("2026-03-10 12:00"), ms("2026-04-01"))
    assert [(note.kind, note.product_id) for note in world.notifications] == [("activated", "p1"), ("receipt", "p1")]
    assert world.gates() == {"default": "open"}


@pytest.mark.parametrize(
    ("held", "ordered", "cause"),
    [
        ([], "nothing", "unknown_offering"),
        ([], "add", "requires"),
        (["plan"], "plan-2", "base_plan_held"),
        (["plan"], "rival", "excludes"),
        (["rival"], "plan", "excludes"),
        ([], "old", "not_on_sale"),
        ([], "draft", "not_on_sale"),
        ([], "soon", "not_on_sale"),
        ([], "gone", "not_on_sale"),
    ],
)
def test_what_an_account_may_not_hold_is_refused(held: list[str], ordered: str, cause: str) -> None:
    now = ms("2026-03-10 12:00")
    world = World(
        catalogue(
            PLAN, ADD_ON, {"id": "plan-2", "kind": "base_plan"}, {"id": "rival", "excludes": ["plan"]},
            {"id": "old", "lifecycle_status": "retired"}, {"id": "draft", "lifecycle_status": "in_study"},
            {"id": "soon", "valid_from_ms": now + 1}, {"id": "gone", "valid_until_ms": now},
        )
    )  # fmt: skip
    for offering in held:
        world.activate(offering)
    before = world.account
    with pytest.raises(RefusedError) as refused:
        world.activate(ordered)
    assert (refused.value.cause, world.account) == (cause, before)


@pytest.mark.parametrize("product_id", ["p1", "x" * 64, "a/b"])
def test_a_product_id_is_new_and_fits_into_a_buckets_id(product_id: str) -> None:
    world = World(catalogue(PLAN, {"id": "other"}))
    world.activate("plan", "p1")
    with pytest.raises(RefusedError, match="product_id"):
        world.activate("other", product_id)


def test_a_product_id_does_not_come_again() -> None:
    """It would mix up two products in what is kept for late flows, and charge the day of both twice."""
    world = World(catalogue({**PLAN, "allowances": [{**DATA, "validity": "once"}]}))
    world.activate("plan", "x")
    world.flow(100)
    world.cancel("x")
    with pytest.raises(RefusedError, match="product_exists"):
        world.activate("plan", "x")
    world.activate("plan", "y")
    before = world.now_ms - 1000
    assert world.flow(5, start_ms=before, end_ms=world.now_ms).draws[0].bucket_id == "y/data"
    assert world.left("y/data") == 995


def test_products_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_PRODUCTS", 2)
    world = World(catalogue({"id": "pass"}))
    world.activate("pass")
    world.activate("pass")
    with pytest.raises(RefusedError, match="cancel one first"):
        world.activate("pass")


def test_a_product_ordered_for_later_begins_at_its_time() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan", start_ms=ms("2026-03-20"))
    assert world.account is not None
    assert (world.account.products[0].status, world.account.buckets, world.money()) == ("pending_active", (), 0)
    assert world.flow(10, at="2026-03-19 23:59").treatment == "blocked"
    assert world.flow(10, at="2026-03-20 00:00").treatment == "charged"
    assert (world.account.products[0].status, world.money()) == ("active", 5_000_000)
    assert world.told("activated")[0].at_ms == ms("2026-03-20")


def test_a_prepaid_purchase_needs_the_money() -> None:
    world = World(catalogue(PLAN), payment="prepaid")
    world.credit("4.99")
    before = world.account
    with pytest.raises(RefusedError, match=r"balance 4.99 does not cover 5 EUR .* top it up"):
        world.activate("plan")
    assert world.account == before
    world.credit("0.01")
    world.activate("plan")
    assert (world.balance(), world.left("p2/data")) == (0, 1000)


def test_a_later_start_that_cannot_be_paid_ends_the_order() -> None:
    world = World(catalogue(PLAN), payment="prepaid")
    world.activate("plan", start_ms=ms("2026-03-20"))
    world.timer("2026-03-20")
    assert world.account is not None
    assert world.account.products == ()
    assert [note.product_id for note in world.told("refused")] == ["p1"]


def test_cancelling_takes_back_what_is_left_and_nothing_is_charged_after_it() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.flow(300)
    world.cancel("p1", reason="too dear")
    assert world.account is not None
    assert (world.account.products, world.account.buckets) == ((), ())
    assert [(row.kind, row.movements[0].amount) for row in world.usage[-2:]] == [("usage", "-300"), ("expiry", "-700")]
    assert world.flow(10).treatment == "blocked"
    world.timer("2026-06-01")
    assert world.money() == 5_000_000
    with pytest.raises(RefusedError) as refused:
        world.cancel("p1")
    assert refused.value.cause == "unknown_product"


def test_an_upgrade_day_is_billed_once() -> None:
    """Case 34: the old plan is cancelled, the new one bought; each fee is booked once, and renewed once."""
    better = {**PLAN, "id": "better", "prices": [{"id": "fee-2", "type": "recurring", "amount": "9"}]}
    world = World(catalogue(PLAN, better))
    world.activate("plan", "old")
    world.cancel("old")
    world.activate("better", "new")
    world.timer("2026-04-01")
    fees = [(row.product_id, row.amount) for row in world.usage if row.kind == "fee"]
    assert fees == [("old", "5"), ("new", "9"), ("new", "9")]


@pytest.mark.parametrize(
    "amount", ["-2", "0", "0.00", "1e3", "NaN", "Infinity", "0.0000001", "", "1,5", "1000000001", "9" * 18]
)
def test_an_amount_that_is_no_positive_sum_is_refused(amount: str) -> None:
    """Case 19: a top-up of minus two is no top-up."""
    for payment in ("prepaid", "postpaid"):
        world = World(catalogue(PLAN), payment=payment)
        for order in (Credit, Debit, Reserve):
            more = {"reservation_id": "r"} if order is Reserve else {}
            with pytest.raises(RefusedError) as refused:
                world.command(order, amount=amount, **more)
            assert refused.value.cause in ("amount", "insufficient_balance")
        assert world.balance() == 0


def test_a_balance_has_a_limit_that_its_state_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_TOTAL_MICROS", 5_000_000)
    world = World(catalogue(PLAN))
    world.credit("5")
    with pytest.raises(RefusedError, match="limit of 5"):
        world.credit("0.000001")
    world.debit("10")
    with pytest.raises(RefusedError, match="limit of 5"):
        world.debit("0.000001")


def test_case_16_a_top_up_that_is_sent_again_credits_once() -> None:
    """The same command id, however often it comes, within the stated horizon."""
    world = World(catalogue(PLAN))
    world.credit("10", command_id="top-up")
    outcome = world.command(Credit, amount="10", command_id="top-up")
    assert (world.balance(), outcome.usage, outcome.notifications) == (10_000_000, (), ())
    for _ in range(RECENT_COMMANDS - 1):
        world.ask_for_usage()
    world.credit("10", command_id="top-up")
    assert world.balance() == 10_000_000
    assert world.account is not None
    assert len(world.account.recent_commands) == RECENT_COMMANDS


def test_a_repeated_activation_activates_once() -> None:
    world = World(catalogue(PLAN))
    world.command(ActivateProduct, offering_id="plan", product_id="p1", command_id="c")
    before = world.account
    world.command(ActivateProduct, offering_id="plan", product_id="p1", command_id="c")
    assert world.account == before


def test_held_money_cannot_be_spent_and_comes_back_whole() -> None:
    """Case 22: a release without use frees the whole hold."""
    world = World(catalogue(PLAN), payment="prepaid")
    world.credit("10")
    world.reserve("r1", "4")
    world.reserve("r2", "6")
    assert world.balance() == 0
    with pytest.raises(RefusedError):
        world.debit("0.01")
    world.reserve("r1", action="release")
    assert world.balance() == 4_000_000
    world.reserve("r2", action="commit")
    assert world.balance() == 4_000_000
    assert [(row.kind, row.amount) for row in world.usage] == [
        ("credit", "0"), ("reserve", "0"), ("reserve", "0"), ("release", "0"), ("debit", "6"),
    ]  # fmt: skip
    for action in ("commit", "release"):
        with pytest.raises(RefusedError) as refused:
            world.reserve("r1", action=action)
        assert refused.value.cause == "unknown_reservation"


def test_a_hold_is_made_once_and_holds_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_RESERVATIONS", 1)
    world = World(catalogue(PLAN))
    world.reserve("r1", "1")
    for name in ("r1", "r2"):
        with pytest.raises(RefusedError, match="reservation"):
            world.reserve(name, "1")


def test_a_postpaid_account_may_owe() -> None:
    world = World(catalogue(PLAN))
    world.debit("3")
    assert world.balance() == -3_000_000


def test_usage_is_told_before_what_changes_the_products() -> None:
    world = World(catalogue(PLAN, ADD_ON))
    world.activate("plan")
    world.flow(10)
    world.activate("add")
    assert [row.kind for row in world.usage[-2:]] == ["usage", "fee"]


def test_usage_is_told_when_it_is_asked_for() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.flow(10)
    outcome = world.ask_for_usage()
    assert [row.octets for row in outcome.usage] == [10]
    assert world.ask_for_usage().usage == ()


def test_a_command_older_than_the_present_cycle_takes_effect_in_the_present_one() -> None:
    world = World(catalogue(PLAN))
    world.activate("plan")
    world.flow(1, at="2026-04-01 00:00")
    world.publish(catalogue(PLAN, {"id": "pass", "allowances": [DATA]}))
    world.activate("pass", "late", at="2026-03-31 23:59")
    assert world.account is not None
    bucket = next(item for item in world.account.buckets if item.product_id == "late")
    assert (bucket.valid_from_ms, bucket.valid_until_ms) == (world.account.settled_ms, ms("2026-05-01"))


def test_a_command_from_a_clock_far_ahead_counts_as_now() -> None:
    world = World(catalogue(PLAN))
    now = world.now_ms
    world.credit("1", at=now)
    outcome = commands.apply_command(
        Credit(version="1.0", command_id="x", account_id="a1", issued_at_ms=now + 10**12, amount="1"),
        world.account, world.tariff, at=commands.Position("ott.account-commands.v1", 3, 99), now_ms=now,
    )  # fmt: skip
    assert isinstance(outcome, commands.Outcome)
    assert outcome.usage[-1].start_ms == now


orders = st.lists(
    st.tuples(
        st.sampled_from(["credit", "debit", "hold", "commit", "release", "flow"]),
        st.integers(1, 3_000_000),
        st.sampled_from(["r1", "r2", "r3"]),
    ),
    max_size=25,
)


@given(orders, st.sampled_from(["prepaid", "postpaid"]))
@settings(deadline=None)
def test_money_is_neither_made_nor_lost(steps: list[tuple[str, int, str]], payment: str) -> None:
    """Balance plus holds is what came in less what was charged, after any orders in any sequence."""
    plan = {"id": "plan", "usage_prices": [{"id": "p", "amount": "0.37", "per_octets": 1000}]}
    world = World(catalogue(plan), payment=payment)
    world.activate("plan")
    came_in = 0
    for action, amount, name in steps:
        text = f"{amount // 10**6}.{amount % 10**6:06d}"
        try:
            if action == "credit":
                world.credit(text)
                came_in += amount
            elif action == "debit":
                world.debit(text)
            elif action == "flow":
                world.flow(amount)
            else:
                world.reserve(name, text, action)
        except RefusedError:
            continue
    assert world.account is not None
    held = sum(item.micros for item in world.account.reservations)
    from_balance = sum(micros(row.amount) for row in world.usage if row.kind == "debit")
    if payment == "prepaid":
        from_balance = world.money()
    assert world.balance() + held == came_in - from_balance


def test_one_member_is_enough() -> None:
    world = World(catalogue(PLAN), subscriber_ids=("b2",))
    assert world.account is not None
    assert world.account.subscriber_ids == ("b2",)


def test_who_owes_does_not_become_prepaid() -> None:
    world = World(catalogue(PLAN))
    world.debit("3")
    with pytest.raises(RefusedError, match="the account owes 3 EUR"):
        world.profile(payment="prepaid")
    world.credit("3")
    world.profile(payment="prepaid")
    assert world.account is not None
    assert world.account.payment == "prepaid"


def test_who_becomes_postpaid_need_not_wait_for_a_top_up() -> None:
    world = World(catalogue(PLAN), payment="prepaid")
    world.credit("5")
    world.activate("plan")
    world.timer("2026-04-01")
    assert world.left("p1/data") == 0
    world.profile(payment="postpaid")
    assert world.left("p1/data") == 1000
