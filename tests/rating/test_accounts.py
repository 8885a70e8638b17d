"""The front desk: what it takes, what it refuses, and that a lane gets exactly what was stored."""

import msgspec
import pytest
from sqlalchemy import select

from schemas.command import (
    AccountCommand,
    ActivateProduct,
    CancelProduct,
    ChangeProfile,
    ConfirmProduct,
    Credit,
    Debit,
    Reserve,
    SetRenewal,
)
from schemas.topics import COMMANDS
from services.rating.accounts import CommandRefused, submit
from services.rating.catalogue_store import publish_catalogue
from services.rating.database import reading
from services.rating.models import account_members, accounts, commands, products
from services.rating.repositories import outbox
from services.rating.repositories.accounts import PROFILE
from tests.rating.catalogues import catalogue

AT_MS = 1_790_000_000_000
DAY_MS = 86_400_000


@pytest.fixture
def shop(engine):
    """A database with a catalogue in force and an empty outbox."""
    publish_catalogue(engine, catalogue())
    outbox.remove(engine, [record.id for record in outbox.oldest(engine)])
    return engine


def _command(kind, command_id, account_id="acc-1", **fields):
    return kind(version="1.0", command_id=command_id, account_id=account_id, issued_at_ms=AT_MS, **fields)


def _create(account_id="acc-1", command_id="create-1", **fields):
    return _command(ChangeProfile, command_id, account_id, **fields)


def _order(offering_id="basic", product_id="prod-1", command_id=None, **fields):
    return _command(
        ActivateProduct, command_id or f"order-{product_id}", product_id=product_id, offering_id=offering_id, **fields
    )


def _sent(engine):
    decode = msgspec.json.Decoder(AccountCommand).decode
    return [(record.topic, record.key, decode(record.value)) for record in outbox.oldest(engine)]


def _rows(engine, table):
    with reading(engine) as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def test_what_is_stored_is_what_the_lane_is_told_in_the_same_order(shop):
    given = [
        _create(subscriber_ids=("sub-1", "sub-2"), payment="prepaid", time_zone="Europe/Paris", cycle_day=31),
        _order(),
        _order("stream-pack", "prod-2"),
        _command(Credit, "credit-1", amount="20"),
        _command(Debit, "debit-1", amount="0.5"),
        _command(CancelProduct, "cancel-1", product_id="prod-2", reason="too dear"),
    ]
    assert submit(shop, given) == 6
    assert _sent(shop) == [(COMMANDS, b"acc-1", command) for command in given]
    [account] = _rows(shop, accounts)
    assert (account["payment"], account["time_zone"], account["cycle_day"]) == ("prepaid", "Europe/Paris", 31)
    assert {row["subscriber_id"] for row in _rows(shop, account_members)} == {"sub-1", "sub-2"}
    ends = {row["product_id"]: (row["end_ms"], row["cancelled_by"]) for row in _rows(shop, products)}
    assert ends == {"prod-1": (None, None), "prod-2": (AT_MS, "cancel-1")}


def test_a_command_sent_twice_is_taken_once(shop):
    given = [_create(), _order()]
    assert submit(shop, given + given) == 2
    assert submit(shop, given) == 0
    assert len(_sent(shop)) == 2
    assert len(_rows(shop, commands)) == 2


def test_an_account_without_named_members_has_itself_as_its_only_subscriber(shop):
    submit(shop, [_create()])
    assert [row["subscriber_id"] for row in _rows(shop, account_members)] == ["acc-1"]


def test_a_changed_profile_keeps_what_it_does_not_name(shop):
    submit(shop, [_create(segment="group", tier="gold", subscriber_ids=("sub-1",))])
    submit(shop, [_create(command_id="change-1", cycle_day=5)])
    [account] = _rows(shop, accounts)
    assert (account["segment"], account["tier"], account["cycle_day"]) == ("group", "gold", 5)
    assert [row["subscriber_id"] for row in _rows(shop, account_members)] == ["sub-1"]


def test_every_field_of_a_profile_has_its_column():
    common = {"version", "command_id", "account_id", "issued_at_ms", "subscriber_ids"}
    assert set(PROFILE) == set(ChangeProfile.__struct_fields__) - common


