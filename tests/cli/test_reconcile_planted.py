"""Each check of the reconciliation is tripped by the violation that it is about, planted into books that are right."""

from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from schemas import topics
from schemas.command import ChangeProfile, EmitUsage
from services.cli.reconcile import CHECKS
from tests.cli.books import busy_world, reconcile, usage_of
from tests.cli.fakes import FakeLedger
from tests.cli.world import CAMPAIGN, GRANT, World

Plant = Callable[[World], FakeLedger | None]
PLANTED: list[tuple[str, str, Plant]] = []


def plants(check: str) -> Callable[[Plant], Plant]:
    """Register a violation that has to trip `check`."""

    def register(plant: Plant) -> Plant:
        PLANTED.append((check, plant.__name__, plant))
        return plant

    return register


def of(account: str) -> Callable[[dict[str, object]], bool]:
    return lambda fields: fields.get("account_id") == account


@plants("outputs_readable")
def a_decision_breaks_its_contract(world: World) -> None:
    world.change(topics.DECISIONS, octets=-1)


@plants("outputs_readable")
def a_decided_flow_record_is_no_flow_record(world: World) -> None:
    world.change(topics.FLOWS, of("alice"), octets_up="many")


@plants("outputs_readable")
def a_movement_is_no_whole_number(world: World) -> None:
    moved = {"bucket_id": "p1/data", "unit": "octets", "amount": "-0.5", "remaining": "1"}
    world.change(topics.USAGE, usage_of("alice"), movements=[moved])


@plants("outputs_readable")
def a_price_is_finer_than_micro_units(world: World) -> None:
    price = {"price_id": "oob", "currency": "EUR", "amount": "0.0000001", "octets_from": 0, "octets_to": 5}
    world.change(topics.DECISIONS, lambda fields: "price" in fields, price=price)


@plants("outputs_readable")
def a_state_cannot_be_decoded(world: World) -> None:
    world.afterwards.append(lambda: world.append(topics.STATE, 0, b"a/alice", b"\x93\x01"))


@plants("flows_accounted")
def a_decision_is_lost(world: World) -> None:
    world.remove(topics.DECISIONS, lambda fields: fields["record_id"] == "r-2")


@plants("flows_accounted")
def a_dead_letter_is_lost(world: World) -> None:
    partition, index = world.find(topics.DEAD_LETTERS)
    world.flow(world.accounts["alice"], 1)
    world.flow(world.accounts["bob"], 1)
    world.flow(world.accounts["carol"], 1)
    del world.log.topics[topics.DEAD_LETTERS].records[partition][index]


@plants("flows_accounted")
def a_decided_record_has_a_dead_letter_too(world: World) -> None:
    alice = world.accounts["alice"]
    offset = world.flow(alice, 5)
    world.dead_letter(topics.FLOWS, alice.partition, offset, "invalid_field")


@plants("flows_accounted")
def a_decision_has_no_record(world: World) -> None:
    world.remove(topics.FLOWS, of("alice"))


@plants("flows_accounted")
def a_decision_names_an_offset_behind_the_end(world: World) -> None:
    alice = world.accounts["alice"]
    world.change(topics.DECISIONS, of("alice"), decision_id=f"{alice.partition}-100000000000")


@plants("decision_ids_once")
def a_record_is_decided_twice(world: World) -> None:
    world.repeat(topics.DECISIONS)


@plants("record_ids_once")
def a_duplicate_is_charged(world: World) -> None:
    world.flow(world.accounts["alice"], 40, record_id="r-1")


@plants("duplicates_decided")
def a_new_record_is_taken_for_a_duplicate(world: World) -> None:
    world.refuse(world.accounts["alice"], "duplicate", record_id="never-seen")


@plants("dead_letter_ids_once")
def a_record_is_refused_twice(world: World) -> None:
    world.repeat(topics.DEAD_LETTERS)


@plants("decisions_in_order")
def two_decisions_change_places(world: World) -> None:
    records = world.log.topics[topics.DECISIONS].records[world.accounts["alice"].partition]
    first, second = records[0], records[1]
    records[0] = first._replace(key=second.key, value=second.value)
    records[1] = second._replace(key=first.key, value=first.value)


@plants("one_writer")
def an_output_has_the_wrong_key(world: World) -> None:
    partition, index = world.find(topics.DECISIONS)
    records = world.log.topics[topics.DECISIONS].records[partition]
    records[index] = records[index]._replace(key=b"mallory")


@plants("one_writer")
def a_decision_is_of_another_lane(world: World) -> None:
    world.change(topics.DECISIONS, decision_id="7-0")


