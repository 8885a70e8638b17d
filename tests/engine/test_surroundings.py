"""Zones, data networks, congestion and suspicion: which rule traffic meets, and what a gateway is told of it."""

from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from schemas.catalogue_scopes import Zone
from services.engine.feed import CatalogueFeed, entries_of
from services.engine.surroundings import Map, Networks, network_identifier
from services.engine.tariff import compile_tariff
from tests.engine.world import World, catalogue, flow_record

ZONES = [
    {"id": "home", "home": True, "plmns": ["00101", "001002"]},
    {"id": "eu", "plmns": ["262", "208"]},
    {"id": "partner", "plmns": ["26201"]},
    {"id": "world", "rest": True},
]
DATA = {"id": "data", "octets": 1000}


def world_of(*rules: dict[str, Any], zones: list[dict[str, Any]] = ZONES, **plan: Any) -> World:
    offering = {"id": "plan", "allowances": [DATA], **plan, "rules": [rule["id"] for rule in rules]}
    made = World(catalogue(offering, rules=rules, zones=zones))
    made.activate("plan")
    return made


def reasons(world: World, **flow: Any) -> dict[str, str]:
    return {loser.rule_id: loser.reason for loser in world.flow(1, **flow).losers}


@pytest.mark.parametrize(
    ("plmn", "zone"),
    [
        (None, "home"), ("00101", "home"), ("001002", "home"), ("26201", "partner"), ("26202", "eu"),
        ("208310", "eu"), ("00102", "world"), ("310410", "world"), ("262011", "eu"),
    ],
)  # fmt: skip
def test_a_network_is_in_the_zone_that_names_it_most_closely(plmn: str | None, zone: str) -> None:
    places = Map(Zone.model_validate(item) for item in ZONES)
    assert places.zone_of(plmn) == zone
    world = world_of({"id": "there", "scope": {"zones": [zone]}}, {"id": "anywhere"})
    assert world.flow(1, serving_plmn=plmn).rule_id == "there"
    elsewhere = [item["id"] for item in ZONES if item["id"] != zone]
    world = world_of({"id": "elsewhere", "scope": {"zones": elsewhere}}, {"id": "anywhere"})
    assert reasons(world, serving_plmn=plmn) == {"elsewhere": "zone"}


def test_without_a_zone_for_the_rest_an_unlisted_network_is_at_home() -> None:
    places = Map([Zone(id="home", home=True), Zone(id="eu", plmns=("262",))])
    assert [places.zone_of(plmn) for plmn in (None, "00101", "26201")] == ["home", "home", "eu"]
    assert Map([Zone(id="eu", plmns=("262",))]).zone_of("00101") is None


@pytest.mark.parametrize(
    ("zones", "networks"),
    [
        ([], Networks()),
        (["partner"], Networks(("26201",), ())),
        (["eu"], Networks(("208", "262"), ("26201",))),
        (["world"], Networks(("*",), ("001002", "00101", "208", "262", "26201"))),
        (["world", "partner"], Networks(("26201", "*"), ("001002", "00101", "208", "262"))),
    ],
)  # fmt: skip
def test_a_gateway_is_told_networks_and_the_longest_entry_decides(zones: list[str], networks: Networks) -> None:
    places = Map(Zone.model_validate(item) for item in ZONES)
    assert places.networks_of(zones) == networks
    for plmn in ("00101", "26201", "26202", "208310", "310410"):
        told = {**dict.fromkeys(networks.unwanted, False), **dict.fromkeys(networks.wanted, True)}
        fitting = [entry for entry in (plmn, plmn[:3], "*") if entry in told]
        assert (told[fitting[0]] if fitting else not networks.wanted) == (not zones or places.zone_of(plmn) in zones)


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        ([{"id": "a", "home": True}, {"id": "b", "home": True}], "zone 'b' is home, and so is zone 'a'"),
        ([{"id": "a", "rest": True}, {"id": "b", "rest": True}], "zone 'b' is rest, and so is zone 'a'"),
        ([{"id": "a", "rest": True, "home": True}], "zone 'a' is home and rest"),
        ([{"id": "a", "plmns": ["262"]}, {"id": "b", "plmns": ["262"]}], "network '262', which zone 'a' lists already"),
        ([{"id": "a"}, {"id": "a"}], "zone 'a' is defined twice"),
        ([{"id": "a", "plmns": ["26"]}], "plmns"),
        ([], "names zone 'nowhere', which does not exist"),
    ],
)
def test_zones_that_contradict_are_refused(zones: list[dict[str, Any]], message: str) -> None:
    scope = {} if zones else {"zones": ["nowhere"]}
    with pytest.raises(ValidationError, match=message):
        catalogue({"id": "o", "allowances": [{**DATA, "scope": scope}]}, zones=zones)


def test_a_roaming_allowance_is_drawn_abroad_before_the_one_for_anywhere() -> None:
    roam = {"id": "roam", "octets": 100, "priority": 200, "scope": {"zones": ["eu"]}}
    world = world_of(allowances=[DATA, roam])
    world.flow(60, serving_plmn="26202")
    world.flow(60, serving_plmn="00101")
    assert (world.left("p1/roam"), world.left("p1/data")) == (40, 940)
    world.flow(60, serving_plmn="20801")
    assert (world.left("p1/roam"), world.left("p1/data")) == (0, 920)