def test_a_subscriber_moves_to_another_account_when_it_left_the_first(shop):
    submit(shop, [_create(subscriber_ids=("sub-1", "sub-2"))])
    moved = [
        _create(command_id="leave", subscriber_ids=("sub-1",)),
        _create("acc-2", "join", subscriber_ids=("sub-2",)),
    ]
    submit(shop, moved)
    owners = {row["subscriber_id"]: row["account_id"] for row in _rows(shop, account_members)}
    assert owners == {"sub-1": "acc-1", "sub-2": "acc-2"}


def test_a_product_with_a_term_ends_after_it(shop):
    submit(shop, [_create(), _order(), _order("stream-pack", "prod-2")])
    assert _rows(shop, products)[1]["end_ms"] == AT_MS + 30 * DAY_MS


@pytest.fixture
def trials(engine):
    """A database whose catalogue has a plan with a trial."""
    offered = [
        {"id": "basic", "name": "Basic", "kind": "base_plan", "trial_days": 7},
        {"id": "week", "name": "Week", "kind": "pass", "trial_days": 2, "term_days": 7, "max_held": 1},
    ]
    publish_catalogue(engine, catalogue(offerings=offered, rules=[]))
    return engine


def test_a_trial_ends_a_product_until_it_is_confirmed(trials):
    submit(trials, [_create(), _order(), _order("week", "prod-2")])
    assert [row["end_ms"] for row in _rows(trials, products)] == [AT_MS + 7 * DAY_MS, AT_MS + 2 * DAY_MS]
    submit(trials, [_command(ConfirmProduct, f"yes-{number}", product_id=f"prod-{number}") for number in (1, 2)])
    assert [row["end_ms"] for row in _rows(trials, products)] == [None, AT_MS + 9 * DAY_MS]


def test_a_second_order_has_no_trial(trials):
    submit(trials, [_create(), _order(), _command(CancelProduct, "no", product_id="prod-1"), _order("basic", "prod-2")])
    assert [row["end_ms"] for row in _rows(trials, products)] == [AT_MS, None]


@pytest.fixture
def renewed(engine):
    """A database whose catalogue has passes that are renewed, one of them after a trial."""
    offered = [
        {"id": "basic", "name": "Basic", "kind": "base_plan"},
        {"id": "week", "name": "Week", "kind": "pass", "term_days": 7, "renewal": "automatic"},
        {"id": "film", "name": "Film", "kind": "pass", "term_days": 7, "renewal": "automatic", "trial_days": 2},
    ]
    publish_catalogue(engine, catalogue(offerings=offered, rules=[]))
    return engine


def test_what_is_renewed_has_no_end_until_the_renewal_is_switched_off(renewed):
    def switch(command_id, renews, days, product_id="prod-2"):
        at_ms = AT_MS + days * DAY_MS
        fields = {"account_id": "acc-1", "product_id": product_id, "renews": renews, "issued_at_ms": at_ms}
        submit(renewed, [SetRenewal(version="1.2", command_id=command_id, **fields)])
        return next(row["end_ms"] for row in _rows(renewed, products) if row["product_id"] == product_id)

    submit(renewed, [_create(), _order(), _order("week", "prod-2"), _order("film", "prod-3")])
    submit(renewed, [_command(ActivateProduct, "once", product_id="prod-4", offering_id="week", renews=False)])
    ends = {row["product_id"]: row["end_ms"] for row in _rows(renewed, products)}
    assert ends == {
        "prod-1": None, "prod-2": None, "prod-3": AT_MS + 2 * DAY_MS, "prod-4": AT_MS + 7 * DAY_MS,
    }  # fmt: skip
    assert switch("off-1", False, 0) == AT_MS + 7 * DAY_MS
    assert switch("on-1", True, 1) is None
    assert switch("off-2", False, 7) == AT_MS + 14 * DAY_MS
    assert switch("off-3", False, 1, "prod-3") == AT_MS + 2 * DAY_MS
    submit(renewed, [_command(ConfirmProduct, "yes", product_id="prod-3")])
    assert switch("off-4", False, 3, "prod-3") == AT_MS + 9 * DAY_MS


