"""Fuzz what reads strangers' text, by hand and for minutes: `make fuzz`, or `python -m bench.fuzz [TARGET ...]`.

Needs atheris (`make fuzz` brings it along), which watches what code an input reaches and looks for inputs that reach
more. A find is written to `build/fuzz/<target>/crash-*`; run it again with `--replay FILE`. `--growth` needs nothing:
it measures how the time of each reader grows while its input doubles.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.fuzz_targets import SEEDS, TARGETS, growing

FOLDER = Path("build/fuzz")
SECONDS = 60
SMALL, DOUBLINGS = 8_192, 4
STEEPEST = 3.0
"""Twice the text may take so many times as long: linear is 2, the rest is a busy machine; quadratic would be 4."""


def main() -> int:
    """Fuzz the targets one after the other, each in a process of its own; 1 if one of them found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help=f"{', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--replay", type=Path, help="run one target on this file, without atheris")
    parser.add_argument("--growth", action="store_true", help="measure how time grows with the input")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    targets = options.targets or list(TARGETS)
    if options.growth:
        return growth()
    if options.replay is not None:
        TARGETS[targets[0]](options.replay.read_bytes())
        return 0
    if options.here:
        _fuzz(targets[0], options.seconds)
    return max(_fuzz_aside(target, options.seconds) for target in targets)


def growth() -> int:
    """Print the steepest growth of each reader; 1 if one grows faster than its input."""
    steep = 0
    for name in growing(SMALL):
        times = [_best_s(*growing(SMALL << step)[name]) for step in range(DOUBLINGS + 1)]
        # Over all doublings together, so that one interrupted measurement says little.
        ratio = (times[-1] / times[0]) ** (1 / DOUBLINGS)
        steep += ratio > STEEPEST
        print(f"{name:32} {times[-1] * 1_000:9.3f} ms  x{ratio:.2f} per doubling{'  TOO STEEP' * (ratio > STEEPEST)}")
    return 1 if steep else 0


def _best_s(read: Callable[[str], object], text: str) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.process_time_ns()
        with contextlib.suppress(ValueError):
            read(text)
        best = min(best, time.process_time_ns() - started)
    return max(best, 1_000) / 1e9


def _fuzz_aside(target: str, seconds: int) -> int:
    print(f"== {target}, {seconds} s", flush=True)
    command = [sys.executable, "-m", "bench.fuzz", target, "--seconds", str(seconds), "--here"]
    return subprocess.run(command, check=False).returncode != 0


def _fuzz(target: str, seconds: int) -> None:
    """Never returns: the fuzzer ends the process itself."""
    import atheris  # noqa: PLC0415 - a tool that only this needs

    folder = FOLDER / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (folder / f"seed-{number}").write_bytes(seed)
        # What is made once, such as the shipped catalogue's tables, is no input's fault.
        TARGETS[target](seed)
    atheris.instrument_all()
    limits = [f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=2048", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", str(folder)], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
