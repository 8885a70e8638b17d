"""The generated files: up to date, valid by the standards they claim, and true to the models."""

import contextlib
import json
import shutil
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import ValidationError

from schemas import asyncapi, generate
from schemas.catalogue import Catalogue, CatalogueEntry
from schemas.flow import check_flow
from schemas.json_schema import json_schema, message_names
from schemas.samples import SAMPLES
from schemas.topics import ALL, BY_NAME, CATALOGUE, FLOWS, STATE, Topic
from services.engine.feed import CatalogueFeed
from services.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "schemas" / "examples").glob("*/*.json"))
ASYNCAPI_SCHEMA = Path(__file__).parent / "asyncapi-3.0.0" / "schema.json"

TOPICS = [pytest.param(topic, id=topic.name) for topic in ALL]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy of the repository: what `generate` reads and writes."""
    root = tmp_path_factory.mktemp("repository")
    (root / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "contracts.md", root / "docs" / "contracts.md")
    generate.write(root)
    return root


@pytest.fixture
def tree(generated: Path, tmp_path: Path) -> Path:
    """That copy, for one test to damage."""
    return Path(shutil.copytree(generated, tmp_path, dirs_exist_ok=True))


def validate(topic: Topic, example: object) -> list[str]:
    """What the JSON Schema of `topic` has against `example`."""
    return [error.message for error in Draft202012Validator(json_schema(topic)).iter_errors(example)]


def decode(topic: Topic, text: bytes) -> object:
    """`text` read by the models of `topic`; the state's models are tried in turn, since arrays carry no tag."""
    if topic.name != STATE:
        return msgspec.json.decode(text, type=reduce(or_, topic.models))
    for model in topic.models[:-1]:
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.json.decode(text, type=model)
    return msgspec.json.decode(text, type=topic.models[-1])


# --- drift


def test_the_generated_files_are_up_to_date() -> None:
    assert list(generate.drift(ROOT)) == [], generate.NEXT_STEP


def test_generating_twice_changes_nothing(tree: Path) -> None:
    assert generate.write(tree) == 0
    assert generate.main(["--check"], tree) == 0


@pytest.mark.parametrize(
    "path",
    ["schemas/json/ott.flows.v1.schema.json", "schemas/examples/ott.usage.v1/1.json", "schemas/asyncapi.yaml"],
)
def test_an_edited_file_fails_the_check_and_is_named(tree: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / path).write_text("{}\n", encoding="utf-8")
    assert generate.main(["--check"], tree) == 1
    said = capsys.readouterr().out
    assert f"{path}: differs from the models" in said
    assert "python -m schemas.generate" in said


def test_a_missing_file_and_a_leftover_fail_the_check(tree: Path) -> None:
    (tree / "schemas/json/ott.usage.v1.schema.json").unlink()
    (tree / "schemas/examples/ott.gone.v1").mkdir()
    (tree / "schemas/examples/ott.gone.v1/1.json").write_text("{}", encoding="utf-8")
    assert list(generate.drift(tree)) == [
        "schemas/json/ott.usage.v1.schema.json: missing",
        "schemas/examples/ott.gone.v1/1.json: no topic generates it any more",
    ]
    generate.main([], tree)
    assert list(generate.drift(tree)) == []


def test_a_changed_table_in_the_docs_fails_the_check(tree: Path) -> None:
    page = tree / "docs" / "contracts.md"
    page.write_text(page.read_text(encoding="utf-8").replace("7 days", "8 days"), encoding="utf-8")
    assert list(generate.drift(tree)) == ["docs/contracts.md: differs from the models"]


# --- JSON Schema and examples


@pytest.mark.parametrize("topic", TOPICS)
def test_each_schema_is_valid_2020_12(topic: Topic) -> None:
    Draft202012Validator.check_schema(json_schema(topic))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_kind_of_record_has_an_example(topic: Topic) -> None:
    shown = {type(sample).__name__ for sample in SAMPLES[topic.name]}
    assert shown == set(message_names(topic))


@pytest.mark.parametrize("file", [pytest.param(file, id=f"{file.parent.name}/{file.name}") for file in EXAMPLES])
def test_each_example_passes_its_schema_and_its_model(file: Path) -> None:
    topic = BY_NAME[file.parent.name]
    text = file.read_bytes()
    assert validate(topic, json.loads(text)) == []
    number = int(file.stem)
    assert decode(topic, text) == SAMPLES[topic.name][number - 1]


def test_state_examples_are_the_json_form_of_the_messagepack() -> None:
    for sample in SAMPLES[STATE]:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(sample), type=type(sample)) == sample


def test_flow_examples_keep_the_rules_that_no_schema_can_say() -> None:
    assert [check_flow(flow) for flow in SAMPLES[FLOWS] if isinstance(flow, BY_NAME[FLOWS].models[0])] == [None] * 3


