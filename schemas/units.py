"""Exact conversions at the edges: octets from text, money between decimal strings and micro-units. No float."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

Unit = Literal["octets", "ms"]
"""What a bucket holds: volume, or time in milliseconds. Money is held in micro-units, and elsewhere."""

MS_PER_SECOND = 1_000

SECONDS_PER_UNIT = {"s": 1, "min": 60, "h": 3_600}

MICROS = 1_000_000
"""Micro-units in one unit of currency: money inside is an int of these."""

OCTETS_PER_UNIT = {
    "octet": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""kB, MB, GB are powers of 1000; KiB, MiB, GiB powers of 1024 (IEC 80000-13). Case matters."""

_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")
_MONEY = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]+)?")
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def parse_octets(text: str) -> int:
    """Octets of an amount such as `5 GB`, `1.5GiB` or `300 octet`.

    Raises ValueError, naming value, rule and next step, when the unit is unknown or octets would be split.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if not match or match[2] not in OCTETS_PER_UNIT:
        known = ", ".join(OCTETS_PER_UNIT)
        raise ValueError(f"{text!r} is not a volume; write a number and one of {known}, e.g. '5 GB'")
    octets = _CONTEXT.multiply(Decimal(match[1]), OCTETS_PER_UNIT[match[2]])
    if octets != octets.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number of octets; use a smaller unit")
    return int(octets)


def parse_seconds(text: str) -> int:
    """Seconds of an amount such as `60 min`, `1.5 h` or `600 s`.

    Raises ValueError, naming value, rule and next step, when the unit is unknown or seconds would be split.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if not match or match[2] not in SECONDS_PER_UNIT:
        known = ", ".join(SECONDS_PER_UNIT)
        raise ValueError(f"{text!r} is not a length of time; write a number and one of {known}, e.g. '60 min'")
    seconds = _CONTEXT.multiply(Decimal(match[1]), SECONDS_PER_UNIT[match[2]])
    if seconds != seconds.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number of seconds; use a smaller unit")
    return int(seconds)


def parse_micros(text: str) -> int:
    """Micro-units of a decimal string such as `0.0125`.

    Raises ValueError for exponents, signs other than a leading minus, NaN, and more than six decimal places.
    """
    if not _MONEY.fullmatch(text):
        raise ValueError(f"{text!r} is not an amount of money; write digits with a dot, e.g. '4.99'")
    micros = _CONTEXT.multiply(Decimal(text), MICROS)
    if micros != micros.to_integral_value():
        raise ValueError(f"{text!r} has more than six decimal places; round it before it gets here")
    return int(micros)


def format_micros(micros: int) -> str:
    """The shortest exact decimal string of an amount in micro-units: 12500 -> `0.0125`, 0 -> `0`."""
    whole, part = divmod(abs(micros), MICROS)
    text = f"{whole}.{part:06d}".rstrip("0").rstrip(".") if part else str(whole)
    return f"-{text}" if micros < 0 else text


def format_octets(octets: int) -> str:
    """Octets for people, in powers of 1000 with one decimal place, cut, not rounded: 1550000 -> `1.5 MB`."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if abs(octets) >= size:
            tenths = abs(octets) * 10 // size
            return f"{'-' if octets < 0 else ''}{tenths // 10}.{tenths % 10} {unit}"
    return f"{octets} B"


def format_seconds(ms: int) -> str:
    """The shortest exact decimal string of seconds: 12500 ms -> `12.5`, 600000 ms -> `600`."""
    whole, part = divmod(abs(ms), MS_PER_SECOND)
    text = f"{whole}.{part:03d}".rstrip("0") if part else str(whole)
    return f"-{text}" if ms < 0 else text


def format_amount(amount: int, unit: Unit) -> str:
    """An amount of a bucket, exact, for people: `600 octets`, `12.5 s`."""
    return f"{format_seconds(amount)} s" if unit == "ms" else f"{amount} octets"
