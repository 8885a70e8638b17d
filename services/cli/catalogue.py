"""`smartpipe catalogue`: check, show, compare and exchange catalogue files."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from schemas.catalogue import Catalogue
from schemas.fields import Category
from services.cli.neutrality_view import neutrality_json, print_neutrality
from services.cli.tables import shown_count
from services.engine.neutrality import neutrality as report_neutrality
from services.rating.catalogue_diff import diff_catalogues
from services.rating.catalogue_exchange import Merged, Reading, Target, exporter_names, merge
from services.rating.catalogue_files import PARTS, CatalogueSource, load_catalogue, read_catalogue, shipped_folder
from services.rating.catalogue_lint import lint_folder
from services.rating.catalogue_lists import read_hosts, read_ndpi, read_v2fly
from services.rating.catalogue_pfds import export_pfds, read_pfds
from services.rating.catalogue_yaml import format_yaml

app = typer.Typer(help="Check, show, compare, import and export catalogue files.", no_args_is_help=True)

MAX_IMPORT_OCTETS = 64 * 1024 * 1024
"""The largest file that an import reads; the largest public hosts list is a tenth of it."""

_LIST_NAME = re.compile(r"[A-Za-z0-9!_-][A-Za-z0-9!_.-]*")

CatalogueOption = Annotated[
    Path | None,
    typer.Option("--catalogue", metavar="FOLDER", help="Folder of catalogue files; the shipped ones by default."),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write to this file instead of standard output.")
]


class Format(StrEnum):
    """What an import can read."""

    PFD = "pfd"
    V2FLY = "v2fly"
    NDPI = "ndpi"
    HOSTS = "hosts"


class Categories(StrEnum):
    """The categories of an application, for the command line."""

    VOIP_IM = "voip_im"
    SOCIAL = "social"
    STREAMING = "streaming"
    OTHER = "other"


@app.command()
def lint(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of catalogue files; the shipped ones by default.")
    ] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON array.")] = False,
) -> None:
    """Find what never matches, matches strangers, never wins, or costs what nobody meant.

    One line per finding. Exit code 1 if there is any error.
    """
    findings = lint_folder(folder)
    if as_json:
        typer.echo(json.dumps([finding.document() for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(str(finding))
    errors = sum(finding.severity == "error" for finding in findings)
    counted = f"{shown_count(errors, 'error')}, {shown_count(len(findings) - errors, 'warning')}"
    typer.echo(counted if findings else "no findings", err=True)
    raise typer.Exit(1 if errors or (strict and findings) else 0)


@app.command()
def show(
    item_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="An application, offering, rule or campaign; a summary without."),
    ] = None,
    *,
    catalogue: CatalogueOption = None,
) -> None:
    """Print the number of applications and names per category, or one item with its file and line."""
    source = read_catalogue(catalogue)
    if item_id is None:
        _show_summary(source.catalogue, str(catalogue or shipped_folder()))
        return
    found = [(part, item) for part in PARTS for item in getattr(source.catalogue, part) if item.id == item_id]
    if not found:
        is_folder = Path(item_id).is_dir()
        step = f"give a folder as --catalogue {item_id}" if is_folder else "`catalogue show` counts what it has"
        raise typer.BadParameter(f"nothing in the catalogue has the id {item_id!r}; {step}")
    for part, item in found:
        _show_item(source, part, item_id, item.model_dump(mode="json", exclude_defaults=True))


@app.command()
def neutrality(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of catalogue files; the shipped ones by default.")
    ] = None,
    *,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Print which applications are treated otherwise than others of their category, and by what."""
    report = report_neutrality(load_catalogue(folder))
    if json_:
        typer.echo(neutrality_json(report))
    else:
        print_neutrality(report)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="Folder of the old files.")],
    new: Annotated[Path | None, typer.Argument(help="Folder of the new files; the shipped ones by default.")] = None,
) -> None:
    """Print what changes from the old catalogue to the new one. Exit code 1 if they differ, as diff does."""
    changes = diff_catalogues(load_catalogue(old), load_catalogue(new))
    for change in changes:
        typer.echo(str(change))
    raise typer.Exit(1 if changes else 0)


