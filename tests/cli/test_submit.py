"""`smartpipe submit`: what is taken from a file, what its writer may leave out, and how a mistake is told."""

from pathlib import Path

import msgspec
import pytest

from schemas.catalogue import Catalogue
from schemas.command import AccountCommand
from schemas.topics import COMMANDS
from services.cli.submit import SubmissionRefused, submit_file
from services.rating.catalogue_store import publish_catalogue
from services.rating.database import Engine, SchemaOutdated, migrate, open_database
from services.rating.repositories import outbox
from services.runtime.settings import Settings

NOW_MS = 1_790_000_000_000
PLAN = {"id": "plan", "name": "Plan", "kind": "base_plan", "allowances": [{"id": "data", "octets": "1 GB"}]}
CUSTOMER = '{"type": "change_profile", "account_id": "acc-1", "subscriber_ids": ["sub-1"]}'
ORDER = '{"type": "activate_product", "account_id": "acc-1", "product_id": "p1", "offering_id": "plan"}'
STATED = '"version": "1.0", "command_id": "c-1", "issued_at_ms": 1790000000001'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path / "data"))


@pytest.fixture
def engine(settings: Settings) -> Engine:
    """The database, with a catalogue in force and an empty outbox."""
    engine = open_database(settings)
    migrate(engine)
    publish_catalogue(engine, Catalogue.model_validate({"version": "v1", "offerings": [PLAN]}))
    outbox.remove(engine, [record.id for record in outbox.oldest(engine)])
    return engine


def submit_lines(settings: Settings, *lines: str) -> list[str]:
    file = Path(settings.data_dir).parent / "orders.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return list(submit_file(str(file), settings, clock_ms=lambda: NOW_MS))


def waiting(engine: Engine) -> list[AccountCommand]:
    """The commands that the outbox will publish."""
    decode = msgspec.json.Decoder(AccountCommand).decode
    return [decode(record.value or b"") for record in outbox.oldest(engine) if record.topic == COMMANDS]


def test_commands_of_a_file_reach_the_outbox_with_what_they_left_out(engine: Engine, settings: Settings) -> None:
    (sentence,) = submit_lines(settings, CUSTOMER, "", ORDER)
    assert sentence.startswith("2 commands stored, 0 known before")
    profile, order = waiting(engine)
    assert (profile.account_id, profile.issued_at_ms, order.issued_at_ms) == ("acc-1", NOW_MS, NOW_MS)
    assert len({profile.command_id, order.command_id}) == 2


def test_a_line_that_states_its_id_and_time_is_taken_once(engine: Engine, settings: Settings) -> None:
    line = CUSTOMER.replace("{", "{" + STATED + ", ")
    submit_lines(settings, line)
    (sentence,) = submit_lines(settings, line)
    assert sentence.startswith("0 commands stored, 1 known before")
    assert [command.command_id for command in waiting(engine)] == ["c-1"]


REFUSED = {
    "no JSON": ("{", "line 2: Input data was truncated"),
    "no object": ("[]", "line 2: Expected `object`"),
    "a field that is missing": ('{"type": "credit", "account_id": "acc-1"}', "missing required field `amount`"),
    "an unknown version": (CUSTOMER.replace("{", '{"version": "9.0", '), "version '9.0' is not supported"),
    "a rule of the front desk": (ORDER.replace("plan", "gone"), "offering_id: 'gone' is not in catalogue 'v1'"),
    "a correction": (
        '{"type": "void_usage", "account_id": "acc-1", "usage_id": "u-1", "rows": []}', "line 2: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_told_with_its_line_and_nothing_is_stored(engine: Engine, settings: Settings, case: str) -> None:
    line, message = REFUSED[case]
    with pytest.raises(SubmissionRefused) as refused:
        submit_lines(settings, CUSTOMER, line)
    assert "orders.jsonl line 2: " in str(refused.value)
    assert message in str(refused.value)
    assert "of this file 0 commands are stored" in str(refused.value)
    assert waiting(engine) == []


def test_a_database_without_tables_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(SchemaOutdated, match="run `smartpipe migrate`"):
        submit_lines(settings, CUSTOMER)
