"""The work behind `smartpipe settlement`: a period and its statement, as tables for people and as JSON."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from schemas.catalogue import OCTETS_PER_GB, SettlementTerms
from schemas.units import format_micros, format_octets
from services.cli.tables import new_table, plain_console, shown_count, shown_number
from services.rating.database import open_migrated
from services.rating.documents import timestamp
from services.rating.settlement import Charge, Line, SettlementRefused, Statement, draw_up
from services.runtime.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run_settlement(
    since: str, until: str, settings: Settings, *, sponsor_id: str | None, campaign_id: str | None, as_json: bool
) -> None:
    """Print the statement of a period. Raises SettlementRefused, SchemaOutdated, DatabaseDown."""
    from_ms, until_ms = _time("--from", since), _time("--to", until)
    statement = draw_up(open_migrated(settings), from_ms, until_ms, sponsor_id=sponsor_id, campaign_id=campaign_id)
    if as_json:
        print(json.dumps(settlement_json(statement), indent=2))
    else:
        print_statement(statement)


def settlement_json(statement: Statement) -> dict[str, Any]:
    """The statement for programs: money as decimal strings, octets and connections as numbers."""
    return {
        "from": timestamp(statement.from_ms),
        "to": timestamp(statement.until_ms),
        "bookedUntil": timestamp(statement.booked_until_ms) if statement.booked_until_ms else None,
        "sponsors": [_sponsor_json(statement, sponsor_id) for sponsor_id in statement.sponsor_ids()],
    }


def print_statement(statement: Statement) -> None:
    """Print the statement: a table for each sponsor, with its total."""
    console = plain_console()
    console.print(Text("\n".join(_head(statement))))
    for sponsor_id in statement.sponsor_ids():
        console.print(_table(statement, sponsor_id))


def _sponsor_json(statement: Statement, sponsor_id: str) -> dict[str, Any]:
    totals = sorted(statement.totals(sponsor_id).items())
    return {
        "sponsorId": sponsor_id,
        "totals": [{"unit": currency, "value": format_micros(micros)} for currency, micros in totals],
        "campaigns": [_line_json(line) for line in _lines_of(statement, sponsor_id)],
    }


def _line_json(line: Line) -> dict[str, Any]:
    amount, terms = line.amount_micros, line.agreement.terms
    return {
        "campaignId": line.agreement.campaign_id,
        "catalogueVersions": list(line.catalogue_versions),
        "terms": _terms_json(terms) if terms else None,
        "octets": line.octets,
        "connections": line.connections,
        "givenBack": {"octets": line.returned_octets, "connections": line.returned_connections},
        "charges": [_charge_json(charge) for charge in line.charges],
        "currency": line.agreement.currency or None,
        "amount": None if amount is None else format_micros(amount),
    }


def _terms_json(terms: SettlementTerms) -> dict[str, Any]:
    volume, connections = terms.amount_per_gb, terms.amount_per_connections
    return {
        "amountPerGb": None if volume is None else format_micros(volume),
        "amountPerConnections": None if connections is None else format_micros(connections),
        "perConnections": None if connections is None else terms.per_connections,
    }


def _charge_json(charge: Charge) -> dict[str, Any]:
    return {
        "unit": charge.unit,
        "quantity": charge.quantity,
        "price": format_micros(charge.price_micros),
        "per": charge.per,
        "amount": format_micros(charge.amount_micros),
    }


def _head(statement: Statement) -> Iterator[str]:
    period = f"{timestamp(statement.from_ms)} to {timestamp(statement.until_ms)}"
    yield f"settlement of usage that ended from {period} (exclusive)"
    if statement.booked_until_ms < statement.until_ms:
        booked = (
            f" until {timestamp(statement.booked_until_ms)}" if statement.booked_until_ms else ", but not of every lane"
        )
        yield f"note: rated usage is booked{booked}; what comes later is not in this statement"
    if not statement.lines:
        yield "no campaign paid for anything in this period"


def _table(statement: Statement, sponsor_id: str) -> Table:
    table = new_table(f"Sponsor {sponsor_id}", "campaign", "what", "price", "quantity", "amount", words=3)
    lines = _lines_of(statement, sponsor_id)
    names = [line.agreement.campaign_id for line in lines]
    for line in lines:
        name = line.agreement.campaign_id
        shown = f"{name} ({', '.join(line.catalogue_versions)})" if names.count(name) > 1 else name
        for number, cells in enumerate(_cells(line)):
            table.add_row(Text("" if number else shown), *map(Text, cells))
    for currency, micros in sorted(statement.totals(sponsor_id).items()):
        table.add_row(Text("total"), "", "", "", Text(f"{format_micros(micros)} {currency}"))
    return table


def _cells(line: Line) -> Iterator[tuple[str, str, str, str]]:
    """What, price, quantity, amount: volume and connections always, whether or not they are billed."""
    charges: dict[str, Charge] = {charge.unit: charge for charge in line.charges}
    currency = line.agreement.currency
    for what, unit, quantity in (("volume", "octets", line.octets), ("connections", "connections", line.connections)):
        charge = charges.get(unit)
        price = _price(charge, currency) if charge else "not billed" if line.agreement.terms else "no terms"
        amount = f"{format_micros(charge.amount_micros)} {currency}" if charge else "-"
        yield what, price, _quantity(unit, quantity), amount
    if line.returned_octets or line.returned_connections:
        back = f"{format_octets(line.returned_octets)} and {shown_count(line.returned_connections, 'connection')}"
        yield "given back", "off already", back, "-"


def _price(charge: Charge, currency: str) -> str:
    per = "GB" if charge.per == OCTETS_PER_GB and charge.unit == "octets" else shown_number(charge.per)
    return f"{format_micros(charge.price_micros)} {currency} per {per}"


def _quantity(unit: str, quantity: int) -> str:
    return f"{shown_number(quantity)} octets" if unit == "octets" else shown_number(quantity)


def _lines_of(statement: Statement, sponsor_id: str) -> list[Line]:
    return [line for line in statement.lines if line.agreement.sponsor_id == sponsor_id]


def _time(option: str, text: str) -> int:
    """Milliseconds of a date, which is its midnight in UTC, or of a time; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        step = "write a date such as 2026-03-01, or RFC 3339 such as 2026-03-01T00:00:00+01:00"
        raise SettlementRefused(f"{option}: {text!r} is no date and no time; {step}") from None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