@app.command()
def publish(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of catalogue files; the shipped ones by default.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show the differences, and stop there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without asking.")] = False,
    version: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the version; by default what the files say, or a digest."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="FOLDER", help="Folder of the ledger file.")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option("--database-url", metavar="URL", help="SQLAlchemy URL of the ledger's database.")
    ] = None,
) -> None:
    """Put a catalogue in force: lint it, show what changes, ask, and hand it to the rating service's outbox.

    The rating service may be running; it relays the new version to the workers at once. Exit code 1 if lint finds
    an error.
    """
    from services.cli.publish import publish_folder
    from services.runtime.settings import load_settings

    settings = load_settings(data_dir=str(data_dir) if data_dir else None, database_url=database_url)

    def may_publish() -> bool:
        return not dry_run and (yes or typer.confirm("publish?"))

    code = publish_folder(folder, settings, version=version, say=typer.echo, may_publish=may_publish)
    raise typer.Exit(code)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The file to read; for v2fly, lists that it includes lie beside it.")],
    *,
    format_: Annotated[
        Format, typer.Option("--format", help="T8 PFD JSON, v2fly list, nDPI protos.txt or hosts file.")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Written to each PFD; `partner:NAME` or `operator:NAME` is strong evidence. Default: `list:...`.",
        ),
    ] = None,
    application: Annotated[
        str | None, typer.Option(metavar="ID", help="The application that all entries belong to (v2fly, hosts).")
    ] = None,
    category: Annotated[Categories, typer.Option(help="Category of applications that are new.")] = Categories.OTHER,
    provider: Annotated[str, typer.Option(help="Provider of applications that are new.")] = "",
    suffixes: Annotated[bool, typer.Option("--suffixes", help="Hosts: take names with all below.")] = False,
    catalogue: CatalogueOption = None,
    output: OutputOption = None,
) -> None:
    """Turn entries from elsewhere into a catalogue file, beside the ones it has; report conflicts and refusals.

    The catalogue itself is not touched: put the new file into its folder. The report goes to standard error.
    """
    base = load_catalogue(catalogue)
    reading, names = _read(file, format_, application, base, suffixes=suffixes)
    origin = source or f"list:{format_.value}:{file.name}"
    try:
        merged = merge(
            base, reading.entries, source=origin, category=_category(category), provider=provider, names=names
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _write(output, merged.to_yaml(f"Imported from {file.name}."))
    _report(reading, merged)


@app.command()
def export(
    *,
    application: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this application; repeat for more.")
    ] = None,
    catalogue: CatalogueOption = None,
    output: OutputOption = None,
) -> None:
    """Write the applications' PFDs as T8 JSON (TS 29.122 PfdManagement); what it cannot say goes to standard error."""
    try:
        exported = export_pfds(load_catalogue(catalogue), application or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _write(output, json.dumps(exported.document, indent=2) + "\n")
    for line in exported.left_out:
        typer.echo(f"left out: {line}", err=True)


def _show_summary(catalogue: Catalogue, folder: str) -> None:
    applications: Counter[str] = Counter()
    names: dict[str, set[str]] = {}
    for item in catalogue.applications:
        applications[item.category] += 1
        names.setdefault(item.category, set()).update(name for pfd in item.pfds for name in pfd.domain_names)
    typer.echo(f"version {catalogue.version}, currency {catalogue.currency}, files in {folder}")
    typer.echo(f"{'category':<12}{'applications':>14}{'domain names':>14}")
    for category in applications:
        typer.echo(f"{category:<12}{applications[category]:>14}{len(names[category]):>14}")
    typer.echo(f"{'all':<12}{applications.total():>14}{len(set().union(*names.values())):>14}")
    for part in PARTS:
        if part != "applications":
            typer.echo(f"{part:<12}{len(getattr(catalogue, part)):>14}")


def _show_item(source: CatalogueSource, part: str, item_id: str, body: dict[str, object]) -> None:
    typer.echo(format_yaml(body, comment=f"{part.removesuffix('s')} at {source.locate(part, item_id)}"), nl=False)


def _read(
    file: Path, format_: Format, application: str | None, base: Catalogue, *, suffixes: bool
) -> tuple[Reading, dict[str, Target]]:
    if format_ is Format.PFD:
        return read_pfds(_json(file), file.name), {}
    if format_ is Format.V2FLY:
        return read_v2fly(file.name, _lists_beside(file), application=application), {}
    if format_ is Format.NDPI:
        return read_ndpi(_text(file), file.name), exporter_names(base, "ndpi")
    if application is None:
        raise typer.BadParameter("a hosts file does not say what its names belong to; give --application ID")
    return read_hosts(_text(file), file.name, application=application, suffixes=suffixes), {}


def _lists_beside(file: Path) -> Callable[[str], str | None]:
    """Reads lists by name from the folder of `file`, and from nowhere else."""

    def load(name: str) -> str | None:
        path = file.parent / name
        return _text(path) if _LIST_NAME.fullmatch(name) and path.is_file() else None

    return load


def _text(file: Path) -> str:
    size = file.stat().st_size
    if size > MAX_IMPORT_OCTETS:
        raise typer.BadParameter(f"{file} has {size} octets; at most {MAX_IMPORT_OCTETS}; split it")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8 at octet {error.start}; save it as UTF-8") from None


def _json(file: Path) -> object:
    try:
        return json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}; send a T8 document") from None


def _category(category: Categories) -> Category:
    return category.value


def _write(output: Path | None, text: str) -> None:
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def _report(reading: Reading, merged: Merged) -> None:
    for refusal in reading.refusals:
        typer.echo(f"refused: {refusal}", err=True)
    for conflict in merged.conflicts:
        typer.echo(f"conflict: {conflict}", err=True)
    typer.echo(
        f"{merged.brought_in()} entries brought in, {merged.known} known, {len(merged.conflicts)} conflicts, "
        f"{len(reading.refusals)} refused; {len(merged.applications)} new applications",
        err=True,
    )