@pytest.mark.parametrize(
    ("dnn", "fits"),
    [
        ("iot.operator", True), ("IoT.Operator", True), ("iot.operator.mnc001.mcc262.gprs", True),
        ("IOT.OPERATOR.MNC01.MCC001.GPRS", True), ("iot", False), ("internet", False), (None, False),
        ("x.iot.operator", False), ("iot.operator.gprs", False),
    ],
)  # fmt: skip
def test_a_data_network_is_its_network_identifier_in_any_case(dnn: str | None, fits: bool) -> None:
    world = world_of({"id": "things", "scope": {"dnns": ["IoT.operator"]}})
    assert reasons(world, dnn=dnn) == ({} if fits else {"things": "dnn"})
    assert network_identifier("Internet.mnc01.mcc262.gprs") == "internet"


@pytest.mark.parametrize(
    ("level", "rule_id"),
    [(None, "free"), (0, "free"), (1, "free"), (2, "slow"), (9, "slow"), (10, "shut"), (31, "shut")],
)
def test_congestion_chooses_the_rule_flow_by_flow(level: int | None, rule_id: str) -> None:
    world = world_of(
        {"id": "free", "max_congestion": 1, "charging": "free"},
        {"id": "slow", "min_congestion": 2, "max_congestion": 9, "qos": {"mbr_down_bps": 1000}},
        {"id": "shut", "min_congestion": 10, "gate_status": "closed"},
    )
    decision = world.flow(1, congestion_level=level)
    assert decision.rule_id == rule_id
    assert {loser.reason for loser in decision.losers} == {"congestion"}
    # None of them is for all traffic, so none takes the rest from the built-in rule; the gateway knows all four.
    assert world.gates() == {"free": "open", "slow": "open", "shut": "closed", "default": "open"}


@pytest.mark.parametrize(
    ("suspect", "seen", "reason"),
    [
        ("any", True, None), ("any", False, None), ("never", True, "suspect"), ("never", False, None),
        ("only", True, None), ("only", False, "not_suspect"),
    ],
)  # fmt: skip
def test_suspicion_can_be_asked_for_and_ruled_out(suspect: str, seen: bool, reason: str | None) -> None:
    world = world_of({"id": "r", "suspect": suspect, "charging": "free"})
    assert reasons(world, suspect=seen) == ({"r": reason} if reason else {})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"suspect": "only", "min_confidence": 1}, "suspect traffic has confidence 0"),
        ({"min_congestion": 5, "max_congestion": 4}, "min_congestion is above max_congestion"),
    ],
)
def test_a_rule_that_no_traffic_can_meet_is_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        catalogue(rules=[{"id": "r", **rule}])


def test_an_update_carries_what_the_gateway_must_look_at() -> None:
    scope = {"zones": ["eu"], "dnns": ["internet"], "services": ["call"], "rat_types": ["UTRA"]}
    world = world_of({"id": "r", "scope": scope, "min_congestion": 3, "max_congestion": 7, "suspect": "never"})
    told = next(update for update in world.updates if update.rule_id == "r")
    assert told.suspect == "never"
    assert (told.plmns, told.except_plmns, told.dnns) == (("208", "262"), ("26201",), ("internet",))
    assert (told.services, told.rat_types, told.min_congestion, told.max_congestion) == (("call",), ("UTRA",), 3, 7)


def test_a_zone_that_grows_is_told_to_the_gateway() -> None:
    rule = {"id": "r", "scope": {"zones": ["eu"]}}
    world = world_of(rule)
    grown = [*ZONES[:1], {"id": "eu", "plmns": ["262", "208", "222"]}, *ZONES[2:]]
    world.publish(
        catalogue({"id": "plan", "allowances": [DATA], "rules": ["r"]}, rules=[rule], zones=grown, version="2")
    )
    world.timer()
    assert [(update.action, update.rule_id, update.plmns) for update in world.updates[-1:]] == [
        ("modify", "r", ("208", "222", "262"))
    ]


def test_what_no_part_of_the_catalogue_asks_for_is_not_looked_at() -> None:
    assert compile_tariff(catalogue(rules=[{"id": "r"}], zones=ZONES)).surroundings is None
    flow = flow_record(1, at_ms=0, serving_plmn="26201", dnn="internet", congestion_level=20)
    cases: list[tuple[dict[str, Any], tuple[str | None, str | None, int]]] = [
        ({"scope": {"zones": ["eu"]}}, ("partner", None, 0)),
        ({"scope": {"dnns": ["internet"]}}, (None, "internet", 0)),
        ({"scope": {"dnns": ["ims"]}}, (None, None, 0)),
        ({"min_congestion": 4, "max_congestion": 20}, (None, None, 4)),
        ({"min_congestion": 4, "max_congestion": 19}, (None, None, 20)),
    ]
    for rule, seen in cases:
        made = compile_tariff(catalogue(rules=[{"id": "r", **rule}], zones=ZONES)).surroundings
        assert made is not None
        assert made.of(flow) == seen


def test_zones_travel_with_the_catalogue_and_a_digest_outlives_a_minor_version() -> None:
    made, feed = catalogue({"id": "o"}, zones=ZONES), CatalogueFeed()
    for entry in entries_of(made):
        # A topic that was written by an older version of the same contract is read all the same.
        older = entry if entry.kind == "version" else msgspec.structs.replace(entry, version="1.0")
        feed.offer(entry.entry_key.encode(), msgspec.json.encode(older))
    taken = feed.take()
    assert taken is not None
    assert sorted(taken.zones, key=lambda zone: zone.id) == sorted(made.zones, key=lambda zone: zone.id)
