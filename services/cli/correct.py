"""`smartpipe correct`: refund, void or rate again what the ledger holds, and list what waits for a correction."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Correct what was charged in the open period: refunds first, exactly once, each with its cause in the ledger.",
    no_args_is_help=True,
)

UsageArgument = Annotated[str, typer.Argument(metavar="USAGE_ID", help="The row of the ledger, e.g. f-3-120-188-0.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would change, and order nothing.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Kept with the command.")]
CommandOption = Annotated[
    str | None,
    typer.Option("--command-id", metavar="ID", help="Your own id: with the same one again, nothing more is ordered."),
]
DataOption = Annotated[Path | None, typer.Option("--data-dir", metavar="FOLDER", help="Folder of the ledger file.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database-url", metavar="URL", help="SQLAlchemy URL of the ledger's database.")
]


@app.command()
def refund(
    usage_id: UsageArgument,
    *,
    amount: Annotated[str | None, typer.Option(metavar="MONEY", help="Money to give back, e.g. 1.50.")] = None,
    octets: Annotated[int | None, typer.Option(min=0, help="Octets to put back into their buckets.")] = None,
    seconds: Annotated[int | None, typer.Option(min=0, help="Seconds to put back into their buckets.")] = None,
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    command_id: CommandOption = None,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Give back what a row cost, or a part of it; the usage itself stays. Without a part: all that is left.

    Never more than was paid and is not yet refunded.
    """
    from services.cli.corrections import correct_row

    correct_row(
        "refund", usage_id, amount=amount, octets=octets, seconds=seconds, reason=reason, command_id=command_id,
        dry_run=dry_run, data_dir=data_dir, database_url=database_url,
    )  # fmt: skip


@app.command()
def void(
    usage_id: UsageArgument,
    *,
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    command_id: CommandOption = None,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Take a row back as if it had not been: its octets, its money, and its part of tiers and caps."""
    from services.cli.corrections import correct_row

    correct_row(
        "void", usage_id, reason=reason, command_id=command_id, dry_run=dry_run, data_dir=data_dir,
        database_url=database_url,
    )  # fmt: skip


@app.command()
def rerate(
    account_id: Annotated[str, typer.Argument(metavar="ACCOUNT_ID", help="The account.")],
    *,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="RFC 3339, inclusive: start of the usage.")],
    until: Annotated[str, typer.Option(metavar="TIME", help="RFC 3339, exclusive.")],
    application: Annotated[str | None, typer.Option(metavar="ID", help="Only usage of this application.")] = None,
    category: Annotated[str | None, typer.Option(help="Only usage of this category.")] = None,
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    command_id: CommandOption = None,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Charge usage of the open period again, under the catalogue that the lane has in force.

    All rows are taken back before the first is charged again, in the order of event time.
    """
    from services.cli.corrections import rate_again

    fields = {"application": application, "category": category, "reason": reason, "command_id": command_id}
    rate_again(account_id, since, until, data_dir=data_dir, database_url=database_url, dry_run=dry_run, **fields)


@app.command()
def release(
    usage_id: UsageArgument,
    *,
    charge: Annotated[
        str, typer.Option(metavar="past|present|none", help="When it happened, now, or not at all: waive it.")
    ],
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    command_id: CommandOption = None,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Settle usage that came too late to be charged; `list` shows what did.

    In the past it draws what had expired of the buckets of then, and counts for the caps of its own cycle.
    """
    from services.cli.corrections import release_late

    release_late(
        usage_id, charge, reason=reason, command_id=command_id, dry_run=dry_run, data_dir=data_dir,
        database_url=database_url,
    )  # fmt: skip


@app.command("list")
def list_(
    account_id: Annotated[str | None, typer.Argument(metavar="[ACCOUNT_ID]", help="All accounts without.")] = None,
    *,
    data_dir: DataOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """List flows that came too late to be charged, and, for one account, the corrections ordered for it."""
    from services.cli.corrections import print_corrections

    print_corrections(account_id, data_dir=data_dir, database_url=database_url)