def test_terms_by_the_calendar_end_at_the_midnights_of_the_account(engine):
    day = {"id": "day", "name": "Day", "kind": "pass", "term_days": 1, "anchor": "calendar"}
    offered = [
        {"id": "basic", "name": "Basic", "kind": "base_plan"},
        day,
        {**day, "id": "daily", "renewal": "automatic"},
    ]
    publish_catalogue(engine, catalogue(offerings=offered, rules=[]))
    submit(engine, [_create(time_zone="UTC"), _order(), _order("day", "prod-2"), _order("daily", "prod-3")])
    midnight_ms = AT_MS // DAY_MS * DAY_MS + DAY_MS
    assert [row["end_ms"] for row in _rows(engine, products)] == [None, midnight_ms, None]
    fields = {"account_id": "acc-1", "product_id": "prod-3", "renews": False, "issued_at_ms": midnight_ms}
    submit(engine, [SetRenewal(version="1.2", command_id="off", **fields)])
    assert _rows(engine, products)[2]["end_ms"] == midnight_ms + DAY_MS


def test_no_more_are_ordered_than_can_be_held(trials):
    submit(trials, [_create(), _order("week")])
    with pytest.raises(CommandRefused, match="can be held 1 times"):
        submit(trials, [_order("week", "prod-2")])