@plants("one_writer")
def an_account_is_decided_in_two_lanes(world: World) -> None:
    alice = world.accounts["alice"]
    alice.partition = 1 - alice.partition
    world.flow(alice, 5)


@plants("one_writer")
def a_dead_letter_is_named_for_another_record(world: World) -> None:
    world.change(topics.DEAD_LETTERS, dead_letter_id="ott.flows.v1-0-12345")


@plants("commands_accounted")
def a_command_is_lost(world: World) -> None:
    alice = world.accounts["alice"]
    world.publish_command(alice, ChangeProfile, segment="group")
    world.command(alice, EmitUsage)


@plants("commands_applied_once")
def a_command_moves_a_balance_twice(world: World) -> None:
    partition, index = world.find(topics.USAGE, usage_of("bob", "credit"))
    row = msgspec.json.decode(world.log.topics[topics.USAGE].records[partition][index].value or b"")
    offset = world.command(world.accounts["bob"], ChangeProfile)
    again = {"usage_id": f"c-{partition}-{offset}-{offset}-0", "first_offset": offset, "last_offset": offset}
    world.append(topics.USAGE, partition, b"bob", {**row, **again})


@plants("commands_applied_once")
def a_refused_command_moves_a_balance(world: World) -> None:
    partition, index = world.find(topics.USAGE, usage_of("bob", "credit"))
    row = msgspec.json.decode(world.log.topics[topics.USAGE].records[partition][index].value or b"")
    world.dead_letter(topics.COMMANDS, partition, row["first_offset"], "refused_command")


@plants("decision_parts")
def a_part_of_a_decision_is_missing(world: World) -> None:
    world.change(topics.DECISIONS, lambda fields: fields["treatment"] == "free", free_octets=99)


@plants("charges_explained")
def a_draw_is_left_out_of_the_decision(world: World) -> None:
    world.change(topics.DECISIONS, lambda fields: "draws" in fields, draws=[])


@plants("volume_by_subscriber")
def a_record_was_bigger_than_its_decision(world: World) -> None:
    world.change(topics.FLOWS, of("carol"), octets_up=12_345)


@plants("volume_by_subscriber")
def a_decision_is_about_another_subscriber(world: World) -> None:
    world.change(topics.DECISIONS, of("alice"), subscriber_id="carol.s")


@plants("volume_by_subscriber")
def the_sampling_rate_was_forgotten(world: World) -> None:
    world.change(topics.FLOWS, lambda fields: fields.get("sampling_rate") == 10, sampling_rate=1)


@plants("usage_by_account")
def a_row_of_rated_usage_is_lost(world: World) -> None:
    world.remove(topics.USAGE, lambda fields: fields.get("free_octets") == 100)


@plants("usage_by_account")
def gathered_usage_is_lost(world: World) -> None:
    world.afterwards.append(lambda: world.change_state(world.accounts["carol"], pending=()))


@plants("money_by_account")
def rated_usage_charges_too_much(world: World) -> None:
    world.change(topics.USAGE, lambda fields: "price_id" in fields, amount="0.5")


@plants("money_by_account")
def a_connection_is_decided_and_never_rated(world: World) -> None:
    price = {"price_id": "chat", "currency": "EUR", "amount": "0.01", "connections_from": 0, "connections_to": 1}
    world.change(topics.DECISIONS, connection=price)


@plants("money_by_account")
def rated_usage_is_in_another_currency(world: World) -> None:
    world.change(topics.USAGE, lambda fields: "price_id" in fields, currency="USD")


@plants("draws_by_bucket")
def rated_usage_draws_from_another_bucket(world: World) -> None:
    moved = {"bucket_id": "p2/data", "unit": "octets", "amount": "-300", "remaining": "700"}
    world.change(topics.USAGE, lambda fields: fields.get("charged_octets") == 300, movements=[moved])


@plants("corrections_even")
def a_correction_charges_more_than_it_took_back(world: World) -> None:
    world.correct(world.accounts["alice"], world.flow(world.accounts["alice"], 10), again=11)


@plants("corrections_even")
def a_flow_is_refunded_and_not_charged_again(world: World) -> None:
    world.remove(topics.USAGE, lambda fields: fields.get("cause") == "reclassified" and fields["kind"] == "usage")


@plants("corrections_once")
def a_row_is_corrected_by_two_commands(world: World) -> None:
    corrected = {"corrects": "f-0-1-1-0", "octets": 0, "free_octets": 0, "charged_octets": 0, "movements": []}
    for kind in ("usage", "refund"):
        for cause in ("cmd-1", "cmd-2"):
            world.repeat(topics.USAGE, lambda fields, kind=kind: fields["kind"] == kind and "corrects" in fields)
            world.change(topics.USAGE, lambda fields, kind=kind: fields["kind"] == kind, cause=cause, **corrected)


