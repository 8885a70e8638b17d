"""What sponsors owe: exact sums, terms of each catalogue version, refunds off, rounded once."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.catalogue import Campaign, SettlementTerms
from schemas.decision import Sponsorship
from services.rating.catalogue_store import publish_catalogue
from services.rating.repositories.settlements import Share, StoredCampaign
from services.rating.settlement import SettlementRefused, agreements, draw_up, rounded, settle
from tests.engine.world import World, catalogue, ms
from tests.rating.seeds import BOOKED_UNTIL_MS, book
from tests.rating.usage_records import RATED_AT_MS, rated

DAY_MS = 86_400_000
FROM_MS, UNTIL_MS = RATED_AT_MS - DAY_MS, RATED_AT_MS + DAY_MS


def campaign(campaign_id="c", sponsor="s", **fields):
    return {"id": campaign_id, "sponsor_id": sponsor, **fields}


def stored(version, *campaigns):
    return [StoredCampaign(version, "EUR", item) for item in campaigns]


def share(octets=0, connections=0, *, version="v1", campaign_id="c", refund=False):
    return Share(campaign_id, version, "row-sponsor", refund, octets, connections)


def both(**changes):
    terms = {"amount_per_gb": "0.40", "amount_per_connections": "0.50", "per_connections": 1000}
    return {"settlement": {**terms, **changes}}


# -- what a catalogue may say


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({}, "give amount_per_gb, amount_per_connections, or both"),
        ({"amount_per_gb": "0"}, "greater than 0"),
        ({"amount_per_connections": "-1"}, "greater than"),
        ({"amount_per_connections": "1", "per_connections": 0}, "greater than or equal to 1"),
        ({"amount_per_gb": "1", "per_connections": 5}, "per_connections is 5, and amount_per_connections"),
        ({"amount_per_gb": "0.0000001"}, "more than six decimal places"),
        ({"amount": "1"}, "Extra inputs"),
    ],
)
def test_terms_that_bill_nothing_are_refused(terms, said):
    with pytest.raises(ValidationError, match=said):
        Campaign.model_validate(campaign(settlement=terms))


@pytest.mark.parametrize(
    ("fields", "terms"),
    [
        ({}, None),
        ({"budget": {"octets": 5}}, None),
        ({"budget": {"amount": "50", "amount_per_gb": "0.10"}}, {"amount_per_gb": "0.10"}),
        (
            {"budget": {"amount": "50", "amount_per_gb": "0.10"}, "settlement": {"amount_per_connections": "1"}},
            {"amount_per_connections": "1"},
        ),
    ],
)
def test_what_is_billed_is_the_settlement_else_what_the_budget_is_counted_by(fields, terms):
    wanted = None if terms is None else SettlementTerms.model_validate(terms)
    assert Campaign.model_validate(campaign(**fields)).terms() == wanted


# -- the statement


def test_volume_and_connections_are_lines_of_their_own():
    [line] = settle([share(2_500_000_000, 1_500)], agreements(stored("v1", campaign(**both()))))
    assert [(item.unit, item.quantity, item.amount_micros) for item in line.charges] == [
        ("octets", 2_500_000_000, 1_000_000), ("connections", 1_500, 750_000),
    ]  # fmt: skip
    assert (line.agreement.sponsor_id, line.agreement.currency, line.amount_micros) == ("s", "EUR", 1_750_000)


def test_what_went_back_is_off_before_anything_is_priced():
    agreed = agreements(stored("v1", campaign(**both())))
    [line] = settle([share(3 * 10**9, 2_000), share(10**9, 1_000, refund=True)], agreed)
    assert (line.octets, line.connections, line.returned_octets, line.returned_connections) == (
        2 * 10**9, 1_000, 10**9, 1_000,
    )  # fmt: skip
    assert line.amount_micros == 800_000 + 500_000


def test_without_terms_there_is_no_amount():
    [line] = settle([share(10, 2)], agreements(stored("v1", campaign())))
    assert (line.octets, line.connections, line.charges, line.amount_micros) == (10, 2, (), None)


def test_a_change_of_terms_gives_a_line_each_and_the_same_terms_in_two_versions_one():
    dearer = campaign(**both(amount_per_gb="0.80"))
    agreed = agreements(
        stored("b", campaign(**both())) + stored("a", campaign(**both(), name="renamed")) + stored("c", dearer)
    )
    lines = settle([share(10**9, version=name) for name in "abc"], agreed)
    assert [(line.catalogue_versions, line.octets) for line in lines] == [(("b", "a"), 2 * 10**9), (("c",), 10**9)]
    assert [line.amount_micros for line in lines] == [800_000, 800_000]


def test_a_campaign_that_changes_its_sponsor_is_billed_to_each():
    agreed = agreements(stored("v1", campaign(**both())) + stored("v2", campaign(sponsor="t", **both())))
    lines = settle([share(1, version="v1"), share(2, version="v2")], agreed)
    assert [(line.agreement.sponsor_id, line.octets) for line in lines] == [("s", 1), ("t", 2)]


def test_a_row_of_a_version_that_is_not_stored_is_shown_and_not_priced():
    [line] = settle([share(5, 1, version="gone")], agreements(stored("v1", campaign(**both()))))
    assert (line.agreement.sponsor_id, line.octets, line.amount_micros) == ("row-sponsor", 5, None)


@pytest.mark.parametrize(
    ("number", "divisor", "whole"),
    [
        (0, 7, 0),
        (1, 2, 0),
        (3, 2, 2),
        (5, 2, 2),
        (7, 3, 2),
        (8, 3, 3),
        (-1, 2, 0),
        (-3, 2, -2),
        (10**40 + 1, 10, 10**39),
    ],
)
def test_halves_are_rounded_to_the_even_one(number, divisor, whole):
    assert rounded(number, divisor) == whole == round(Fraction(number, divisor))


PAID = st.tuples(st.integers(0, 10**13), st.integers(0, 10**6), st.booleans(), st.integers(0, 9))
"""Octets, connections, whether it is a refund, and the day."""


@given(rows=st.lists(PAID, max_size=20), ends=st.sets(st.integers(1, 9), max_size=4))
def test_sub_periods_add_up_to_the_period(rows, ends):
    agreed = agreements(stored("v1", campaign(**both())))
    bounds = [0, *sorted(ends), 10]

    def quantities(first, last):
        found = [share(octets, many, refund=back) for octets, many, back, day in rows if first <= day < last]
        lines = settle(found, agreed)
        return [sum(line.octets for line in lines), sum(line.connections for line in lines)]

    parts = [quantities(first, last) for first, last in itertools.pairwise(bounds)]
    assert [sum(column) for column in zip(*parts, strict=True)] == quantities(0, 10)


@given(
    octets=st.lists(st.integers(0, 10**12), min_size=1, max_size=8),
    connections=st.lists(st.integers(0, 10**5), min_size=1, max_size=8),
)
def test_how_traffic_is_spread_over_rows_changes_no_bill(octets, connections):
    agreed = agreements(stored("v1", campaign(**both(amount_per_gb="0.333333", per_connections=7))))
    [whole] = settle([share(sum(octets), sum(connections))], agreed)
    [split] = settle([share(part) for part in octets] + [share(0, part) for part in connections], agreed)
    assert split == whole


# -- from the ledger


def paid(number, octets, connections, campaign_id="c", **fields):
    """A row that a campaign paid for; by one campaign only."""
    sponsorships = (Sponsorship(campaign_id=campaign_id, octets=octets, connections=connections),)
    values = {"treatment": "sponsored", "octets": octets, "sponsored_octets": octets, "charged_octets": 0}
    return rated(number, **{**values, "sponsor_id": "s", "sponsorships": sponsorships, "movements": (), **fields})


def published(engine, version, *campaigns):
    publish_catalogue(engine, catalogue(version=version, campaigns=list(campaigns)))


def test_a_statement_is_drawn_up_from_the_ledger(engine):
    published(engine, "v1", campaign(**both()), campaign("d", "t", budget={"amount": "9", "amount_per_gb": "2"}))
    published(engine, "v2", campaign(**both(amount_per_gb="0.80")), campaign("d", "t"))
    book(
        engine,
        paid(1, 10**9, 600),
        paid(2, 10**9, 400),
        paid(3, 5 * 10**8, 100, catalogue_version="v2"),
        paid(4, 10**9, 400, usage_id="c-0-4-4-0", kind="refund", corrects="f-0-2-2-0"),
        paid(5, 2**62, 2**40, campaign_id="d", sponsor_id="t"),
        paid(6, 7, 1, campaign_id="d", sponsor_id="t", catalogue_version="v2"),
        rated(7),
    )
    statement = draw_up(engine, FROM_MS, UNTIL_MS)
    assert [
        (line.agreement.sponsor_id, line.agreement.campaign_id, line.catalogue_versions, line.octets, line.connections,
         line.amount_micros)
        for line in statement.lines
    ] == [
        ("s", "c", ("v1",), 10**9, 600, 700_000),
        ("s", "c", ("v2",), 5 * 10**8, 100, 450_000),
        ("t", "d", ("v1",), 2**62, 2**40, rounded(2**62 * 2_000_000, 10**9)),
        ("t", "d", ("v2",), 7, 1, None),
    ]  # fmt: skip
    assert (statement.lines[0].returned_octets, statement.lines[0].returned_connections) == (10**9, 400)
    assert statement.totals("s") == {"EUR": 1_150_000}
    assert statement.booked_until_ms in (0, BOOKED_UNTIL_MS)
    assert draw_up(engine, FROM_MS, UNTIL_MS, sponsor_id="t").lines == statement.lines[2:]
    assert draw_up(engine, FROM_MS, UNTIL_MS, campaign_id="c").lines == statement.lines[:2]
    assert draw_up(engine, FROM_MS, UNTIL_MS, sponsor_id="t", campaign_id="c").lines == ()


def test_a_row_belongs_to_the_period_in_which_its_usage_ended(engine):
    published(engine, "v1", campaign(**both()))
    book(engine, *(paid(number, 10**number, 1, start_ms=FROM_MS, end_ms=FROM_MS + number) for number in (1, 2, 3)))

    def octets(from_ms, until_ms):
        return sum(line.octets for line in draw_up(engine, FROM_MS + from_ms, FROM_MS + until_ms).lines)

    assert [octets(0, 1), octets(1, 2), octets(2, 4), octets(1, 4)] == [0, 10, 1100, 1110]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sponsor_id": "x"}, "--sponsor: no sponsor is called 'x'; known are s, t"),
        ({"campaign_id": "x"}, "--campaign: no campaign is called 'x'; known are c, d"),
    ],
)
def test_who_is_not_known_is_told_who_is(engine, options, said):
    published(engine, "v1", campaign())
    published(engine, "v2", campaign("d", "t"))
    with pytest.raises(SettlementRefused, match=said):
        draw_up(engine, FROM_MS, UNTIL_MS, **options)


def test_a_period_without_a_moment_and_a_ledger_without_campaigns_are_told(engine):
    with pytest.raises(SettlementRefused, match="--to: the period ends at or before its start"):
        draw_up(engine, FROM_MS, FROM_MS)
    with pytest.raises(SettlementRefused, match="no catalogue has had a sponsor yet"):
        draw_up(engine, FROM_MS, UNTIL_MS, sponsor_id="s")
    assert draw_up(engine, FROM_MS, UNTIL_MS).lines == ()


def test_a_messenger_settles_by_connections_from_the_flow_to_the_bill(engine):
    """Flows through the engine, rated usage into the ledger, and its statement."""
    partner = campaign("always-on", "chat-inc", settlement={"amount_per_connections": "0.50", "per_connections": 1000})
    rule = {"id": "chat", "charging": "sponsored", "campaign": "always-on", "scope": {"applications": ["whatsapp"]}}
    plan = {"id": "plan", "kind": "base_plan", "rules": ["chat"], "allowances": [{"id": "data", "octets": 1_000}]}
    tariff = catalogue(plan, rules=[rule], campaigns=[partner], version="v1")
    publish_catalogue(engine, tariff)
    world = World(tariff, at="2026-06-10 20:00")
    world.activate("plan")
    for _ in range(3):
        world.flow(200, "whatsapp", end_reason="active")
        world.flow(100, "whatsapp", end_reason="idle")
    world.flow(500, "youtube")
    world.emit()
    book(engine, *world.usage)
    [line] = draw_up(engine, ms("2026-06-01 00:00"), ms("2026-07-01 00:00")).lines
    assert (line.agreement.sponsor_id, line.octets, line.connections, line.amount_micros) == ("chat-inc", 900, 3, 1_500)
