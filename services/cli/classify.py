"""`smartpipe classify`: flow records in, classifications out, line by line and in order."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from schemas.flow import FlowRecord, check_flow
from services.engine.classify import Classifier, SubscriberMemory
from services.ingest.ndpi_labelled import flow_of
from services.rating.catalogue_files import load_catalogue

NAME_CACHE_ENTRIES = 65_536

Reader = Callable[[bytes, int], FlowRecord]
"""Turns one line and its number (from 0) into a flow record; raises ValueError or msgspec.DecodeError."""


def classify_lines(file: str, *, format_name: str, catalogue_folder: Path | None) -> int:
    """Classify `file` (`-` = standard input) to standard output; 1 if a line could not be read, 2 on a bad format."""
    reader = _READERS.get(format_name)
    if reader is None:
        print(f"smartpipe: --format {format_name!r} is not known; use one of {', '.join(_READERS)}", file=sys.stderr)
        return 2
    classifier = Classifier(load_catalogue(catalogue_folder).applications, cache_entries=NAME_CACHE_ENTRIES)
    failed = 0
    with _open(file) as lines:
        for answer, good in _answers(lines, reader, classifier):
            sys.stdout.buffer.write(answer + b"\n")
            failed += not good
    sys.stdout.buffer.flush()
    if failed:
        print(f"smartpipe: {failed} lines could not be read; each has its error in place", file=sys.stderr)
    return 1 if failed else 0


def _answers(lines: Iterable[bytes], reader: Reader, classifier: Classifier) -> Iterator[tuple[bytes, bool]]:
    memory = SubscriberMemory()
    for number, line in enumerate(lines):
        try:
            flow = reader(line, number)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
            yield msgspec.json.encode({"error": f"line {number + 1}: {error}"}), False
        else:
            yield msgspec.json.encode(classifier.classify(flow, memory)), True


def _read_flow(line: bytes, _number: int) -> FlowRecord:
    flow = _decode(line)
    if problem := check_flow(flow):
        raise ValueError(problem)
    return flow


_decode: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode
_READERS: dict[str, Reader] = {"flow": _read_flow, "ndpi-labelled": flow_of}


def _open(file: str) -> BinaryIO:
    return sys.stdin.buffer if file == "-" else Path(file).open("rb")