def test_catalogue_examples_are_one_complete_catalogue() -> None:
    feed = CatalogueFeed()
    for file in sorted((ROOT / "schemas" / "examples" / CATALOGUE).glob("*.json")):
        text = file.read_bytes()
        feed.offer(msgspec.json.decode(text, type=CatalogueEntry).entry_key.encode(), text)
    catalogue = feed.take()
    assert isinstance(catalogue, Catalogue)
    assert [offering.id for offering in catalogue.offerings] == ["video-pass"]


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("negative octets", {"octets_up": -1}),
    ("more octets than IPFIX can count", {"octets_down": 2**70}),
    ("text instead of a number", {"remote_port": "443"}),
    ("an empty record id", {"record_id": ""}),
    ("an unknown radio technology", {"rat_type": "6G"}),
    ("a network that is no PLMN", {"serving_plmn": "262-01"}),
    ("a sampling rate of nothing", {"sampling_rate": 0}),
]


@pytest.mark.parametrize(("why", "change"), [pytest.param(*case, id=case[0]) for case in REFUSED])
def test_schema_and_model_refuse_the_same_flow(why: str, change: dict[str, Any]) -> None:
    topic = BY_NAME[FLOWS]
    example = generate.example(topic, SAMPLES[FLOWS][0]) | change
    assert validate(topic, example)
    with pytest.raises(msgspec.ValidationError):
        decode(topic, json.dumps(example).encode())


@pytest.mark.parametrize(
    "change", [{"category": "music"}, {"colour": "blue"}, {"id": "No Spaces"}, {"pfds": [{"pfd_id": 1}]}]
)
def test_schema_and_model_refuse_the_same_application(change: dict[str, Any]) -> None:
    topic = BY_NAME[CATALOGUE]
    entry = generate.example(topic, SAMPLES[CATALOGUE][0])
    entry["body"] |= change
    assert validate(topic, entry)
    with pytest.raises(ValidationError):
        Catalogue.model_validate({"version": "1", "applications": [entry["body"]]})


def test_unknown_fields_of_a_flow_pass_both_schema_and_model() -> None:
    topic = BY_NAME[FLOWS]
    example = generate.example(topic, SAMPLES[FLOWS][0]) | {"vendor_extra": [1, 2]}
    assert validate(topic, example) == []
    assert decode(topic, json.dumps(example).encode()) == SAMPLES[FLOWS][0]


# --- AsyncAPI


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The AsyncAPI file as a reader gets it."""
    return dict(yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text(encoding="utf-8")))


def asyncapi_errors(document: dict[str, Any]) -> list[str]:
    """What AsyncAPI 3.0's own JSON Schema has against `document`."""
    schema = json.loads(ASYNCAPI_SCHEMA.read_text(encoding="utf-8"))
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(document)]


def test_the_asyncapi_document_is_valid_by_its_standard(document: dict[str, Any]) -> None:
    assert asyncapi_errors(document) == []


def test_the_standard_refuses_an_unknown_action_and_binding(document: dict[str, Any]) -> None:
    operation = next(iter(document["operations"].values()))
    channel = document["channels"][FLOWS]
    broken = {
        **document,
        "operations": {"policy-shout": operation | {"action": "shout"}},
        "channels": {FLOWS: channel | {"bindings": {"kafka": {"partitions": 0, "bindingVersion": "0.5.0"}}}},
    }
    assert {error.split(":")[0] for error in asyncapi_errors(broken)} == {
        "$.operations['policy-shout']",
        f"$.channels['{FLOWS}']",
    }


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    seen = 0
    for reference in _references(document):
        path, _, pointer = reference.partition("#/")
        target: Any = document
        if path:
            target = json.loads((ROOT / "schemas" / path).read_text(encoding="utf-8"))
        for step in pointer.split("/"):
            target = target[step]
        seen += 1
    assert seen > 50


def test_channels_tell_operators_what_the_broker_has_to_keep(document: dict[str, Any]) -> None:
    assert list(document["channels"]) == [topic.name for topic in ALL]
    state = document["channels"][STATE]["bindings"]["kafka"]
    assert state["topicConfiguration"]["cleanup.policy"] == ["compact"]
    flows = document["channels"][FLOWS]["bindings"]["kafka"]
    assert flows["topicConfiguration"]["retention.ms"] == 7 * 86_400_000


def test_default_partitions_are_those_of_the_setting() -> None:
    assert Settings.model_fields["partitions"].default == asyncapi.DEFAULT_PARTITIONS


def test_every_producer_and_consumer_has_an_operation_and_a_description(document: dict[str, Any]) -> None:
    parties = {party for topic in ALL for party in (*topic.producers, *topic.consumers)}
    assert parties == asyncapi.PARTIES.keys()
    expected = {f"{party}-send-{topic.name}" for topic in ALL for party in topic.producers}
    expected |= {f"{party}-receive-{topic.name}" for topic in ALL for party in topic.consumers}
    assert document["operations"].keys() == expected


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [found for value in node.values() for found in _references(value)]
    return [found for item in node for found in _references(item)] if isinstance(node, list) else []
