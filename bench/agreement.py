"""Let the tariff engine and its slow reference model live many random days, and compare: `make agreement`.

A day is a tariff, an account and a dozen events, all drawn from one number, its seed; both charge it, flow by flow. The
test suite lives a few hundred days, this as many as are asked for, on all cores. What differs is printed with its seed;
`--first SEED --days 1` lives that day again.
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

MODELS = {
    "charging": "tests.engine.test_reference",
    "corrections": "tests.engine.test_reference_corrections",
    "late": "tests.engine.test_reference_late",
}
DAYS = 10_000
BLOCK = 250
SHOWN = 20


def main() -> int:
    """Live the days; 1 if the two differ on any of them."""
    arguments = _arguments()
    began, lived, differing = time.monotonic(), 0, 0
    for days, differences in _live(arguments):
        lived += days
        for difference in differences[: max(0, SHOWN - differing)]:
            _say("\n" + difference + "\n")
        differing += len(differences)
        _say(f"\r{lived:,} of {arguments.days:,} days lived, {differing:,} differ; {time.monotonic() - began:,.0f} s")
    _say("\n")
    print(f"{arguments.model}: {lived - differing:,} of {lived:,} days agree")
    return 1 if differing or not lived else 0


def differences_of(model: str, first: int, days: int) -> tuple[int, list[str]]:
    """How many days were lived from seed `first` on, and what differed on each day on which something did."""
    live = importlib.import_module(MODELS[model]).live
    differences = []
    for seed in range(first, first + days):
        try:
            live(seed)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # Whatever breaks a day is a difference, and the others go on. What `pytest.raises` misses is no Exception.
            differences.append(f"seed {seed}: {type(error).__name__}: {error}")
    return days, differences


def _live(arguments: argparse.Namespace) -> Iterator[tuple[int, list[str]]]:
    end = arguments.first + arguments.days
    firsts = range(arguments.first, end, BLOCK)
    with ProcessPoolExecutor(arguments.processes) as pool:
        yield from pool.map(
            differences_of, [arguments.model] * len(firsts), firsts, [min(BLOCK, end - first) for first in firsts]
        )


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make agreement", description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="charging", help="what is compared")
    parser.add_argument("--days", type=_positive, default=DAYS, help="how many days, one for each seed")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed")
    parser.add_argument("--processes", type=_positive, default=os.cpu_count(), help="one for each core by default")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
