"""`make bench`: every figure that the README quotes, measured here and now, written to build/bench.json."""

import argparse
import asyncio
import importlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.report import FLOORS, print_figures

LIBRARIES = ("aiokafka", "msgspec", "uvloop", "pydantic", "sqlalchemy", "fastapi")
MEASUREMENTS = ("pipeline", "decide", "classification")
OUTPUT = Path("build/bench.json")


def main() -> int:
    """Run the measurements that were asked for; 1 if a floor is missed."""
    arguments = _arguments()
    figures: dict[str, Any] = {"machine": machine(), "settings": {}}
    for name in arguments.only:
        print(f"== {name}", flush=True)
        module = importlib.import_module(f"bench.{name}")
        result = module.measure(arguments)
        figures.update(asyncio.run(result) if asyncio.iscoroutine(result) else result)
        _write(figures)
    print_figures(figures)
    return 1 if any(missed for _, missed in FLOORS.misses(figures)) else 0


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS),
        help="which measurements to run (all by default)",
    )  # fmt: skip
    parser.add_argument("--records", type=int, default=1_000_000, help="flow records of the throughput run")
    parser.add_argument("--accounts", type=int, default=100_000, help="accounts, each with one subscriber")
    parser.add_argument("--latency-seconds", type=int, default=30, help="length of the latency run")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="use this Kafka; a development one is started by default")
    return parser.parse_args()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _write(figures: dict[str, Any]) -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
