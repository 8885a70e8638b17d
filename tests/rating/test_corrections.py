"""Corrections are made from the ledger: never more than was paid, never twice, never in a closed period."""

import threading

import msgspec
import pytest
from sqlalchemy import select

from schemas.command import AccountCommand, RefundUsage, RerateUsage, VoidUsage
from schemas.decision import Sponsorship
from schemas.topics import COMMANDS
from services.rating.accounts import CommandRefused, submit
from services.rating.catalogue_store import publish_catalogue
from services.rating.corrections import CorrectionRefused, Order, late_usage, order, ordered, sponsor_refunds
from services.rating.database import reading
from services.rating.models import corrections
from services.rating.repositories import outbox
from services.rating.repositories.corrections import Stretch
from services.rating.repositories.ledger import sponsored_sums
from tests.rating.catalogues import catalogue
from tests.rating.seeds import book, seed
from tests.rating.usage_records import RATED_AT_MS, granted, moved, rated

DRAWN, PRICED, BLOCKED = "f-0-11-11-0", "f-0-12-12-0", "f-0-13-13-0"
DAY_MS = 86_400_000


@pytest.fixture
def shop(engine):
    """The small shop; what its orders put into the outbox is not of interest."""
    seed(engine)
    while pending := outbox.oldest(engine):
        outbox.remove(engine, [item.id for item in pending])
    return engine


def ask(engine, kind, usage_id=None, *, name="c-1", dry_run=False, at_ms=RATED_AT_MS + 60_000, **fields):
    wanted = Order(kind, name, usage_id=usage_id, **fields)
    return order(engine, wanted, dry_run=dry_run, clock=lambda: at_ms)


def sent(engine):
    """Commands in the outbox."""
    found = [item for item in outbox.oldest(engine) if item.topic == COMMANDS]
    return [msgspec.json.decode(item.value, type=AccountCommand) for item in found]


def refunded(number, corrects, cause, **fields):
    """A refund as the lane tells it."""
    given = {"kind": "refund", "usage_id": f"c-0-{number}-{number}-0", "corrects": corrects, "cause": cause}
    return rated(number, **{**given, "movements": (), "octets": 0, "charged_octets": 0, **fields})


def test_a_refund_of_all_that_a_row_cost_goes_to_the_lane(shop):
    made = ask(shop, "refund", PRICED)
    assert (made.amount, made.octets, made.account_id) == ("0.02", 0, "acc-1")
    [command] = sent(shop)
    assert isinstance(command, RefundUsage)
    assert (command.line.usage_id, command.amount, command.octets) == (PRICED, "0.02", 0)
    assert [item.bucket_id for item in command.line.movements] == ["main"]
    [noted] = ordered(shop, "acc-1")
    assert (noted["usage_id"], noted["number"], noted["state"]) == (PRICED, 0, "pending")


def test_refunds_never_add_up_to_more_than_was_paid(shop):
    ask(shop, "refund", PRICED, amount="0.015")
    book(shop, refunded(70, PRICED, "c-1", amount="-0.015", currency="EUR"))
    with pytest.raises(CorrectionRefused, match=r"amount: 0\.01 is more than 0\.005, all that was paid"):
        ask(shop, "refund", PRICED, name="c-2", amount="0.01")
    assert ask(shop, "refund", PRICED, name="c-3").amount == "0.005"
    book(shop, refunded(71, PRICED, "c-3", amount="-0.005", currency="EUR"))
    with pytest.raises(CorrectionRefused, match="nothing left to refund"):
        ask(shop, "refund", PRICED, name="c-4")


def test_octets_go_back_only_as_far_as_they_were_drawn(shop):
    with pytest.raises(CorrectionRefused, match="octets: 1001 is more than 1000"):
        ask(shop, "refund", DRAWN, octets=1001)
    assert ask(shop, "refund", DRAWN).octets == 1000
    back = (moved("prod-2/stream", 1000, 5_000_000),)
    book(shop, refunded(70, DRAWN, "c-1", octets=1000, charged_octets=1000, movements=back))
    with pytest.raises(CorrectionRefused, match="octets: 1 is more than 0"):
        ask(shop, "refund", DRAWN, name="c-2", octets=1)


@pytest.mark.parametrize(
    ("usage_id", "why"),
    [
        ("f-9-9-9-9", "is not in the ledger"),
        ("c-0-10-10-0", "is a row of kind grant"),
        (BLOCKED, "charged nothing"),
    ],
)
def test_what_cannot_be_corrected_is_refused_with_the_rule(shop, usage_id, why):
    with pytest.raises(CorrectionRefused, match=f"usage_id: '{usage_id}' {why}"):
        ask(shop, "void", usage_id)
    assert sent(shop) == []


