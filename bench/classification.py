"""How fast classification is, and whether it stays so: `python -m bench.classification`.

Host matching with 100 to 300 000 suffixes, hosts seen before (warm) and never seen (cold), then whole flows of the
usual kinds over the shipped catalogue, and what a flood of random names leaves in memory. CPU time of one core, the
best of several rounds, interleaved so that a busy moment of the machine hits all alike. Writes
`build/classification.json`.
"""

import argparse
import gc
import json
import platform
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from schemas.catalogue import Application, Pfd
from schemas.flow import FlowRecord, octets_of
from services.engine.classify import Classifier, SubscriberMemory
from services.engine.unknowns import UnknownNames
from services.rating.catalogue_files import load_catalogue

SIZES = (100, 3_000, 30_000, 300_000)
HOSTS = 20_000
ROUNDS = 15
FLOOD = 1_000_000
CACHE_ENTRIES = 65_536


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/classification.json"))
    parser.add_argument("--flood", type=int, default=FLOOD, help="random names to send")
    options = parser.parse_args(arguments)
    report = {
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        **_figures(options.flood),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    return 0


def measure(_arguments: argparse.Namespace | None = None) -> dict[str, Any]:
    """The figures as `python -m bench` gathers them."""
    figures = _figures(FLOOD)
    figures["host_matching"] = {f"suffixes_{row['suffixes']}": row for row in figures["host_matching"]}
    return {"classification": figures}


def _figures(names: int) -> dict[str, Any]:
    matching = host_matching()
    cold = [row["cold_ns"] for row in matching]
    return {
        "host_matching": matching,
        "cold_slowest_to_fastest_size": round(max(cold) / min(cold), 2),
        "flow_us": whole_flows(),
        "flood": flood(names),
    }


def host_matching() -> list[dict[str, float]]:
    """Nanoseconds to match one host, by the number of suffixes; memory of the tables in MiB."""
    numbers = random.Random(20_260_101)
    names = [f"{numbers.randbytes(4).hex()}.{top}" for top in _tops(max(SIZES), numbers)]
    benches = [_HostBench(names[:size], numbers) for size in SIZES]
    gc.collect()
    gc.freeze()
    for _ in range(ROUNDS):
        for bench in benches:
            bench.round()
    return [bench.row() for bench in benches]


class _HostBench:
    """One table; the best rounds so far."""

    def __init__(self, names: Sequence[str], numbers: random.Random) -> None:
        before = _resident_kib()
        self._classifier = Classifier([_application(names)], cache_entries=4 * HOSTS)
        self._table_kib = _resident_kib() - before
        self._suffixes = len(names)
        self._hosts = [f"{numbers.randbytes(3).hex()}.{_known_or_not(names, numbers)}" for _ in range(HOSTS)]
        self._turn = 0
        self.cold_ns = self.warm_ns = float("inf")

    def round(self) -> None:
        """Hosts with a first label never used before, then the same ones again."""
        self._turn += 1
        match = self._classifier._name
        hosts = [f"r{self._turn}-{host}" for host in self._hosts]
        self.cold_ns = min(self.cold_ns, _nanoseconds(match, hosts))
        self.warm_ns = min(self.warm_ns, _nanoseconds(match, [f"r{self._turn}-{host}" for host in self._hosts]))

    def row(self) -> dict[str, float]:
        """The figures for the report."""
        return {
            "suffixes": self._suffixes, "cold_ns": round(self.cold_ns), "warm_ns": round(self.warm_ns),
            "resident_mib_with_catalogue": round(self._table_kib / 1024, 1),
        }  # fmt: skip


def whole_flows() -> dict[str, float]:
    """Microseconds of `classify` per flow of each kind, over the shipped catalogue, after all were seen once."""
    numbers = random.Random(7)
    applications = load_catalogue().applications
    names = [name for item in applications for pfd in item.pfds for name in pfd.domain_names if name[0] not in "=*"]
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "named": lambda: {"server_name": f"x{numbers.randrange(4)}.{numbers.choice(names[:800])}"},
        "named_unlisted": lambda: {"server_name": f"www.site{numbers.randrange(3_000)}.example"},
        "named_with_dns_name": lambda: dict.fromkeys(("server_name", "dns_name"), numbers.choice(names[:800])),
        "nameless_tcp": dict,
        "stun": lambda: {"ip_protocol": 17, "remote_port": 3478},
        "media": lambda: {"ip_protocol": 17, "remote_port": 45_000, "packets_up": 500, "octets_up": 100_000},
        "never_seen_name": lambda: {"server_name": f"{numbers.randbytes(6).hex()}.{numbers.choice(names)}"},
    }
    classifier, memory = Classifier(applications, cache_entries=CACHE_ENTRIES), SubscriberMemory()
    gc.collect()
    gc.freeze()
    return {kind: _flow_us(classifier, memory, make, seen=kind != "never_seen_name") for kind, make in kinds.items()}