REFUSED = {
    "a renewal of what is never renewed": (
        [_create(), _order(), _command(SetRenewal, "r", product_id="prod-1", renews=False)], "product_id",
        "never renewed",
    ),
    "a renewal of what was never ordered": (
        [_create(), _command(SetRenewal, "r", product_id="p", renews=False)], "product_id", "never ordered",
    ),
    "a confirmation of what has no trial": (
        [_create(), _order(), _command(ConfirmProduct, "c", product_id="prod-1")], "product_id", "has no trial",
    ),
    "a confirmation of what was never ordered": (
        [_create(), _command(ConfirmProduct, "c", product_id="p")], "product_id", "never ordered",
    ),
    "an account that was never created": ([_order()], "account_id", "create it with change_profile first"),
    "an unknown offering": ([_create(), _order("gold")], "offering_id", "'gold' is not in catalogue 'v1'"),
    "a retired offering": ([_create(), _order("old")], "offering_id", "'old' is retired"),
    "an add-on without its plan": ([_create(), _order("stream-pack")], "offering_id", "requires one of basic"),
    "a product that excludes one held": (
        [_create(), _order(), _order("stream-lite", "p-2"), _order("stream-pack", "p-3")], "offering_id",
        "exclude each other",
    ),
    "a second base plan": ([_create(), _order(), _order("basic", "p-2")], "offering_id", "base plan 'basic' is held"),
    "a product id used before": ([_create(), _order(), _order(command_id="again")], "product_id", "use a new id"),
    "a product id with a slash": ([_create(), _order(product_id="a/b")], "product_id", "no slash"),
    "a product from the year 10000 on": (
        [_create(), _order("stream-lite", start_ms=253_402_300_800_000)], "start_ms", "more than 3660 days ahead",
    ),
    "a product never ordered": (
        [_create(), _command(CancelProduct, "c", product_id="p")], "product_id", "never ordered",
    ),
    "a product that has ended": (
        [_create(), _order(), *(_command(CancelProduct, name, product_id="prod-1") for name in "cd")], "product_id",
        "has ended",
    ),
    "a credit of nothing": ([_create(), _command(Credit, "c", amount="0")], "amount", "not positive"),
    "a negative debit": ([_create(), _command(Debit, "c", amount="-5")], "amount", "not positive"),
    "too fine an amount": ([_create(), _command(Credit, "c", amount="0.0000001")], "amount", "six decimal places"),
    "a hold of nothing": (
        [_create(), _command(Reserve, "c", reservation_id="r", amount="0")], "amount", "not positive",
    ),
    "an amount that is no number": ([_create(), _command(Credit, "c", amount="1e5")], "contract", "amount"),
    "a text with a NUL": ([_create(segment="gr\x00up")], "segment", "holds a NUL"),
    "a member with a NUL": ([_create(subscriber_ids=("s\x00",))], "subscriber_ids", "holds a NUL"),
    "an unknown time zone": ([_create(time_zone="Mars/Olympus")], "time_zone", "no IANA zone"),
    "an unknown way to pay": ([_create(payment="barter")], "payment", "prepaid or postpaid"),
    "an unknown consumption level": ([_create(consumption_level="huge")], "consumption_level", "potential_high"),
    "a day that no month has": ([_create(cycle_day=32)], "contract", "cycle_day"),
    "no members at all": ([_create(subscriber_ids=())], "subscriber_ids", "1 to 64"),
    "another currency": ([_create(currency="USD")], "currency", "not the catalogue's 'EUR'"),
    "someone else's subscriber": (
        [_create(subscriber_ids=("s",)), _create("acc-2", "other", subscriber_ids=("s",))], "subscriber_ids",
        "belongs to account 'acc-1'",
    ),
    "an id used for another command": ([_create(), _create(segment="group")], "command_id", "an id of its own"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_command_that_breaks_a_rule_is_refused_and_nothing_of_the_call_is_stored(shop, case):
    given, field, said = REFUSED[case]
    with pytest.raises(CommandRefused, match=said) as caught:
        submit(shop, given)
    assert caught.value.field == field
    assert _sent(shop) == []
    assert (_rows(shop, accounts), _rows(shop, commands), _rows(shop, products)) == ([], [], [])


def test_nothing_can_be_ordered_before_a_catalogue_is_published(engine):
    with pytest.raises(CommandRefused, match="the catalogue, which is empty"):
        submit(engine, [_create(), _order()])


def test_hundreds_of_accounts_are_taken_in_one_call(shop):
    given = []
    for number in range(600):
        account = f"acc-{number}"
        given.append(_create(account, f"create-{number}", subscriber_ids=(f"sub-{number}",)))
        given.append(
            _command(ActivateProduct, f"order-{number}", account, product_id="p", offering_id="basic", start_ms=AT_MS)
        )
    assert submit(shop, given) == 1200
    assert outbox.count(shop) == 1200
    assert len(_rows(shop, account_members)) == 600


CYCLE_END_MS = 1_790_812_800_000


@pytest.fixture
def plans(engine):
    """A database whose catalogue has two plans, and packs that stand on them."""
    offered = [
        {"id": "small", "name": "Small", "kind": "base_plan"},
        {"id": "large", "name": "Large", "kind": "base_plan"},
        {"id": "any", "name": "Any", "kind": "add_on", "requires": ["small", "large"]},
        {"id": "only", "name": "Only", "kind": "add_on", "requires": ["small"]},
        {"id": "more", "name": "More", "kind": "add_on", "requires": ["only"]},
    ]
    publish_catalogue(engine, catalogue(offerings=offered, rules=[]))
    submit(engine, [_create(), *(_order(name, name) for name in ("small", "any", "only", "more"))])
    return engine


def _ends(engine):
    return {row["product_id"]: row["end_ms"] for row in _rows(engine, products)}


def test_what_is_cancelled_for_the_cycles_end_ends_then_with_all_that_stands_on_it(plans):
    submit(plans, [_command(CancelProduct, "c", product_id="small", takes_effect="cycle_end")])
    assert set(_ends(plans).values()) == {CYCLE_END_MS}
    submit(plans, [_order("large", "large", takes_effect="cycle_end")])
    assert [row["start_ms"] for row in _rows(plans, products) if row["product_id"] == "large"] == [CYCLE_END_MS]


def test_a_plan_in_the_place_of_another_ends_it_and_what_cannot_stand_on_the_new_one(plans):
    submit(plans, [_order("large", "large", replaces="small", takes_effect="cycle_end")])
    over = {"small": CYCLE_END_MS, "only": CYCLE_END_MS, "more": CYCLE_END_MS}
    assert _ends(plans) == {"any": None, "large": None, **over}


def test_a_planned_change_that_is_called_off_leaves_all_as_it_was(plans):
    submit(plans, [_order("large", "large", replaces="small", takes_effect="cycle_end")])
    submit(plans, [_command(CancelProduct, "c", product_id="large")])
    assert _ends(plans) == {"small": None, "any": None, "only": None, "more": None, "large": AT_MS}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"replaces": "nobody"}, "replaces: 'nobody' was never ordered"),
        ({"takes_effect": "cycle_end", "start_ms": AT_MS}, "start_ms: "),
        ({"takes_effect": "cycle_end"}, "base plan 'small' is held"),
        ({}, "base plan 'small' is held"),
    ],
)
def test_a_change_of_plan_that_leaves_something_open_is_refused(plans, fields, says):
    with pytest.raises(CommandRefused, match=says):
        submit(plans, [_order("large", "large", **fields)])
    assert "large" not in _ends(plans)
