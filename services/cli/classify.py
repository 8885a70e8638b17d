"""`smartpipe classify`: flow records in, classifications out, line by line and in order; or explained, for people."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

import msgspec
import typer

from schemas.catalogue import Application
from schemas.classification import Classification
from schemas.flow import FlowRecord, check_flow
from services.cli.lines import raw_lines
from services.engine.classify import Classifier, SubscriberMemory
from services.engine.classify_explain import asked_flow, explain, told_flow
from services.engine.hostnames import canonical_address
from services.ingest.ndpi_labelled import flow_of
from services.rating.catalogue_files import load_catalogue

NAME_CACHE_ENTRIES = 65_536
HTTP_PORT = 80
MAX_PROTOCOL = 255

_PROTOCOLS = {"tcp": 6, "udp": 17}

Reader = Callable[[bytes, int], FlowRecord]
"""Turns one line and its number (from 0) into a flow record; raises ValueError or msgspec.DecodeError."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """A classifier, and the catalogue that it was made of."""

    version: str
    applications: Mapping[str, Application]
    classifier: Classifier

    @classmethod
    def of(cls, folder: Path | None) -> Self:
        """Over the catalogue files in `folder`; the shipped ones by default. Raises CatalogueFilesError."""
        catalogue = load_catalogue(folder)
        classifier = Classifier(catalogue.applications, cache_entries=NAME_CACHE_ENTRIES)
        return cls(catalogue.version, {item.id: item for item in catalogue.applications}, classifier)

    def explained(self, flow: FlowRecord, verdict: Classification) -> Iterator[str]:
        """The verdict and its reasons, line by line."""
        found = explain(
            flow,
            verdict,
            classifier=self.classifier,
            applications=self.applications,
            catalogue_version=self.version,
        )
        for label, text in found.told():
            yield f"  {label:<12} {text}"


def classify_lines(file: str, *, format_name: str, catalogue_folder: Path | None, explained: bool = False) -> int:
    """Classify `file` (`-` = standard input) to standard output; 1 if a line could not be read, 2 on a bad format."""
    reader = reader_of(format_name)
    if reader is None:
        return 2
    judge, memory = Judge.of(catalogue_folder), SubscriberMemory()
    say = _say_explained if explained else _say_json
    failed = 0
    for number, found in enumerate(read_lines(file, reader), start=1):
        if isinstance(found, FlowRecord):
            say(judge, number, found, judge.classifier.classify(found, memory))
        else:
            failed += 1
            _write(msgspec.json.encode({"error": found}))
    sys.stdout.buffer.flush()
    if failed:
        print(f"smartpipe: {failed} lines could not be read; each has its error in place", file=sys.stderr)
    return 1 if failed else 0


def classify_host(
    name: str,
    *,
    ip_protocol: int,
    port: int,
    address: str | None,
    system: int | None,
    catalogue_folder: Path | None,
    as_json: bool,
) -> None:
    """Classify a flow that holds nothing but a name: the HTTP host on port 80, else the server name.

    Raises typer.BadParameter for an address that is none.
    """
    if address is not None and canonical_address(address) is None:
        raise typer.BadParameter(f"--address is {address!r}; give an IPv4 or IPv6 address")
    field = "http_host" if port == HTTP_PORT else "server_name"
    flow = asked_flow(remote_ip=address, remote_port=port, ip_protocol=ip_protocol, remote_as=system, **{field: name})
    judge = Judge.of(catalogue_folder)
    verdict = judge.classifier.classify(flow)
    if as_json:
        _write(msgspec.json.encode(verdict))
    else:
        _write(f"{name!a}, {told_flow(flow)}".encode())
        for line in judge.explained(flow, verdict):
            _write(line.encode())
    sys.stdout.buffer.flush()


def ip_protocol_of(text: str) -> int:
    """The IANA number of `tcp`, `udp` or a number in text. Raises typer.BadParameter."""
    number = _PROTOCOLS.get(text.lower(), int(text) if text.isdecimal() else -1)
    if not 0 <= number <= MAX_PROTOCOL:
        raise typer.BadParameter(f"--protocol is {text!r}; give tcp, udp or a number from 0 to {MAX_PROTOCOL}")
    return number


def reader_of(format_name: str) -> Reader | None:
    """What reads the lines of a format; None, with a word on standard error, when there is no such format."""
    reader = _READERS.get(format_name)
    if reader is None:
        print(f"smartpipe: --format {format_name!r} is not known; use one of {', '.join(_READERS)}", file=sys.stderr)
    return reader


def read_lines(file: str, reader: Reader) -> Iterator[FlowRecord | str]:
    """The flow record of each line of `file` (`-` = standard input), or what is wrong with the line. Raises OSError."""
    yield from _records(raw_lines(file), reader)


def _records(lines: Iterable[bytes], reader: Reader) -> Iterator[FlowRecord | str]:
    for number, line in enumerate(lines):
        try:
            yield reader(line, number)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
            yield f"line {number + 1}: {error}"


def _say_json(_judge: Judge, _number: int, _flow: FlowRecord, verdict: Classification) -> None:
    _write(msgspec.json.encode(verdict))


def _say_explained(judge: Judge, number: int, flow: FlowRecord, verdict: Classification) -> None:
    _write(f"line {number}: {told_flow(flow)}, record {flow.record_id!a} of {flow.exporter_id!a}".encode())
    for line in judge.explained(flow, verdict):
        _write(line.encode())


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")


def _read_flow(line: bytes, _number: int) -> FlowRecord:
    flow = _decode(line)
    if problem := check_flow(flow):
        raise ValueError(problem)
    return flow


_decode: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode
_READERS: dict[str, Reader] = {"flow": _read_flow, "ndpi-labelled": flow_of}
