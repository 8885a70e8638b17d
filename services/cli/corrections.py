"""The work behind `smartpipe correct`: orders through the rating service's own functions, and what is said of them."""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from rich.table import Table

from schemas.units import MS_PER_SECOND, format_octets, format_seconds
from services.cli.tables import plain_console, shown_count
from services.rating.corrections import (
    Correction,
    CorrectionRefused,
    Kind,
    Order,
    Period,
    late_usage,
    order,
    ordered,
    sponsor_refunds,
)
from services.rating.database import Engine, open_migrated
from services.rating.documents import timestamp
from services.rating.repositories.corrections import Stretch
from services.rating.repositories.ledger import SponsorRefund
from services.rating.tmf_usage import usage_sentence
from services.runtime.settings import load_settings

MAX_SHOWN = 20


def correct_row(
    kind: Kind,
    usage_id: str,
    *,
    dry_run: bool,
    data_dir: Path | None,
    database_url: str | None,
    command_id: str | None,
    reason: str | None,
    amount: str | None = None,
    octets: int | None = None,
    seconds: int | None = None,
) -> None:
    """Order a refund or a void, and print what was ordered. Raises CorrectionRefused, DatabaseDown."""
    ms = None if seconds is None else seconds * MS_PER_SECOND
    wanted = Order(kind, _name(command_id), usage_id=usage_id, amount=amount, octets=octets, ms=ms, reason=reason)
    _order(wanted, _database(data_dir, database_url), dry_run=dry_run)


def release_late(
    usage_id: str,
    charge: str,
    *,
    dry_run: bool,
    data_dir: Path | None,
    database_url: str | None,
    command_id: str | None,
    reason: str | None,
) -> None:
    """Order that late usage be settled, and print what was ordered. Raises CorrectionRefused, DatabaseDown."""
    if charge not in get_args(Period):
        raise CorrectionRefused(f"--charge: {charge!r} is no period; give past, present or none")
    period: Period = charge  # type: ignore[assignment]
    wanted = Order("release", _name(command_id), usage_id=usage_id, period=period, reason=reason)
    _order(wanted, _database(data_dir, database_url), dry_run=dry_run)


def rate_again(
    account_id: str,
    since: str,
    until: str,
    *,
    dry_run: bool,
    data_dir: Path | None,
    database_url: str | None,
    command_id: str | None,
    reason: str | None,
    application: str | None,
    category: str | None,
) -> None:
    """Order a rerate, and print what was ordered. Raises CorrectionRefused, DatabaseDown."""
    stretch = Stretch(account_id, _time("--from", since), _time("--until", until), application, category)
    wanted = Order("rerate", _name(command_id), stretch=stretch, reason=reason)
    _order(wanted, _database(data_dir, database_url), dry_run=dry_run)


def print_corrections(account_id: str | None, *, data_dir: Path | None, database_url: str | None) -> None:
    """Print flows that came too late, and the corrections of one account."""
    engine = _database(data_dir, database_url)
    late = Table("usage id", "account", "subscriber", "began", "what was not charged", title="Too late to be charged")
    for row in late_usage(engine, account_id):
        began, what = timestamp(row["start_ms"]), usage_sentence(row)
        late.add_row(row["usage_id"], row["account_id"], row["subscriber_id"], began, what)
    console = plain_console()
    console.print(late if late.row_count else "no flow came too late to be charged")
    if account_id is None:
        return
    made = Table("command", "corrects", "kind", "ordered", "state", title="Corrections ordered")
    orders = ordered(engine, account_id)
    for row in orders:
        made.add_row(row["command_id"], row["usage_id"], row["kind"], timestamp(row["ordered_at_ms"]), row["state"])
    console.print(made if made.row_count else "no correction was ordered for this account")
    if refunds := sponsor_refunds(engine, account_id):
        console.print(_sponsors_table(refunds))
    for command_id, detail in {row["command_id"]: row["detail"] for row in orders if row["state"] == "refused"}.items():
        print(f"{command_id} was refused: {detail}")


def _sponsors_table(refunds: Sequence[SponsorRefund]) -> Table:
    table = Table("campaign", "corrects", "octets", "connections", "cause", "rated", title="Given back to sponsors")
    for item in refunds:
        numbers = str(item.octets), str(item.connections)
        table.add_row(item.campaign_id, item.corrects, *numbers, item.cause, timestamp(item.rated_at_ms))
    return table


def _order(wanted: Order, engine: Engine, *, dry_run: bool) -> None:
    made = order(engine, wanted, dry_run=dry_run)
    for line in _told(made, dry_run=dry_run):
        print(line)


def _told(made: Correction, *, dry_run: bool) -> list[str]:
    verb = "would be ordered" if dry_run else "was ordered before" if made.repeated else "is ordered"
    rows = f"{len(made.lines)} rows" if len(made.lines) > 1 else f"row {made.lines[0].usage_id}"
    lines = [f"{made.kind} of {rows} of account {made.account_id} {verb}, command {made.command_id}"]
    if made.kind == "release":
        lines.append(f"  comes off the list of what was too late: {format_octets(made.octets)} ({made.octets} octets)")
    elif not made.repeated:
        money = f"{made.amount} {made.currency}".rstrip()
        time = f" and {format_seconds(made.ms)} s" if made.ms else ""
        lines.append(f"  goes back    {money} and {format_octets(made.octets)} ({made.octets} octets){time}")
    back = _sponsors(made)
    if back and not made.repeated:
        lines.append(f"  sponsors     {back}")
    for line in made.lines[:MAX_SHOWN]:
        moved = ", ".join(f"{item.bucket_id} {item.amount} {item.unit}" for item in line.movements) or "no bucket"
        lines.append(f"  {line.usage_id}  {line.application or line.category}, {line.amount} {made.currency}; {moved}")
    if len(made.lines) > MAX_SHOWN:
        lines.append(f"  ... and {len(made.lines) - MAX_SHOWN} more")
    if made.refused is not None:
        lines.append(f"  and was refused: {made.refused}")
    if made.kind == "rerate" and not made.repeated:
        lines.append("  and is charged again, in event order, under the catalogue in force when the lane takes it")
    lines += [f"  left as it is: {usage_id} {problem}" for usage_id, problem in made.left_out[:MAX_SHOWN]]
    if len(made.left_out) > MAX_SHOWN:
        lines.append(f"  ... and {len(made.left_out) - MAX_SHOWN} more are left as they are")
    return lines


def _sponsors(made: Correction) -> str:
    """What campaigns get back, before anything is charged again."""
    octets: Counter[str] = Counter()
    connections: Counter[str] = Counter()
    for line in made.lines if made.sponsored else ():
        for paid in line.sponsorships:
            octets[paid.campaign_id] += paid.octets
            connections[paid.campaign_id] += paid.connections
    return ", ".join(
        f"campaign {name} {format_octets(sum_)} ({sum_} octets), {shown_count(connections[name], 'connection')}"
        for name, sum_ in octets.items()
    )


def _name(command_id: str | None) -> str:
    return command_id or f"correct-{uuid.uuid4().hex}"


def _time(option: str, text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        step = "write RFC 3339, such as 2026-03-01T00:00:00+01:00"
        raise CorrectionRefused(f"{option}: {text!r} is no time; {step}") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 1000


def _database(data_dir: Path | None, database_url: str | None) -> Engine:
    return open_migrated(load_settings(data_dir=str(data_dir) if data_dir else None, database_url=database_url))