def test_a_closed_period_is_refused(shop):
    with pytest.raises(CorrectionRefused, match="closed period"):
        ask(shop, "void", DRAWN, at_ms=RATED_AT_MS + 40 * DAY_MS)


def test_a_row_with_a_correction_pending_is_not_corrected_again(shop):
    ask(shop, "void", DRAWN)
    for kind in ("void", "refund"):
        with pytest.raises(CorrectionRefused, match="has a correction pending, command 'c-1'"):
            ask(shop, kind, DRAWN, name="c-2")
    assert len(sent(shop)) == 1


def test_a_voided_row_is_not_corrected_again(shop):
    ask(shop, "void", DRAWN)
    book(shop, refunded(70, DRAWN, "c-1", octets=1000, charged_octets=1000))
    for kind in ("void", "refund"):
        with pytest.raises(CorrectionRefused, match="voided already"):
            ask(shop, kind, DRAWN, name="c-2")


def test_a_row_that_was_rated_again_is_corrected_by_its_successor(shop):
    stretch = Stretch("acc-1", RATED_AT_MS - 60_000, RATED_AT_MS + 60_000, application="netflix")
    ask(shop, "rerate", stretch=stretch)
    pair = {"corrects": DRAWN, "cause": "c-1"}
    book(shop, refunded(70, DRAWN, "c-1", octets=1000), rated(71, usage_id="c-0-70-70-1", movements=(), **pair))
    with pytest.raises(CorrectionRefused, match="rated again already; correct c-0-70-70-1 instead"):
        ask(shop, "void", DRAWN, name="c-2")
    assert ask(shop, "void", "c-0-70-70-1", name="c-3").octets == 1000


def test_a_row_with_a_reclassified_flow_is_not_voided_over_it(shop):
    flow = {"corrects": "0-11", "cause": "reclassified", "octets": 300, "charged_octets": 300}
    book(shop, rated(70, kind="refund", movements=(), **flow))
    with pytest.raises(CorrectionRefused, match="corrected already"):
        ask(shop, "void", DRAWN)
    ask(shop, "void", PRICED)
    [command] = sent(shop)
    assert isinstance(command, VoidUsage)
    assert command.reclassified == 1


