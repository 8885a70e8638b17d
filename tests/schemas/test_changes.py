"""What a change of a contract means: each kind of break is planted into a real schema and has to be refused."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest

from schemas import topics
from schemas.changes import Change, Role, changes, promise
from schemas.json_schema import json_schema

Schema = dict[str, Any]
Edit = Callable[[Schema], object]


@functools.cache
def published(topic: str) -> Schema:
    """The schema before a change; not to be edited."""
    return json_schema(topics.BY_NAME[topic])


def after(edit: Edit, *, topic: str = topics.FLOWS, role: Role = "input") -> list[Change]:
    """The changes that `edit` to the schema of `topic` brings, for `role`."""
    old = published(topic)
    new = copy.deepcopy(old)
    edit(new)
    return list(changes(old, new, role=role, topic=topic))


def severities(edit: Edit, *, topic: str = topics.FLOWS) -> dict[str, str]:
    """The worst severity of `edit` for each role, `-` for none."""
    roles: tuple[Role, ...] = ("input", "internal", "output")
    found = {role: [change.severity for change in after(edit, topic=topic, role=role)] for role in roles}
    return {role: min(all_of, default="-") for role, all_of in found.items()}


def field(schema: Schema, name: str) -> Schema:
    """One field of a flow record, to be edited in place."""
    found: Schema = schema["$defs"]["FlowRecord"]["properties"][name]
    return found


def position(schema: Schema, name: str) -> Schema:
    """One position of the account state, to be edited in place."""
    items: list[Schema] = schema["$defs"]["AccountState"]["prefixItems"]
    return next(item for item in items if item["title"] == name)


def flow(schema: Schema) -> Schema:
    """The definition of a flow record, to be edited in place."""
    found: Schema = schema["$defs"]["FlowRecord"]
    return found


def add_command(schema: Schema) -> None:
    """Plant a command that no published version knows."""
    schema["$defs"]["Freeze"] = {"type": "object", "properties": {"type": {"type": "string", "const": "freeze"}}}
    schema["anyOf"].append({"$ref": "#/$defs/Freeze"})


def swap_positions(schema: Schema, one: int, other: int) -> None:
    """Plant two fields by position in each other's place."""
    items = schema["$defs"]["AccountState"]["prefixItems"]
    items[one], items[other] = items[other], items[one]


def add_required_position(schema: Schema) -> None:
    """Plant a last field that every record has to have."""
    state = schema["$defs"]["AccountState"]
    state["prefixItems"].append({"title": "colour", "type": "string"})
    state["minItems"] = len(state["prefixItems"])


def add_field_of_scope(schema: Schema) -> None:
    schema["$defs"]["Scope"]["properties"]["colours"] = {"type": "array", "items": {"type": "string"}, "default": []}
    for holder, name in (("PccRule", "scope"), ("Allowance", "scope"), ("UsagePrice", "scope")):
        schema["$defs"][holder]["properties"][name]["default"]["colours"] = []


def rename_answer(schema: Schema) -> None:
    """Rename a model, which is not seen on the wire."""
    schema["$defs"]["Answer"] = {**schema["$defs"].pop("DnsAnswer"), "title": "Answer"}
    field(schema, "dns_answers")["anyOf"][0]["items"] = {"$ref": "#/$defs/Answer"}


# The five kinds, as (input, internal, output).
BROKEN = ("break", "break", "break")
NARROWED = ("break", "break", "warning")
WIDER_TYPE = ("-", "warning", "break")
WIDER_VALUE = ("-", "warning", "warning")
FINE = ("-", "-", "-")

