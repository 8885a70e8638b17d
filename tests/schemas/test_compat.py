"""Published contracts: frozen, complete, and compared with the models at every check."""

import copy
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import compat, topics
from schemas.flow import FLOW_VERSION
from schemas.json_schema import json_schema

Schema = dict[str, Any]
Schemas = dict[str, Schema]

NEXT = f"1.{int(FLOW_VERSION.partition('.')[2]) + 1}"
"""The version of flow records after this one."""

ROLES = {topic.name: compat.role_of(topic) for topic in topics.ALL}


@pytest.fixture
def schemas() -> Schemas:
    """The schemas of all topics as the models have them, for a test to change."""
    return copy.deepcopy(_schemas_of_the_models())


@functools.cache
def _schemas_of_the_models() -> Schemas:
    return {topic.name: json_schema(topic) for topic in topics.ALL}


@pytest.fixture
def published(tmp_path: Path, schemas: Schemas) -> Path:
    """A folder in which everything has just been published."""
    compat.publish(schemas, tmp_path)
    return tmp_path


def breaks(schemas: Schemas, folder: Path) -> list[str]:
    """The breaks that a check finds, as text."""
    found = compat.check(schemas, folder, roles=ROLES)
    return [str(change) for change in found if change.severity == "break"]


def set_version(schema: Schema, version: str) -> Schema:
    """The schema under another version number."""
    changed = copy.deepcopy(schema)
    changed["x-smartpipe"]["version"] = version
    return changed


def test_what_was_published_just_now_passes_the_check(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compat.main(["--check"], published) == 0
    assert "contracts hold" in capsys.readouterr().out


def test_an_unpublished_contract_fails_the_check_and_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compat.main(["--check"], tmp_path) == 1
    key = f"ott.flows.v1/{FLOW_VERSION}"
    assert f"break: {key}: not published yet; run `python -m schemas.compat publish`" in capsys.readouterr().out


def test_a_raised_minor_is_a_draft_until_the_release(
    tmp_path: Path, schemas: Schemas, capsys: pytest.CaptureFixture[str]
) -> None:
    compat.publish({topics.FLOWS: set_version(schemas[topics.FLOWS], "0.9")}, tmp_path)
    flows = [topic for topic in topics.ALL if topic.name == topics.FLOWS]
    key = f"ott.flows.v1/{FLOW_VERSION}"
    assert compat.main(["--check"], tmp_path, flows) == 0
    assert f"warning: {key}: not published yet" in capsys.readouterr().out
    assert compat.main(["--release"], tmp_path, flows) == 1
    assert f"break: {key}: not published yet" in capsys.readouterr().out
    assert compat.main(["publish"], tmp_path, flows) == 0
    assert compat.main(["--release"], tmp_path, flows) == 0


def test_an_additive_optional_field_under_a_raised_minor_passes(published: Path, schemas: Schemas) -> None:
    schemas[topics.FLOWS] = set_version(schemas[topics.FLOWS], NEXT)
    added = {"type": "string", "default": "blue", "description": "Colour."}
    schemas[topics.FLOWS]["$defs"]["FlowRecord"]["properties"]["colour"] = added
    assert breaks(schemas, published) == []
    assert compat.publish(schemas, published) == [f"ott.flows.v1/{NEXT}"]
    assert breaks(schemas, published) == []


def test_an_additive_field_without_a_raised_minor_is_refused(published: Path, schemas: Schemas) -> None:
    schemas[topics.FLOWS]["$defs"]["FlowRecord"]["properties"]["colour"] = {"type": "string", "default": "blue"}
    (found,) = breaks(schemas, published)
    assert f"still calls itself {FLOW_VERSION}; raise the minor of its version constant to {NEXT} and publish" in found


def test_a_removed_field_is_refused_even_under_a_raised_minor(published: Path, schemas: Schemas) -> None:
    schemas[topics.USAGE] = set_version(schemas[topics.USAGE], "1.99")
    del schemas[topics.USAGE]["$defs"]["RatedUsage"]["properties"]["evidence"]
    (found,) = breaks(schemas, published)
    assert found.startswith("break: ott.usage.v1: evidence: the field was removed")


def test_a_break_against_the_newest_minor_is_refused_though_the_first_had_no_such_field(
    published: Path, schemas: Schemas
) -> None:
    first = schemas[topics.FLOWS]
    second = set_version(first, "1.98")
    second["$defs"]["FlowRecord"]["properties"]["colour"] = {"type": "string", "default": "blue"}
    compat.publish({topics.FLOWS: second}, published)
    schemas[topics.FLOWS] = set_version(first, "1.99")
    assert breaks(schemas, published) != []


def test_better_words_need_no_new_version(published: Path, schemas: Schemas) -> None:
    schemas[topics.FLOWS]["$defs"]["FlowRecord"]["description"] = "Better words."
    assert breaks(schemas, published) == []


def test_a_version_never_goes_back(published: Path, schemas: Schemas) -> None:
    later = set_version(schemas[topics.FLOWS], "1.100")
    compat.publish({topics.FLOWS: later}, published)
    (found,) = breaks(schemas, published)
    assert f"version went back from 1.100 to {FLOW_VERSION}" in found


def test_a_published_topic_that_is_gone_is_refused(published: Path, schemas: Schemas) -> None:
    del schemas[topics.NOTIFICATIONS]
    (found,) = breaks(schemas, published)
    assert "ott.notifications.v1 was published and is gone" in found


def test_an_edited_published_file_is_refused(published: Path, schemas: Schemas) -> None:
    file = published / topics.FLOWS / f"{FLOW_VERSION}.schema.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"maxLength": 128', '"maxLength": 129'), encoding="utf-8")
    assert any("the published file was edited" in found for found in breaks(schemas, published))


def test_a_deleted_published_file_is_refused(published: Path, schemas: Schemas) -> None:
    (published / topics.FLOWS / f"{FLOW_VERSION}.schema.json").unlink()
    assert any("the published file is gone" in found for found in breaks(schemas, published))


def test_a_file_laid_among_the_published_by_hand_is_refused(published: Path, schemas: Schemas) -> None:
    schema = set_version(schemas[topics.FLOWS], "1.0")
    (published / topics.FLOWS / "0.9.schema.json").write_text(json.dumps(set_version(schema, "0.9")), encoding="utf-8")
    assert any("was not published by" in found for found in breaks(schemas, published))


def test_publishing_again_changes_no_file(published: Path) -> None:
    before = dict(contents(published))
    assert compat.main(["publish"], published) == 0
    assert dict(contents(published)) == before


def test_nothing_is_published_while_a_contract_is_broken(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (published / topics.FLOWS / f"{FLOW_VERSION}.schema.json").unlink()
    before = dict(contents(published))
    assert compat.main(["publish"], published) == 1
    assert "nothing was published" in capsys.readouterr().out
    assert dict(contents(published)) == before


@pytest.mark.parametrize(
    ("topic", "role"),
    [
        (topics.FLOWS, "input"),
        (topics.COMMANDS, "internal"),
        (topics.CATALOGUE, "internal"),
        (topics.STATE, "internal"),
        (topics.USAGE, "internal"),
        (topics.DECISIONS, "output"),
        (topics.ENFORCEMENT, "output"),
        (topics.NOTIFICATIONS, "output"),
        (topics.DEAD_LETTERS, "output"),
    ],
)
def test_roles_follow_from_who_writes_and_reads(topic: str, role: str) -> None:
    assert ROLES[topic] == role


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file below `folder` with its text."""
    for file in sorted(folder.rglob("*.json")):
        yield file.relative_to(folder).as_posix(), file.read_text(encoding="utf-8")
