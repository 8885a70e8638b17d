"""The lines of a file that a command is given: plain or compressed by gzip, or of standard input."""

import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MAX_LINE_OCTETS = 8 * 1024 * 1024
"""A longer line is cut, and is no record then."""

GZIP = b"\x1f\x8b"
"""What a file compressed by gzip begins with (RFC 1952)."""


def raw_lines(file: str) -> Iterator[bytes]:
    """Every line of `file` (`-` = standard input); of a file compressed by gzip, those that it holds.

    Raises OSError, also where the compressed data ends too early.
    """
    with _opened(file) as lines:
        try:
            yield from _bounded(lines)
        except (EOFError, zlib.error) as error:
            raise OSError(f"{file} is compressed by gzip and broken ({error}); copy it again") from None


def lines_of(file: str) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers. Raises OSError."""
    for number, line in enumerate(raw_lines(file), start=1):
        if line.strip():
            yield number, line


@contextlib.contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as raw:
        if not raw.peek(len(GZIP)).startswith(GZIP):
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield io.BufferedReader(unpacked)


def _bounded(lines: IO[bytes]) -> Iterator[bytes]:
    """The lines, each cut to MAX_LINE_OCTETS: a file without an end of line takes no more memory than that."""
    while line := lines.readline(MAX_LINE_OCTETS):
        rest = line
        while len(rest) == MAX_LINE_OCTETS and not rest.endswith(b"\n"):
            rest = lines.readline(MAX_LINE_OCTETS)
        yield line
