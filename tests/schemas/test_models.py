"""What the generated schemas rely on: every model says its version, every field says what it holds."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.json_schema import json_schema
from schemas.topics import ALL, BY_NAME, FLOWS, Topic

TOPICS = [pytest.param(topic, id=topic.name) for topic in ALL]


def undescribed(schema: dict[str, Any]) -> Iterator[str]:
    """Models and fields of `schema` that have no description."""
    for model, definition in schema["$defs"].items():
        if not definition.get("description"):
            yield model
        fields = list(definition.get("properties", {}).items())
        fields += [(item.get("title"), item) for item in definition.get("prefixItems", ())]
        yield from (f"{model}.{name}" for name, field in fields if not field.get("description"))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_model_and_field_is_described(topic: Topic) -> None:
    assert list(undescribed(json_schema(topic))) == []


def test_a_field_without_description_is_noticed() -> None:
    schema = json_schema(BY_NAME[FLOWS])
    del schema["$defs"]["FlowRecord"]["properties"]["ja4"]["description"]
    del schema["$defs"]["DnsAnswer"]["description"]
    assert list(undescribed(schema)) == ["FlowRecord.ja4", "DnsAnswer"]


@pytest.mark.parametrize("topic", TOPICS)
def test_the_major_of_the_contract_is_in_the_name_of_its_topic(topic: Topic) -> None:
    major, _, minor = topic.version.partition(".")
    assert topic.name.endswith(f".v{major}")
    assert minor.isdigit()


@pytest.mark.parametrize("topic", TOPICS)
def test_the_version_field_names_the_version_that_is_written(topic: Topic) -> None:
    written = topic.version if topic.content_type == "application/json" else topic.version.partition(".")[0]
    described = [text for text in _descriptions_of_version(json_schema(topic)) if "this is" in text]
    assert described
    assert all(text.endswith(f"this is {written}.") for text in described), described


def test_bounds_of_the_models_reach_the_schema() -> None:
    octets = json_schema(BY_NAME[FLOWS])["$defs"]["FlowRecord"]["properties"]["octets_up"]
    assert (octets["minimum"], octets["maximum"]) == (0, 2**63 - 1)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_schema_is_the_same_each_time_and_survives_a_file(topic: Topic) -> None:
    assert json.dumps(json_schema(topic)) == json.dumps(json_schema(topic))
    assert json.loads(json.dumps(json_schema(topic))) == json_schema(topic)


def _descriptions_of_version(schema: dict[str, Any]) -> Iterator[str]:
    for definition in schema["$defs"].values():
        fields = list(definition.get("properties", {}).items())
        fields += [(item.get("title"), item) for item in definition.get("prefixItems", ())]
        yield from (field["description"] for name, field in fields if name == "version")