CASES: list[tuple[str, tuple[str, str, str], str, Edit]] = [
    ("nothing changed", FINE, topics.FLOWS, lambda s: s),
    ("a better description", FINE, topics.FLOWS, lambda s: field(s, "ja4").update(description="Better words.")),
    ("a new optional field", FINE, topics.FLOWS,
     lambda s: flow(s)["properties"].update(colour={"type": "string", "default": "blue"})),
    ("a removed optional field", BROKEN, topics.FLOWS, lambda s: flow(s)["properties"].pop("ja4")),
    ("a removed required field", BROKEN, topics.FLOWS, lambda s: flow(s)["properties"].pop("end_ms")),
    ("a new required field", BROKEN, topics.FLOWS,
     lambda s: (flow(s)["properties"].update(colour={"type": "string"}), flow(s)["required"].append("colour"))),
    ("an optional field made required", BROKEN, topics.FLOWS, lambda s: flow(s)["required"].append("account_id")),
    ("a required field made optional", WIDER_TYPE, topics.FLOWS, lambda s: flow(s)["required"].remove("end_ms")),
    ("another type", ("break", "break", "break"), topics.FLOWS, lambda s: field(s, "octets_up").update(type="string")),
    ("null no longer accepted", NARROWED, topics.FLOWS,
     lambda s: field(s, "rat_type").update(anyOf=field(s, "rat_type")["anyOf"][:1])),
    ("null newly possible", WIDER_TYPE, topics.FLOWS,
     lambda s: field(s, "end_ms").update(anyOf=[{"type": "integer", "minimum": 0, "maximum": 253_402_300_800_000},
                                                {"type": "null"}])),
    ("a word fewer", NARROWED, topics.FLOWS, lambda s: field(s, "rat_type")["anyOf"][0]["enum"].remove("GERA")),
    ("a word more", WIDER_VALUE, topics.FLOWS, lambda s: field(s, "rat_type")["anyOf"][0]["enum"].append("6G")),
    ("a list of words where any text was allowed", NARROWED, topics.FLOWS,
     lambda s: field(s, "subscriber_ip").update(enum=["10.0.0.1"])),
    ("any text where words were listed", WIDER_VALUE, topics.FLOWS,
     lambda s: field(s, "rat_type").update(anyOf=[{"type": "string"}, {"type": "null"}])),
    ("a lower maximum", NARROWED, topics.FLOWS, lambda s: field(s, "octets_up").update(maximum=10**9)),
    ("a higher maximum", WIDER_VALUE, topics.FLOWS, lambda s: field(s, "octets_up").update(maximum=2**70)),
    ("a higher minimum", NARROWED, topics.FLOWS, lambda s: field(s, "octets_up").update(minimum=1)),
    ("a shorter text", NARROWED, topics.FLOWS, lambda s: field(s, "record_id").update(maxLength=64)),
    ("a bound where there was none", NARROWED, topics.FLOWS, lambda s: field(s, "version").update(maxLength=7)),
    ("a bound lifted", WIDER_VALUE, topics.FLOWS, lambda s: field(s, "record_id").pop("maxLength")),
    ("a new pattern", NARROWED, topics.FLOWS, lambda s: field(s, "record_id").update(pattern="^[a-z]+$")),
    ("a pattern lifted", WIDER_VALUE, topics.FLOWS, lambda s: field(s, "version").pop("pattern")),
    ("another pattern", NARROWED, topics.FLOWS, lambda s: field(s, "version").update(pattern="^1[.][0-9]+$")),
    ("another default", BROKEN, topics.FLOWS, lambda s: field(s, "sampling_rate").update(default=1000)),
    ("another default inside a default", BROKEN, topics.CATALOGUE,
     lambda s: s["$defs"]["PccRule"]["properties"]["scope"]["default"].update(services=["call"])),
    ("a default with a new field at its own default", WIDER_TYPE, topics.CATALOGUE, add_field_of_scope),
    ("items of a list narrowed", NARROWED, topics.FLOWS,
     lambda s: s["$defs"]["DnsAnswer"]["properties"]["ttl_s"].update(maximum=3600)),
    ("fewer items in a list", NARROWED, topics.FLOWS,
     lambda s: field(s, "dns_answers")["anyOf"][0].update(maxItems=4)),
    ("unknown fields refused", NARROWED, topics.FLOWS, lambda s: flow(s).update(additionalProperties=False)),
    ("a keyword that no rule knows", BROKEN, topics.FLOWS, lambda s: field(s, "octets_up").update(multipleOf=8)),
    ("another key", BROKEN, topics.FLOWS, lambda s: s["x-smartpipe"].update(key="subscriber_id")),
    ("another encoding", BROKEN, topics.FLOWS, lambda s: s["x-smartpipe"].update(content_type="application/msgpack")),
    ("compaction", BROKEN, topics.FLOWS, lambda s: s["x-smartpipe"].update(compacted=True)),
    ("a command that is gone", NARROWED, topics.COMMANDS, lambda s: s["anyOf"].pop()),
    ("a new command", WIDER_VALUE, topics.COMMANDS, add_command),
    ("base64 turned into hex", BROKEN, topics.DEAD_LETTERS,
     lambda s: s["$defs"]["DeadLetter"]["properties"]["value"]["anyOf"][0].update(contentEncoding="base16")),
    ("a position swapped with the next", BROKEN, topics.STATE, lambda s: swap_positions(s, 3, 4)),
    ("a position inserted", BROKEN, topics.STATE,
     lambda s: s["$defs"]["AccountState"]["prefixItems"].insert(3, {"title": "colour", "type": "string"})),
    ("a position removed", BROKEN, topics.STATE, lambda s: s["$defs"]["AccountState"]["prefixItems"].pop()),
    ("a position made required", BROKEN, topics.STATE, lambda s: s["$defs"]["AccountState"].update(minItems=4)),
    ("a position added at the end", FINE, topics.STATE,
     lambda s: s["$defs"]["AccountState"]["prefixItems"].append({"title": "colour", "type": "string", "default": ""})),
    ("a position added at the end, required", BROKEN, topics.STATE, add_required_position),
    ("a position with another type", ("break", "break", "break"), topics.STATE,
     lambda s: position(s, "balance_micros").update(type="string")),
    ("a model under another name", FINE, topics.FLOWS, rename_answer),
    ("a new field where unknown ones are refused", WIDER_TYPE, topics.CATALOGUE,
     lambda s: s["$defs"]["PccRule"]["properties"].update(colour={"type": "string", "default": "blue"})),
]  # fmt: skip


