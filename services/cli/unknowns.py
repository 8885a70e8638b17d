"""`smartpipe unknowns`: the names that no application claims, largest first, and how to list them."""

import datetime
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from schemas.flow import FlowRecord, octets_of
from schemas.units import format_octets
from services.cli.classify import Judge, Reader, read_lines, reader_of
from services.cli.live_state import ask_worker
from services.engine.classify import SubscriberMemory
from services.engine.unknowns import (
    MAX_NAMES,
    NO_HOST_NAME,
    UnknownName,
    UnknownNames,
    UnknownsReport,
    merge_reports,
)
from services.policy.service import UNKNOWNS_PATH
from services.rating.catalogue_lint import is_shared_suffix, name_problem

MAX_TOLD_ERRORS = 10
"""Lines that could not be read and are told one by one; the rest is counted."""

HINT = (
    "To list a name, add it to `domain_names` of its application in the catalogue's files. Then",
    "`smartpipe catalogue lint FOLDER` checks it and `smartpipe classify --host NAME --catalogue FOLDER` tries it.",
)

_decode = msgspec.json.Decoder(UnknownsReport).decode


def run_unknowns(
    file: str | None,
    workers: Sequence[str],
    *,
    format_name: str,
    catalogue_folder: Path | None,
    top: int,
    as_json: bool,
) -> int:
    """Print what `workers` counted, or what `file` holds; 1 if a line could not be read, 2 on a bad format."""
    if workers:
        report, failed = unknowns_of_workers(workers), 0
    else:
        reader = reader_of(format_name)
        if reader is None:
            return 2
        report, failed = unknowns_of_file(file or "-", reader=reader, catalogue_folder=catalogue_folder)
    if as_json:
        print(json_of(report, top=top))
    else:
        for line in table_of(report, top=top):
            print(line)
    return 1 if failed else 0


def unknowns_of_workers(workers: Sequence[str]) -> UnknownsReport:
    """What `workers`, each `host:port` of an operations port, counted together. Raises OSError, naming the worker."""
    return merge_reports([_report_of(worker) for worker in workers])


def unknowns_of_file(file: str, *, reader: Reader, catalogue_folder: Path | None) -> tuple[UnknownsReport, int]:
    """What the flow records of `file` (`-` = standard input) hold, and how many lines could not be read."""
    judge, memory = Judge.of(catalogue_folder), SubscriberMemory()
    sketch = UnknownNames(catalogue_version=judge.version)
    failed = 0
    for found in read_lines(file, reader):
        if isinstance(found, FlowRecord):
            sketch.add(found.exporter_id, judge.classifier.classify(found, memory), octets_of(found))
        else:
            failed += 1
            if failed <= MAX_TOLD_ERRORS:
                print(f"smartpipe: {found}", file=sys.stderr)
    if failed:
        print(f"smartpipe: {failed} lines could not be read", file=sys.stderr)
    return sketch.report(MAX_NAMES), failed


def table_of(report: UnknownsReport, *, top: int) -> Iterator[str]:
    """The `top` names of each exporter, for people, by line. Names come last: they can be of any length."""
    yield from _summary(report)
    for exporter_id, names in _by_exporter(report):
        yield ""
        yield f"exporter {_printable(exporter_id)}"
        yield f"{'volume':>10} {'at most':>10} {'share':>8} {'flows':>9}  name"
        for item in names[:top]:
            most = format_octets(item.octets + item.error_octets) if item.error_octets else ""
            note = f"  ({note})" if (note := _note(item)) else ""
            volume, share = format_octets(item.octets), _share(item, report)
            yield f"{volume:>10} {most:>10} {share:>8} {item.flows:>9}  {item.name}{note}"
    yield ""
    if report.missing_octets:
        yield f"A name that was not counted has at most {format_octets(report.missing_octets)} at one exporter."
    yield from HINT if report.names else ["No name is unlisted."]


def json_of(report: UnknownsReport, *, top: int) -> str:
    """The same as one JSON object. `share_ppm` is the part of all octets without an application, in millionths."""
    body = {
        "catalogue_versions": report.catalogue_versions,
        "since_ms": report.since_ms,
        "octets": report.octets,
        "totals": msgspec.to_builtins(report.totals),
        "missing_octets": report.missing_octets,
        "exporters": [
            {"exporter_id": exporter_id, "names": [_row(item, report) for item in names[:top]]}
            for exporter_id, names in _by_exporter(report)
        ],
    }
    return json.dumps(body, indent=2)


def _report_of(worker: str) -> UnknownsReport:
    try:
        return _decode(ask_worker(worker, UNKNOWNS_PATH))
    except msgspec.DecodeError as error:
        raise OSError(f"worker {worker!r} answers something else: {error}; is it of this version?") from None


def _by_exporter(report: UnknownsReport) -> list[tuple[str, list[UnknownName]]]:
    """Exporters and their names, both largest first."""
    groups: dict[str, list[UnknownName]] = defaultdict(list)
    for item in report.names:
        groups[item.exporter_id].append(item)
    return sorted(groups.items(), key=lambda group: (-sum(item.octets for item in group[1]), group[0]))


def _summary(report: UnknownsReport) -> Iterator[str]:
    flows = sum(volume.flows for volume in report.totals.values())
    versions = f", catalogue {', '.join(report.catalogue_versions)}" if report.catalogue_versions else ""
    since = f", since {_time(report.since_ms)}" if report.since_ms else ""
    yield f"without an application: {format_octets(report.octets)}, {flows} flows{versions}{since}"
    for reason, volume in sorted(report.totals.items(), key=lambda pair: -pair[1].octets):
        yield f"{format_octets(volume.octets):>10} {volume.flows:>9} flows  {reason}"


def _row(item: UnknownName, report: UnknownsReport) -> dict[str, object]:
    fields = {name: value for name, value in msgspec.to_builtins(item).items() if name != "exporter_id"}
    return {**fields, "share_ppm": _share_of(item, report, 1_000_000), "note": _note(item)}


def _share(item: UnknownName, report: UnknownsReport) -> str:
    tenths = _share_of(item, report, 1_000)
    return f"{tenths // 10}.{tenths % 10} %"


def _share_of(item: UnknownName, report: UnknownsReport, whole: int) -> int:
    return item.octets * whole // report.octets if report.octets else 0


def _note(item: UnknownName) -> str:
    """Why the name cannot be listed as it stands, or what to mind; empty for most."""
    if item.name == NO_HOST_NAME:
        return "texts that are no host names"
    problem = name_problem(item.name)
    if problem is not None:
        return f"{problem[0]}; {problem[1]}"
    if is_shared_suffix(item.name):
        return "strangers put their content below it; name the tenant"
    return "shared" if item.reason == "shared_cdn" else ""


def _time(at_ms: int) -> str:
    at = datetime.datetime.fromtimestamp(at_ms // 1_000, datetime.UTC)
    return at.isoformat().replace("+00:00", "Z")


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
