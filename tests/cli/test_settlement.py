"""`smartpipe settlement`: the table, the JSON, and how a mistake is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from schemas.catalogue import Catalogue
from schemas.decision import Sponsorship
from schemas.topics import USAGE
from services.cli.main import app
from services.rating.catalogue_store import publish_catalogue
from services.rating.database import migrate, open_database, writing
from services.rating.repositories import ledger as books
from services.rating.settlement import SettlementRefused
from services.runtime.settings import Settings
from tests.engine.world import ms
from tests.rating.seeds import BOOKED_UNTIL_MS, book
from tests.rating.usage_records import rated

JUNE = ("--from", "2026-06-01", "--to", "2026-07-01")
CAMPAIGNS = [
    {
        "id": "always-on",
        "sponsor_id": "chat-inc",
        "settlement": {"amount_per_gb": "0.40", "amount_per_connections": "0.05", "per_connections": 1000},
    },
    {"id": "cup", "sponsor_id": "tube"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two campaigns that paid for something in June, the first of which got something back."""
    engine = open_database(Settings(data_dir=str(tmp_path)))
    migrate(engine)
    publish_catalogue(engine, Catalogue.model_validate({"version": "v1", "campaigns": CAMPAIGNS}))
    back = {"usage_id": "c-0-3-3-0", "kind": "refund", "corrects": "f-0-2-2-0"}
    book(
        engine, paid(1, 2 * 10**9, 12_000), paid(2, 10**6, 500), paid(3, 10**6, 500, **back),
        paid(4, 700, 3, campaign_id="cup"), paid(5, 10**9, 1, end_ms=ms("2026-07-01 00:00")),
    )  # fmt: skip
    with writing(engine) as connection:
        stands = {partition: (at, at) for partition, at in books.next_offsets(connection, USAGE).items()}
        books.advance(connection, USAGE, stands, dict.fromkeys(stands, BOOKED_UNTIL_MS))
    engine.dispose()
    return tmp_path


def paid(number: int, octets: int, connections: int, *, campaign_id: str = "always-on", **fields: Any) -> Any:
    sponsorships = (Sponsorship(campaign_id=campaign_id, octets=octets, connections=connections),)
    at_ms = ms("2026-06-30 23:59")
    return rated(
        number, **{"start_ms": at_ms, "end_ms": at_ms, "sponsorships": sponsorships, "movements": (), **fields}
    )


def ask(folder: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["settlement", *JUNE, "--data-dir", str(folder), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_says_what_each_sponsor_owes(folder: Path) -> None:
    said = [" ".join(line.split()) for line in ask(folder).splitlines()]
    assert (
        "settlement of usage that ended from 2026-06-01T00:00:00.000Z to 2026-07-01T00:00:00.000Z (exclusive)" in said
    )
    assert "Sponsor chat-inc" in said
    assert "always-on volume 0.4 EUR per GB 2 000 000 000 octets 0.8 EUR" in said
    assert "connections 0.05 EUR per 1 000 12 000 0.6 EUR" in said
    assert "given back off already 1.0 MB and 500 connections -" in said
    assert "total 1.4 EUR" in said
    assert "cup volume no terms 700 octets -" in said


def test_the_json_has_exact_numbers_and_money_as_text(folder: Path) -> None:
    found = json.loads(ask(folder, "--json", "--sponsor", "chat-inc"))
    assert (found["from"], found["to"]) == ("2026-06-01T00:00:00.000Z", "2026-07-01T00:00:00.000Z")
    [sponsor] = found["sponsors"]
    assert (sponsor["sponsorId"], sponsor["totals"]) == ("chat-inc", [{"unit": "EUR", "value": "1.4"}])
    assert sponsor["campaigns"] == [
        {
            "campaignId": "always-on",
            "catalogueVersions": ["v1"],
            "terms": {"amountPerGb": "0.4", "amountPerConnections": "0.05", "perConnections": 1000},
            "octets": 2 * 10**9,
            "connections": 12_000,
            "givenBack": {"octets": 10**6, "connections": 500},
            "charges": [
                {"unit": "octets", "quantity": 2 * 10**9, "price": "0.4", "per": 10**9, "amount": "0.8"},
                {"unit": "connections", "quantity": 12_000, "price": "0.05", "per": 1000, "amount": "0.6"},
            ],
            "currency": "EUR",
            "amount": "1.4",
        }
    ]


def test_a_campaign_without_terms_has_no_amount(folder: Path) -> None:
    [sponsor] = json.loads(ask(folder, "--json", "--campaign", "cup"))["sponsors"]
    [line] = sponsor["campaigns"]
    assert (line["terms"], line["charges"], line["amount"], line["octets"]) == (None, [], None, 700)
    assert sponsor["totals"] == []


def test_times_are_utc_unless_they_say_otherwise(folder: Path) -> None:
    east = json.loads(ask(folder, "--json", "--from", "2026-06-30T23:30:00+02:00", "--to", "2026-07-01T00:00:00.001"))
    assert (east["from"], east["to"]) == ("2026-06-30T21:30:00.000Z", "2026-07-01T00:00:00.001Z")
    assert east["sponsors"][0]["campaigns"][0]["octets"] == 3 * 10**9


def test_a_period_of_which_not_all_is_booked_says_so(folder: Path) -> None:
    assert "note: rated usage is booked until 2026-09-" in " ".join(ask(folder, "--to", "2999-01-01").split())
    assert "note:" not in ask(folder, "--to", "2026-06-02")
    assert "no campaign paid for anything in this period" in ask(folder, "--to", "2026-06-02")


def test_a_ledger_that_has_not_booked_yet_says_so(tmp_path: Path) -> None:
    migrate(open_database(Settings(data_dir=str(tmp_path))))
    assert "note: rated usage is booked, but not of every lane" in " ".join(ask(tmp_path).split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "June"), "--from: 'June' is no date and no time; write a date such as"),
        (("--to", "2026-06-01"), "--to: the period ends at or before its start"),
        (("--sponsor", "chat"), "--sponsor: no sponsor is called 'chat'; known are chat-inc, tube"),
    ],
)
def test_a_mistake_is_told_with_the_next_step(folder: Path, options: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettlementRefused, match=said):
        ask(folder, *options)