@plants("usage_ids_once")
def a_row_is_told_twice(world: World) -> None:
    world.repeat(topics.USAGE)


@plants("movements_add_up")
def a_movement_is_left_out(world: World) -> None:
    world.change(topics.USAGE, lambda fields: fields.get("charged_octets") == 300, movements=[])


@plants("buckets_in_state")
def the_state_forgets_a_draw(world: World) -> None:
    alice = world.accounts["alice"]
    alice.buckets["p1/data"] = GRANT


@plants("buckets_in_state")
def the_state_has_money_from_nowhere(world: World) -> None:
    world.accounts["bob"].balance += 1


@plants("buckets_in_state")
def a_bucket_was_never_granted(world: World) -> None:
    world.accounts["carol"].buckets["p9/bonus"] = 1


@plants("no_bucket_negative")
def a_bucket_of_the_state_is_negative(world: World) -> None:
    world.accounts["alice"].buckets["p1/data"] = -1


@plants("no_bucket_negative")
def a_movement_leaves_less_than_nothing(world: World) -> None:
    moved = {"bucket_id": "p1/data", "unit": "octets", "amount": "-300", "remaining": "-5"}
    world.change(topics.USAGE, lambda fields: fields.get("charged_octets") == 300, movements=[moved])


@plants("no_bucket_negative")
def a_prepaid_balance_is_negative(world: World) -> None:
    world.accounts["bob"].balance = -1


@plants("state_of_every_account")
def the_changelog_lost_an_account(world: World) -> None:
    del world.accounts["carol"]


@plants("changelog_is_live_state")
def the_worker_holds_what_the_changelog_does_not(world: World) -> None:
    world.afterwards.append(lambda: world.accounts["alice"].recent.append("not-in-the-changelog"))


@plants("changelog_is_live_state")
def the_worker_does_not_know_an_account(world: World) -> None:
    world.afterwards.append(lambda: world.accounts.pop("carol"))


@plants("notification_ids_once")
def a_notification_is_told_twice(world: World) -> None:
    world.repeat(topics.NOTIFICATIONS)


@plants("notifications_complete")
def a_notification_is_lost(world: World) -> None:
    world.remove(topics.NOTIFICATIONS)


@plants("update_ids_once")
def an_update_is_told_twice(world: World) -> None:
    world.repeat(topics.ENFORCEMENT)


@plants("updates_complete")
def an_update_is_lost(world: World) -> None:
    world.remove(topics.ENFORCEMENT)


@plants("catalogue_known")
def a_decision_names_an_unpublished_version(world: World) -> None:
    world.change(topics.DECISIONS, catalogue_version="2031-01-01.1")


@plants("catalogue_known")
def a_decision_names_no_version(world: World) -> None:
    world.change(topics.DECISIONS, catalogue_version="")