def _flow_us(
    classifier: Classifier, memory: SubscriberMemory, make: Callable[[], dict[str, Any]], *, seen: bool
) -> float:
    rows = [msgspec.json.encode(_flow_fields(number) | make()) for number in range(HOSTS)]
    decode = msgspec.json.Decoder(FlowRecord).decode
    best = float("inf")
    for _ in range(ROUNDS if seen else 1):
        flows = [decode(row) for row in rows]
        best = min(best, _nanoseconds(lambda flow: classifier.classify(flow, memory), flows))
    return round(best / 1_000, 2)


def flood(names: int) -> dict[str, float]:
    """Resident memory before and after a flood of random names, from random subscribers to random addresses."""
    numbers = random.Random(11)
    classifier, memory = Classifier(load_catalogue().applications, cache_entries=CACHE_ENTRIES), SubscriberMemory()
    unknown = UnknownNames()
    make = partial(FlowRecord, **{**_flow_fields(0), "remote_ip": "", "subscriber_id": ""})
    sizes, started = [], time.process_time()
    for turn in range(names):
        octets = numbers.randbytes(12)
        flow = make(
            server_name=f"{octets.hex()}.com", remote_ip=f"20.{octets[0]}.{octets[1]}.{octets[2]}",
            subscriber_id=octets[4:].hex(),
        )  # fmt: skip
        unknown.add(flow.exporter_id, classifier.classify(flow, memory), octets_of(flow))
        if turn in {names // 4, names - 1}:
            sizes.append(_resident_kib() / 1024)
    return {
        "names": names,
        "core_seconds": round(time.process_time() - started, 1),
        "resident_mib_at_a_quarter": round(sizes[0], 1),
        "resident_mib_at_the_end": round(sizes[-1], 1),
    }


def _flow_fields(number: int) -> dict[str, Any]:
    return {
        "version": "1.0", "record_id": f"r-{number}", "subscriber_id": f"s-{number % 500}", "exporter_id": "e",
        "start_ms": 1_000_000 + number, "end_ms": 1_010_000 + number, "ip_protocol": 6, "subscriber_ip": "10.0.0.1",
        "subscriber_port": 33_000 + number % 20_000, "remote_ip": f"198.51.100.{number % 200}", "remote_port": 443,
        "octets_up": 1_000, "octets_down": 90_000, "packets_up": 12, "packets_down": 70,
    }  # fmt: skip


def _application(names: Sequence[str]) -> Application:
    return Application(
        id="many", name="Many", category="other", pfds=(Pfd(pfd_id="names", domain_names=tuple(names)),)
    )  # fmt: skip


def _tops(count: int, numbers: random.Random) -> list[str]:
    return [numbers.choice(("com", "net", "example", "co.uk", "com.br", "in", "cn", "ru", "jp")) for _ in range(count)]


def _known_or_not(names: Sequence[str], numbers: random.Random) -> str:
    """Six hosts of ten are listed, as in real traffic with a good catalogue."""
    return numbers.choice(names) if numbers.random() < 0.6 else f"cdn.{numbers.randbytes(4).hex()}.org"


def _nanoseconds(call: Callable[[Any], object], items: Sequence[Any]) -> float:
    started = time.process_time_ns()
    for item in items:
        call(item)
    return (time.process_time_ns() - started) / len(items)


def _resident_kib() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize() // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
