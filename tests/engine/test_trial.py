"""A trial is told at its start and before its end, and never turns into a charge by itself."""

from typing import Any

import pytest

from schemas.usage import RatedUsage
from tests.engine.world import RefusedError, World, catalogue, micros, ms

FILM: dict[str, Any] = {
    "id": "film", "trial_days": 7, "trial_reminder_days": 2,
    "prices": [
        {"id": "fee", "type": "recurring", "amount": "30", "proration": "daily"},
        {"id": "setup", "type": "one_time", "amount": "1"},
    ],
    "allowances": [{"id": "video", "octets": 1000}],
}  # fmt: skip


def fees(world: World) -> list[RatedUsage]:
    return [row for row in world.usage if row.kind == "fee"]


def test_a_trial_serves_at_once_and_costs_nothing() -> None:
    world = World(catalogue(FILM), at="2026-03-10 12:00", payment="prepaid")
    name = world.activate("film")
    assert world.flow(400).charged_octets == 400
    assert world.left(f"{name}/video") == 600
    assert not fees(world)


def test_a_trial_that_would_be_over_before_it_begins_is_refused() -> None:
    """It would end with the next thing that is due, and be free until then."""
    world = World(catalogue(FILM), at="2026-03-20 12:00", payment="prepaid")
    with pytest.raises(RefusedError, match=r"ended: .* 7 days is over"):
        world.activate("film", start_ms=ms("2026-03-13 12:00"))
    name = world.activate("film", start_ms=ms("2026-03-13 12:01"))
    world.timer("2026-03-20 12:01")
    assert world.account is not None
    assert name not in {product.product_id for product in world.account.products}


def test_it_is_told_at_its_start_and_before_its_end() -> None:
    world = World(catalogue(FILM), at="2026-03-10 12:00")
    world.activate("film")
    (started,) = world.told("trial_started")
    assert "30 EUR a cycle and 1 EUR once" in str(started.detail)
    assert not world.told("trial_ending")
    world.timer("2026-03-15 11:59")
    assert not world.told("trial_ending")
    world.timer("2026-03-15 12:00")
    world.timer("2026-03-16 12:00")
    assert len(world.told("trial_ending")) == 1


def test_who_says_nothing_is_charged_nothing_and_the_product_ends() -> None:
    world = World(catalogue(FILM), at="2026-03-10 12:00")
    world.activate("film")
    world.timer("2026-03-17 12:00")
    assert world.account is not None
    assert not world.account.products
    assert len(world.told("expired")) == 1
    world.timer("2026-06-01 00:00")
    assert not fees(world)


def test_a_trial_over_the_end_of_a_cycle_stays_free() -> None:
    world = World(catalogue(FILM), at="2026-03-29 12:00")
    name = world.activate("film")
    world.flow(1000)
    world.timer("2026-04-01 00:00")
    assert world.left(f"{name}/video") == 1000
    assert not fees(world)


def test_what_is_confirmed_goes_on_and_is_charged_from_the_end_of_the_trial() -> None:
    world = World(catalogue(FILM), at="2026-04-10 12:00")
    name = world.activate("film")
    world.flow(400)
    world.confirm(name, at="2026-04-12 12:00")
    world.confirm(name, at="2026-04-13 12:00")
    assert not fees(world)
    world.timer("2026-04-17 12:00")
    assert [row.amount for row in fees(world)] == ["14", "1"]
    assert world.left(f"{name}/video") == 600
    assert not world.told("trial_ending")
    world.timer("2026-05-01 00:00")
    assert [row.amount for row in fees(world)] == ["14", "1", "30"]


def test_what_is_confirmed_and_cannot_be_paid_ends() -> None:
    world = World(catalogue(FILM), at="2026-04-10 12:00", payment="prepaid")
    world.confirm(world.activate("film"))
    world.credit("14.999999")
    world.timer("2026-04-17 12:00")
    assert world.account is not None
    assert not world.account.products
    assert not fees(world)
    assert len(world.told("refused")) == 1


def test_a_trial_can_be_left_at_any_time() -> None:
    world = World(catalogue(FILM), at="2026-04-10 12:00")
    name = world.activate("film")
    world.confirm(name)
    world.cancel(name)
    world.timer("2026-05-02 00:00")
    assert not fees(world)


def test_an_offering_is_tried_once() -> None:
    world = World(catalogue(FILM), at="2026-04-10 12:00")
    world.cancel(world.activate("film"))
    world.activate("film")
    assert [row.amount for row in fees(world)] == ["21", "1"]
    assert "22 EUR" in str(world.told("receipt")[0].detail)


def test_offerings_tried_since_do_not_bring_a_trial_back() -> None:
    world = World(catalogue(FILM, {**FILM, "id": "series"}), at="2026-04-10 12:00")
    for name in ("film", "series"):
        world.cancel(world.activate(name))
    assert not fees(world)
    world.activate("film")
    assert fees(world)


def test_two_orders_do_not_make_two_trials() -> None:
    world = World(catalogue(FILM), at="2026-04-10 12:00")
    for _ in range(2):
        world.activate("film", start_ms=ms("2026-04-20 00:00"))
    assert world.account is not None
    assert [product.trial for product in world.account.products] == ["running", ""]


def test_a_term_follows_the_trial() -> None:
    world = World(catalogue({**FILM, "term_days": 10}), at="2026-04-10 12:00")
    world.activate("film")
    assert world.account is not None
    assert world.account.products[0].end_ms == ms("2026-04-27 12:00")


def test_only_a_trial_can_be_confirmed() -> None:
    world = World(catalogue({"id": "plain"}))
    name = world.activate("plain")
    for unknown in (name, "never"):
        with pytest.raises(RefusedError) as refused:
            world.confirm(unknown)
        assert refused.value.cause == "not_on_trial"


def test_the_trial_of_a_plan_owes_no_rent() -> None:
    plan = {"id": "plan", "kind": "base_plan", "trial_days": 10, "minimum_rent": "30"}
    world = World(catalogue(plan), at="2026-04-01 00:00")
    world.confirm(world.activate("plan"))
    world.timer("2026-05-02 00:00")
    assert sum(micros(row.amount) for row in fees(world)) == micros("20")
