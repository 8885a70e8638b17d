"""Late usage is settled from the ledger: it brings along what the closed period had, and nothing is settled twice."""

import msgspec
import pytest
from msgspec.structs import replace

from schemas.command import AccountCommand, ActivateProduct, ChangeProfile, PastTotal, ReleaseLate
from schemas.topics import COMMANDS
from services.engine.commands import apply_command
from services.engine.late import GRACE_MS
from services.engine.outcome import Outcome, Position
from services.rating.accounts import CommandRefused, submit
from services.rating.catalogue_store import publish_catalogue
from services.rating.corrections import CorrectionRefused, Order, late_usage, order, ordered
from services.rating.repositories import corrections as orders
from services.rating.repositories import outbox
from tests.engine.world import PARTITION, World, catalogue, ms
from tests.rating.seeds import book

END = ms("2026-04-01")
NOW_MS = END + GRACE_MS + 60_000
PLAN = {
    "id": "plan", "kind": "base_plan",
    "allowances": [
        {"id": "data", "octets": 1000, "rollover": {"percent": 50}},
        {"id": "calls", "seconds": 60, "scope": {"services": ["call"]}, "priority": 1},
    ],
    "usage_prices": [{"id": "beyond", "amount": "1", "per_octets": 100, "cap": "3"}],
}  # fmt: skip


class Shop:
    """A lane's account, and the ledger that books what it tells."""

    def __init__(self, engine) -> None:
        self.engine = engine
        made = catalogue(PLAN)
        publish_catalogue(engine, made)
        self.world = World(made, create=False)
        profile = {"subscriber_ids": ("a1", "b2"), "payment": "postpaid", "time_zone": "UTC", "cycle_day": 1}
        at_ms = ms("2026-03-10 12:00")
        common = {"version": "1.0", "account_id": "a1", "issued_at_ms": at_ms}
        submit(
            engine,
            [
                ChangeProfile(command_id="k-0", **profile, **common),
                ActivateProduct(command_id="k-1", product_id="p", offering_id="plan", **common),
            ],
        )
        self.world.command(ChangeProfile, at=at_ms, **profile)
        self.world.activate("plan", "p")
        self.booked = 0
        self.deliver()

    def deliver(self) -> None:
        """Empty the outbox, and book what the lane has told."""
        outbox.remove(self.engine, [item.id for item in outbox.oldest(self.engine)])
        book(self.engine, *self.world.usage[self.booked :])
        self.booked = len(self.world.usage)

    def late(self, volume=300, at=END - 1000, **fields) -> str:
        """Usage of March that is told in April."""
        self.world.timer(max(self.world.now_ms, END + GRACE_MS))
        now_ms = self.world.now_ms
        self.world.flow(volume, at=at, **fields)
        self.world.now_ms = now_ms
        self.deliver()
        return self.world.usage[-1].usage_id

    def ask(self, usage_id, period, name="c-1", **fields):
        wanted = Order("release", name, usage_id=usage_id, period=period)
        return order(self.engine, wanted, clock=lambda: NOW_MS, **fields)

    def sent(self) -> ReleaseLate:
        [found] = [item for item in outbox.oldest(self.engine) if item.topic == COMMANDS]
        return msgspec.json.decode(found.value, type=AccountCommand)

    def carry_out(self) -> None:
        """The lane applies what was sent, and the ledger books it."""
        at = Position(COMMANDS, PARTITION, 10_000 + len(self.world.usage))
        outcome = apply_command(self.sent(), self.world.account, self.world.tariff, at=at, now_ms=NOW_MS)
        assert isinstance(outcome, Outcome), outcome
        self.world.take(outcome)
        self.deliver()


@pytest.fixture
def shop(engine):
    return Shop(engine)


def test_the_past_is_what_expired_less_what_late_usage_drew_since(shop):
    shop.world.flow(400, at="2026-03-11 12:00")
    first, second = shop.late(200), shop.late(500, at=END - 5000, subscriber_id="b2")
    shop.ask(first, "past")
    past = shop.sent().past
    _, bucket = past.buckets
    # Half of the 600 octets that were left was kept for April.
    assert (bucket.remaining, bucket.granted, bucket.valid_until_ms) == (300, 1000, END)
    assert past.products == (("p", "plan"),)
    shop.carry_out()
    assert [row["usage_id"] for row in late_usage(shop.engine)] == [second]
    shop.ask(second, "past", "c-2")
    assert shop.sent().past.buckets[1].remaining == 100
    shop.carry_out()
    assert late_usage(shop.engine) == []
    # What is beyond the 100 draws the 300 that were kept, since they were there, and the rest is sold.
    assert [row.amount for row in shop.world.usage if row.kind == "usage" and row.corrects] == ["0", "1"]
    assert shop.world.left("p/data") == 1000


def test_the_totals_of_the_past_are_what_its_rows_came_to(shop):
    shop.world.flow(1150, at="2026-03-11 12:00")
    shop.world.flow(50, at="2026-03-11 13:00", subscriber_id="b2")
    shop.ask(shop.late(200), "past")
    past = shop.sent().past
    assert past.buckets[1].remaining == 0
    assert PastTotal(counter_id="price:plan/beyond", octets=200, amount="2") in past.totals
    assert PastTotal(counter_id="member:p/data:a1", octets=1000) in past.totals
    shop.carry_out()
    again = shop.world.usage[-1]
    assert (again.charged_octets, again.blocked_octets, again.amount) == (100, 100, "1")