@pytest.mark.parametrize(("what", "verdict", "topic", "edit"), [pytest.param(*case, id=case[0]) for case in CASES])
def test_each_change_is_judged_by_who_is_on_the_other_side(
    what: str, verdict: tuple[str, str, str], topic: str, edit: Edit
) -> None:
    assert tuple(severities(edit, topic=topic).values()) == verdict


def test_a_break_names_field_values_and_the_next_step() -> None:
    (change,) = after(lambda s: field(s, "octets_up").update(maximum=10**9))
    assert str(change) == (
        "break: ott.flows.v1: octets_up: maximum changed from 9223372036854775807 to 1000000000; "
        "undo it, or open ott.flows.v2 beside ott.flows.v1"
    )


def test_a_field_inside_a_list_is_named_with_its_path() -> None:
    (change,) = after(lambda s: s["$defs"]["DnsAnswer"]["properties"].pop("address"))
    assert change.where == "ott.flows.v1: dns_answers[].address"


def test_a_warning_says_whom_to_tell() -> None:
    edit: Edit = lambda s: s["$defs"]["PolicyDecision"]["properties"]["treatment"]["enum"].append("gifted")  # noqa: E731
    (change,) = after(edit, topic=topics.DECISIONS, role="output")
    assert (change.severity, change.text) == ("warning", "may now be the word 'gifted'; tell the readers first")


def test_an_only_word_that_gets_a_second_one_is_no_other_record() -> None:
    old = copy.deepcopy(published(topics.FLOWS))
    field(old, "subscriber_ip")["const"] = "10.0.0.1"
    new = copy.deepcopy(old)
    del field(new, "subscriber_ip")["const"]
    field(new, "subscriber_ip")["enum"] = ["10.0.0.1", "10.0.0.2"]
    (change,) = changes(old, new, role="internal", topic=topics.FLOWS)
    assert (change.severity, change.text) == ("warning", "may now be the word '10.0.0.2'; upgrade the readers first")


def test_a_promise_ignores_words_for_people_and_keeps_fields_called_like_them() -> None:
    schema = json_schema(topics.BY_NAME[topics.CATALOGUE])
    prose = copy.deepcopy(schema)
    prose["$defs"]["ProductOffering"]["description"] = "Other words."
    prose["$defs"]["ProductOffering"]["properties"]["description"]["description"] = "Other words."
    assert promise(prose) == promise(schema)
    del prose["$defs"]["ProductOffering"]["properties"]["description"]
    assert promise(prose) != promise(schema)


def test_a_promise_keeps_the_order_of_positions() -> None:
    schema = json_schema(topics.BY_NAME[topics.STATE])
    swapped = copy.deepcopy(schema)
    swap_positions(swapped, 3, 4)
    assert promise(swapped) != promise(schema)