@plants("ledger_holds_usage_once")
def the_ledger_lacks_a_row(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.held.pop()
    return ledger


@plants("ledger_holds_usage_once")
def the_ledger_booked_a_row_twice(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.held.append(ledger.held[0])
    return ledger


@plants("ledger_holds_usage_once")
def the_ledger_holds_a_row_that_nobody_told(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.held.append(("f-0-1-1-9", "alice", "usage", 1, 0, 0, 0, 0, 0, None))
    return ledger


@plants("ledger_by_account")
def the_ledger_changed_an_amount(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.held[-1] = (*ledger.held[-1][:8], 77, "EUR")
    return ledger


@plants("ledger_by_account")
def the_ledger_changed_a_volume(world: World) -> FakeLedger:
    ledger = world.ledger()
    row = ledger.held[-1]
    ledger.held[-1] = (*row[:3], row[3] + 1, *row[4:])
    return ledger


@plants("ledger_by_bucket")
def the_ledger_lost_a_movement(world: World) -> FakeLedger:
    ledger = world.ledger()
    account, bucket, unit, amount = ledger.totals[0]
    ledger.totals[0] = ledger.served[0] = (account, bucket, unit, amount + 1)
    return ledger


@plants("ledger_balances")
def the_ledger_serves_a_wrong_balance(world: World) -> FakeLedger:
    ledger = world.ledger()
    account, bucket, unit, amount = ledger.served[0]
    ledger.served[0] = (account, bucket, unit, amount + 1)
    return ledger


def sponsored(fields: dict[str, object]) -> bool:
    return bool(fields.get("sponsorships"))


@plants("sponsors_named")
def a_sponsored_flow_names_no_campaign(world: World) -> None:
    world.change(topics.DECISIONS, sponsored, sponsorships=[])


@plants("sponsored_by_campaign")
def rated_usage_names_another_campaign(world: World) -> None:
    world.change(topics.USAGE, sponsored, sponsorships=[{"campaign_id": "other", "octets": 700}])


@plants("ledger_by_campaign")
def the_ledger_lost_what_a_campaign_paid_for(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.paid = [(name, octets - 1, drawn, ended) for name, octets, drawn, ended in ledger.paid]
    return ledger


@plants("sponsored_by_campaign")
def rated_usage_forgets_a_connection_of_a_campaign(world: World) -> None:
    row = next(row for row in world.log.topics[topics.USAGE].records[0] if b"sponsorships" in (row.value or b""))
    paid = msgspec.json.decode(row.value or b"")["sponsorships"][0]
    world.change(topics.USAGE, sponsored, sponsorships=[{**paid, "connections": 0}])


@plants("ledger_by_campaign")
def the_ledger_counted_a_connection_twice(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.paid = [(name, octets, drawn, ended + 1) for name, octets, drawn, ended in ledger.paid]
    return ledger


@plants("leases_drawn")
def a_flow_drew_from_a_budget_and_the_lease_does_not_know(world: World) -> None:
    lane = world.accounts["alice"].partition
    world.leases[lane] = replace(world.leases[lane], used_octets=world.leases[lane].used_octets - 1)


@plants("leases_drawn")
def a_lane_holds_less_than_nothing(world: World) -> FakeLedger:
    world.give_back(0, 10_000)
    return world.ledger()


@plants("lease_requests_once")
def a_request_is_said_twice(world: World) -> None:
    world.repeat(topics.LEASE_REQUESTS)


@plants("lease_requests_once")
def the_last_request_is_lost(world: World) -> None:
    world.remove(topics.LEASE_REQUESTS)


@plants("lease_requests_once")
def the_first_request_is_lost(world: World) -> None:
    world.remove(topics.LEASE_REQUESTS, lambda fields: fields["sequence"] == 1)


@plants("budgets_kept")
def more_is_out_than_the_budget(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.limits = [(CAMPAIGN, 100, granted, returned) for _, _, granted, returned in ledger.limits]
    return ledger


@plants("budgets_kept")
def the_ledger_has_more_sponsored_than_was_ever_granted(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.paid = [(CAMPAIGN, octets, 10**6, ended) for _, octets, _, ended in ledger.paid]
    return ledger


@plants("leases_granted")
def a_lane_holds_what_nobody_granted(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.leases = [(*lease[:3], lease[3] - 1, *lease[4:]) for lease in ledger.leases]
    return ledger


@plants("leases_granted")
def the_owner_forgot_what_came_back(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.leases = [(*lease[:4], lease[4] - 1, lease[5]) for lease in ledger.leases]
    return ledger


@plants("leases_granted")
def the_owner_counts_more_used_than_the_lane(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.leases = [(*lease[:5], lease[5] + 1) for lease in ledger.leases]
    return ledger


@plants("commands_accounted")
def a_grant_is_lost_on_its_way_into_the_lane(world: World) -> None:
    lane = world.accounts["bob"].partition
    world.leases[lane] = replace(world.leases[lane], answered=0)


@plants("nothing_waiting")
def a_grant_is_on_its_way(world: World) -> FakeLedger:
    ledger = world.ledger()
    ledger.leases = [(*lease[:3], lease[3] + 7, *lease[4:]) for lease in ledger.leases]
    return ledger


@plants("nothing_waiting")
def a_record_is_not_yet_decided(world: World) -> None:
    alice = world.accounts["alice"]
    world.append(topics.FLOWS, alice.partition, b"alice", world.flow_record(alice, 10))


@plants("nothing_waiting")
def a_command_is_not_yet_applied(world: World) -> None:
    world.publish_command(world.accounts["alice"], EmitUsage)


@plants("nothing_waiting")
def the_ledger_is_behind(world: World) -> FakeLedger:
    return world.ledger(behind=1)


@pytest.mark.parametrize(
    ("check", "plant"), [pytest.param(check, plant, id=f"{check}-{name}") for check, name, plant in PLANTED]
)
def test_a_planted_violation_trips_its_check(check: str, plant: Plant) -> None:
    world = busy_world()
    ledger = plant(world)
    world.close()
    report = reconcile(world, ledger, strict=True)
    assert not report.ok
    found = report.check(check)
    assert found.status == "violated"
    assert found.violations >= 1
    assert found.offenders
    assert found.meaning == CHECKS[check].meaning


def test_every_check_has_a_planted_violation() -> None:
    assert {check for check, _, _ in PLANTED} == set(CHECKS)