def test_two_operators_at_once_correct_a_row_once(shop):
    """Case 16: of two orders at the same moment one is carried out."""
    outcomes = []

    def press(name):
        try:
            outcomes.append(ask(shop, "void", DRAWN, name=name))
        except CorrectionRefused as refused:
            outcomes.append(str(refused))

    threads = [threading.Thread(target=press, args=(f"c-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(outcome, str) for outcome in outcomes) == [False, True, True, True]
    assert len(sent(shop)) == 1


def test_the_same_command_id_orders_nothing_more(shop):
    first, second = ask(shop, "void", DRAWN), ask(shop, "void", DRAWN)
    assert (first.repeated, second.repeated) == (False, True)
    assert len(sent(shop)) == 1
    with pytest.raises(CorrectionRefused, match="command_id: 'c-1' was used for another command"):
        ask(shop, "refund", DRAWN)


def test_a_dry_run_says_what_would_change_and_orders_nothing(shop):
    made = ask(shop, "void", PRICED, dry_run=True)
    assert (made.amount, made.lines[0].usage_id) == ("0.02", PRICED)
    assert sent(shop) == []
    with reading(shop) as connection:
        assert connection.execute(select(corrections)).first() is None


def test_a_rerate_names_every_row_in_event_order_and_says_what_it_leaves(shop):
    stretch = Stretch("acc-1", RATED_AT_MS - 60_000, RATED_AT_MS + 60_000)
    made = ask(shop, "rerate", stretch=stretch)
    assert [line.usage_id for line in made.lines] == [DRAWN, PRICED]
    assert [usage_id for usage_id, _ in made.left_out] == [BLOCKED]
    [command] = sent(shop)
    assert isinstance(command, RerateUsage)
    assert len(command.lines) == 2
    with pytest.raises(CorrectionRefused, match="no usage in this stretch"):
        ask(shop, "rerate", name="c-2", stretch=stretch)


def test_the_access_that_a_rule_is_for_is_kept(shop):
    call = {"application": "whatsapp", "category": "voip_im", "rule_id": "no-voip-3g", "movements": ()}
    book(shop, rated(70, **call))
    assert ask(shop, "void", "f-0-70-70-0").lines[0].rat_type == "UTRA"


WHOLE = Stretch("acc-1", RATED_AT_MS - 60_000, RATED_AT_MS + 60_000)
AWAY = {"id": "away", "precedence": 10, "scope": {"zones": ["eu"]}}
EU = [{"id": "eu", "name": "EU", "plmns": ["20801"]}]


def publish(shop, version, rule, zones=()):
    """A catalogue in which the pack of the account has one rule more."""
    parts = catalogue().model_dump(mode="json", exclude_defaults=True)
    offerings = [{**item, "rules": [*item.get("rules", ()), rule["id"]]} for item in parts["offerings"]]
    more = {"rules": [*parts["rules"], rule], "offerings": offerings, "zones": list(zones)}
    publish_catalogue(shop, catalogue(version, **more))


def left_out(shop, **fields):
    """What a rerate leaves out, beside a row of the newest catalogue, of which all is known."""
    book(shop, rated(75, catalogue_version="v2", circumstances="||||"))
    made = ask(shop, "rerate", stretch=WHOLE, dry_run=True, **fields)
    return dict(made.left_out), [line.usage_id for line in made.lines]


def test_a_row_says_how_its_traffic_came_and_is_rated_again_as_that(shop):
    publish(shop, "v2", AWAY, EU)
    book(
        shop, rated(70, catalogue_version="v2", rule_id="away", circumstances="|eu|||", price_offering_id="stream-pack")
    )
    [line] = [line for line in ask(shop, "rerate", stretch=WHOLE).lines if line.usage_id == "f-0-70-70-0"]
    assert (line.circumstances, line.price_offering_id) == ("|eu|||", "stream-pack")


def test_a_row_from_before_rows_said_it_is_rated_again_for_the_access_of_its_rule(shop):
    call = {"application": "whatsapp", "category": "voip_im", "rule_id": "no-voip-3g", "movements": ()}
    book(shop, rated(70, **call))
    [line] = [line for line in ask(shop, "rerate", stretch=WHOLE).lines if line.usage_id == "f-0-70-70-0"]
    assert (line.circumstances, line.rat_type) == (None, "UTRA")


def test_a_row_that_does_not_tell_its_place_is_not_rated_by_it(shop):
    publish(shop, "v2", AWAY, EU)
    book(shop, rated(70, catalogue_version="v2", rule_id="away"))
    out, _ = left_out(shop)
    assert out["f-0-70-70-0"] == "was rated by its zone or data network, and does not say which; void or refund it"


@pytest.mark.parametrize(
    ("scope", "flows", "out"),
    [
        ({}, 2, True),
        ({"applications": ["netflix"]}, 2, True),
        ({"categories": ["voip_im"], "services": ["call"]}, 2, False),
        ({}, 1, False),
    ],
)
def test_flows_in_one_row_are_not_rated_again_where_time_could_pay(shop, scope, flows, out):
    book(shop, rated(70, record_count=flows))
    parts = catalogue().model_dump(mode="json", exclude_defaults=True)
    minutes = {"id": "minutes", "seconds": 60, "scope": scope}
    offerings = [
        {**item, "allowances": [*item.get("allowances", ()), minutes]} if item["id"] == "stream-pack" else item
        for item in parts["offerings"]
    ]
    publish_catalogue(shop, catalogue("v2", offerings=offerings))
    why = "holds 2 flows and not how long each of them was, and catalogue 'v2' pays for them by time; void or refund it"
    assert left_out(shop)[0].get("f-0-70-70-0") == (why if out else None)


def test_time_that_is_refunded_in_parts_brings_no_octet_back_twice(shop):
    movements = (moved("prod-2/minutes", -100, 0, "ms"),)
    book(shop, rated(70, movements=movements, timed_octets=1000))
    ask(shop, "refund", "f-0-70-70-0", ms=60)
    back = {"octets": 600, "charged_octets": 600, "timed_octets": 600}
    book(shop, refunded(71, "f-0-70-70-0", "c-1", movements=(moved("prod-2/minutes", 60, 60, "ms"),), **back))
    line = ask(shop, "refund", "f-0-70-70-0", name="c-2").lines[0]
    assert (line.charged_octets, line.timed_octets, [item.amount for item in line.movements]) == (400, 400, ["-40"])


@pytest.mark.parametrize(
    ("rule", "zones", "met", "what"),
    [
        (AWAY, EU, "UTRA||||", "zone"),
        (AWAY, EU, None, "zone"),
        ({"id": "ims", "precedence": 10, "scope": {"dnns": ["ims"]}}, (), "UTRA||||", "data network"),
        ({"id": "ims", "precedence": 10, "scope": {"dnns": ["ims"]}}, (), "UTRA||ims||", None),
        ({"id": "nr", "precedence": 10, "scope": {"rat_types": ["NR"]}}, (), "||||", "radio access"),
        ({"id": "nr", "precedence": 10, "scope": {"rat_types": ["NR"]}}, (), "UTRA||||", None),
        ({"id": "jam", "precedence": 10, "min_congestion": 4}, (), "UTRA||||", "congestion level"),
    ],
)
def test_what_the_new_catalogue_asks_for_must_be_known_of_a_row(shop, rule, zones, met, what):
    book(shop, rated(70, circumstances=met))
    publish(shop, "v2", rule, zones)
    out, lines = left_out(shop)
    if what is None:
        assert "f-0-70-70-0" in lines
    else:
        why = f"catalogue 'v2' asks for its {what}, which 'v1' did not tell apart"
        assert out["f-0-70-70-0"] == f"cannot be rated again: {why}; void or refund it"


def test_connections_are_rated_again_and_voided(shop):
    nothing = {"octets": 0, "charged_octets": 0, "record_count": 0, "movements": ()}
    book(shop, rated(70, connections=4, amount="0.04", currency="EUR", price_id="chat", **nothing))
    assert "f-0-70-70-0" in left_out(shop)[1]
    assert ask(shop, "void", "f-0-70-70-0").lines[0].connections == 4


def test_a_row_that_granted_money_paid_is_rated_again_while_the_money_is_there(shop):
    for number, until_ms in ((70, RATED_AT_MS + 3_600_000), (71, RATED_AT_MS + 1)):
        name = f"prod-{number}/gift"
        grant = msgspec.structs.replace(
            moved(name, 2_000_000, 2_000_000, "micros"), valid_from_ms=RATED_AT_MS - DAY_MS, valid_until_ms=until_ms
        )
        book(shop, granted(0, 100 + number, movements=(grant,), usage_id=f"c-0-{number}-{number}-9"))
        paid = moved(name, -20_000, 1_980_000, "micros")
        book(shop, rated(number, amount="0.02", credit_amount="0.02", currency="EUR", movements=(paid,)))
    out, lines = left_out(shop)
    assert "f-0-70-70-0" in lines
    assert out["f-0-71-71-0"] == "was paid by money of 'prod-71/gift', which is gone; credit the account instead"


def test_a_refund_after_a_refund_goes_back_to_who_has_not_had_it(shop):
    own, gift = moved("main", -10_000, 990_000, "micros"), moved("prod-2/gift", -10_000, 0, "micros")
    book(shop, rated(70, amount="0.02", credit_amount="0.01", currency="EUR", movements=(gift, own)))
    ask(shop, "refund", "f-0-70-70-0", amount="0.01")
    back = (moved("main", 10_000, 1_000_000, "micros"),)
    book(shop, refunded(80, "f-0-70-70-0", "c-1", amount="-0.01", currency="EUR", movements=back))
    ask(shop, "refund", "f-0-70-70-0", name="c-2")
    line = sent(shop)[-1].line
    assert (line.amount, [item.amount for item in line.movements]) == ("0.01", ["-10000", "0"])


def test_a_correction_that_does_not_come_from_the_ledger_is_refused(shop):
    line = ask(shop, "void", DRAWN, dry_run=True).lines[0]
    command = VoidUsage(
        version="1.1", command_id="c-9", account_id="acc-1", issued_at_ms=RATED_AT_MS, line=line, reclassified=0
    )
    with pytest.raises(CommandRefused, match="smartpipe correct"):
        submit(shop, [command])


# -- what campaigns paid for

SPONSORED = "f-0-60-60-0"


@pytest.fixture
def tube(shop):
    """A row that two campaigns paid for, one of them from its budget, and a bucket for the rest."""
    paid = (
        Sponsorship(campaign_id="cup", octets=600, budget_octets=600, connections=3),
        Sponsorship(campaign_id="spring", octets=150), Sponsorship(campaign_id="dry", octets=0),
    )  # fmt: skip
    drawn = (moved("prod-2/stream", -250, 4_000_000),)
    book(shop, rated(60, sponsored_octets=750, charged_octets=250, sponsorships=paid, movements=drawn))
    return shop


def sums(engine):
    with reading(engine) as connection:
        return [tuple(item) for item in sponsored_sums(connection)]


def test_an_order_names_the_campaigns_that_paid(tube):
    made = ask(tube, "void", SPONSORED)
    [command] = sent(tube)
    assert command.line.sponsorships == made.lines[0].sponsorships
    assert [msgspec.structs.astuple(item) for item in command.line.sponsorships] == [
        ("cup", 600, 600, 3), ("spring", 150, 0, 0),
    ]  # fmt: skip


def test_what_a_campaign_got_back_is_off_its_bill_and_listed_with_the_cause(tube):
    assert sums(tube) == [("cup", 600, 600, 0, 3), ("dry", 0, 0, 0, 0), ("spring", 150, 0, 0, 0)]
    ask(tube, "void", SPONSORED)
    back = ask(tube, "void", SPONSORED).lines[0].sponsorships
    book(tube, refunded(70, SPONSORED, "c-1", octets=1000, charged_octets=250, sponsored_octets=750, sponsorships=back))
    assert sums(tube) == [("cup", 0, 0, 600, 0), ("dry", 0, 0, 0, 0), ("spring", 0, 0, 150, 0)]
    assert [(item.campaign_id, item.corrects, item.cause, item.octets) for item in sponsor_refunds(tube, "acc-1")] == [
        ("cup", SPONSORED, "c-1", 600), ("spring", SPONSORED, "c-1", 150),
    ]  # fmt: skip
    again = (Sponsorship(campaign_id="spring", octets=100),)
    pair = {"corrects": SPONSORED, "cause": "c-1", "charged_octets": 900, "sponsored_octets": 100, "movements": ()}
    book(tube, rated(71, usage_id="c-0-70-70-1", sponsorships=again, **pair))
    assert sums(tube)[2] == ("spring", 100, 0, 150, 0)


def test_a_whole_refund_goes_to_the_sponsors_too_and_a_part_to_the_subscriber_alone(tube):
    assert not ask(tube, "refund", SPONSORED, octets=10, dry_run=True).sponsored
    made = ask(tube, "refund", SPONSORED)
    assert (made.octets, made.sponsored) == (250, True)
    [command] = sent(tube)
    assert (command.octets, command.sponsored) == (250, True)
    back = {"octets": 1000, "charged_octets": 250, "sponsored_octets": 750, "sponsorships": made.lines[0].sponsorships}
    book(tube, refunded(70, SPONSORED, "c-1", movements=(moved("prod-2/stream", 250, 4_000_250),), **back))
    with pytest.raises(CorrectionRefused, match="nothing left to refund"):
        ask(tube, "refund", SPONSORED, name="c-2")


def test_a_row_that_only_sponsors_paid_for_can_be_refunded(shop):
    paid = (Sponsorship(campaign_id="cup", octets=1000),)
    book(
        shop, rated(60, treatment="sponsored", sponsored_octets=1000, charged_octets=0, sponsorships=paid, movements=())
    )
    made = ask(shop, "refund", SPONSORED)
    assert (made.amount, made.octets, made.sponsored) == ("0", 0, True)


def test_flows_that_came_too_late_are_listed(shop):
    late = {"cause": "late", "treatment": "not_charged", "charged_octets": 0, "not_charged_octets": 1000}
    book(shop, rated(70, movements=(), **late))
    assert [row["usage_id"] for row in late_usage(shop)] == ["f-0-70-70-0"]
    assert late_usage(shop, "acc-2") == []


@pytest.mark.parametrize("whose", [None, "basic"])
def test_a_row_of_a_price_that_two_offerings_have_is_rated_again_only_where_it_says_whose(shop, whose):
    parts = catalogue().model_dump(mode="json", exclude_defaults=True)
    dear = {"id": "oob", "amount": "1", "scope": {"applications": ["netflix"]}}
    offerings = [
        {**item, "usage_prices": [dear]} if item["id"] == "stream-pack" else item for item in parts["offerings"]
    ]
    publish_catalogue(shop, catalogue("v2", offerings=offerings))
    book(shop, rated(70, catalogue_version="v2", price_id="oob", price_offering_id=whose, movements=()))
    out, again = left_out(shop)
    why = "was sold at price 'oob', which basic and stream-pack have, and does not say whose it was; refund it"
    assert out.get("f-0-70-70-0") == (why if whose is None else None)
    assert ("f-0-70-70-0" in again) is (whose is not None)