def test_time_that_expired_pays_for_a_late_call(shop):
    shop.world.flow(100, at="2026-03-11 12:00", service="call", lasts=50_000)
    shop.ask(shop.late(400, at=END - 30_000, service="call", lasts=20_000), "past")
    past = shop.sent().past
    assert (past.buckets[0].unit, past.buckets[0].remaining, past.buckets[0].granted) == ("ms", 10_000, 60_000)
    assert [total for total in past.totals if total.counter_id.startswith("price:")] == []
    assert PastTotal(counter_id="member:p/calls:a1", octets=50_000) in past.totals
    shop.carry_out()
    again = shop.world.usage[-1]
    assert [(moved.bucket_id, moved.amount) for moved in again.movements] == [("p/calls", "-10000"), ("p/data", "-200")]
    assert shop.world.left("p/calls") == 60_000


@pytest.mark.parametrize(("period", "left", "treatment"), [("present", 700, "charged"), ("none", 1000, "free")])
def test_late_usage_is_charged_now_or_waived(shop, period, left, treatment):
    shop.world.flow(1000, at="2026-03-11 12:00")
    shop.ask(shop.late(), period)
    assert shop.sent().past is None
    shop.carry_out()
    assert (shop.world.left("p/data"), shop.world.usage[-1].treatment) == (left, treatment)
    assert late_usage(shop.engine) == []


def test_late_usage_is_settled_once(shop):
    usage_id = shop.late()
    first, again = shop.ask(usage_id, "present"), shop.ask(usage_id, "present")
    assert (first.repeated, again.repeated) == (False, True)
    with pytest.raises(CorrectionRefused, match="has to wait for the correction 'c-1'"):
        shop.ask(usage_id, "none", "c-2")
    shop.carry_out()
    with pytest.raises(CorrectionRefused, match="is settled already"):
        shop.ask(usage_id, "none", "c-2")
    assert [row["state"] for row in ordered(shop.engine, "a1")] == ["booked"]


def test_what_is_charged_in_the_past_waits_for_all_that_was_ordered(shop):
    first, second = shop.late(), shop.late()
    shop.ask(first, "past")
    with pytest.raises(CorrectionRefused, match="has to wait for the correction 'c-1'"):
        shop.ask(second, "past", "c-2")
    assert shop.ask(second, "present", "c-2").octets == 300


def test_a_period_that_is_too_large_to_sum_up_is_not_charged(shop, monkeypatch):
    usage_id = shop.late()
    monkeypatch.setattr(orders, "MAX_ROWS", 1)
    with pytest.raises(CorrectionRefused, match="more than 1 rows of grant, expiry there, too many to sum up"):
        shop.ask(usage_id, "past")


def test_what_did_not_come_too_late_is_refused(shop):
    shop.world.flow(10)
    shop.world.emit()
    shop.deliver()
    with pytest.raises(CorrectionRefused, match="did not come too late"):
        shop.ask(shop.world.usage[-1].usage_id, "none")


def test_a_dry_run_settles_nothing_and_a_release_comes_from_the_ledger(shop):
    made = shop.ask(shop.late(), "none", dry_run=True)
    assert (made.kind, made.octets) == ("release", 300)
    assert not outbox.oldest(shop.engine)
    command = ReleaseLate(
        version="1.2", command_id="c-9", account_id="a1", issued_at_ms=NOW_MS, line=made.lines[0], period="none"
    )
    with pytest.raises(CommandRefused, match="smartpipe correct"):
        submit(shop.engine, [command])


@pytest.mark.parametrize("old", [True, False])
def test_a_period_sold_at_a_price_that_two_offerings_have_is_summed_up_only_where_rows_say_whose(shop, old):
    more = {"id": "more", "usage_prices": [{**PLAN["usage_prices"][0], "scope": {"categories": ["streaming"]}}]}
    made = catalogue(PLAN, more, version="v2")
    publish_catalogue(shop.engine, made)
    at_ms = ms("2026-03-10 12:00")
    common = {"version": "1.0", "account_id": "a1", "issued_at_ms": at_ms}
    submit(shop.engine, [ActivateProduct(command_id="k-2", product_id="m", offering_id="more", **common)])
    shop.world.publish(made)
    shop.world.activate("more", "m")
    shop.world.flow(1150, "netflix", at="2026-03-11 12:00")
    shop.world.emit()
    if old:
        rows = shop.world.usage
        rows[shop.booked :] = [replace(row, price_offering_id=None) for row in rows[shop.booked :]]
    shop.deliver()
    late = shop.late()
    if old:
        with pytest.raises(CorrectionRefused, match="at price 'beyond', which more and plan have, and does not say"):
            shop.ask(late, "past")
    else:
        shop.ask(late, "past")
        assert PastTotal(counter_id="price:more/beyond", octets=150, amount="1.5") in shop.sent().past.totals
