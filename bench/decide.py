"""Microseconds per decision of the tariff engine, for accounts of 1, 5 and 25 products and growing catalogues.

`python -m bench.decide [--json FILE]` prints p50 and p99 per case. One case decides a fixed, seeded mix of flows for a
few hundred accounts of the same shape, as a lane would: the record and the account are read from their octets just
before, and each decision starts from the state that the last one left.
"""

import argparse
import contextlib
import gc
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.catalogue import Application, BucketCondition, Catalogue, FlatPrice, PccRule, ProductOffering, UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.catalogue_scopes import Scope
from schemas.classification import Classification, Evidence
from schemas.command import AccountCommand, ActivateProduct, ChangeProfile
from schemas.flow import FlowRecord
from schemas.state import AccountState
from services.engine.commands import apply_command
from services.engine.decide import decide
from services.engine.outcome import Outcome, Position
from services.engine.tariff import Tariff, compile_tariff
from services.engine.usage import emit_usage
from services.policy.accounts import Accounts

NOW_MS = 1_790_000_000_000
APPLICATIONS = 100
ACCOUNTS = 200
FLOWS = 20_000
SLICE = 1_000
"""Flows that one case decides before the next case has its turn."""
ROUNDS = 2
FIRSTS = 300
EMIT_EVERY = 25
"""Decisions of one account between two emissions of its gathered usage."""

_read_flow: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode
_json = msgspec.json.Encoder().encode

CATEGORIES = ("voip_im", "social", "streaming", "other")


def catalogue_of(offerings: int) -> Catalogue:
    """A catalogue whose first offering is a plan and the others are packs for one application each."""
    applications = tuple(
        Application(id=f"app-{n}", name=f"App {n}", category=CATEGORIES[n % 4]) for n in range(APPLICATIONS)
    )
    plan = ProductOffering(
        id="plan", name="Plan", kind="base_plan",
        prices=(FlatPrice(id="fee", type="recurring", amount=10_000_000),),
        allowances=(Allowance(id="data", octets=10**15),),
        usage_prices=(UsagePrice(id="beyond", amount=2_000_000, per_octets=10**9, cap=20_000_000),),
        rules=("voip-3g",),
    )  # fmt: skip
    gate = PccRule(
        id="voip-3g", precedence=10, scope=Scope(categories=("voip_im",), rat_types=("UTRA",)), gate_status="closed"
    )
    packs = [_pack(n) for n in range(offerings - 1)]
    return Catalogue(
        version="bench",
        applications=applications,
        offerings=(plan, *(offering for offering, _ in packs)),
        rules=(gate, *(rule for _, rules in packs for rule in rules)),
    )


def _pack(n: int) -> tuple[ProductOffering, tuple[PccRule, ...]]:
    scope = Scope(applications=(f"app-{n % APPLICATIONS}",))
    rules = (
        PccRule(
            id=f"pack-{n}", precedence=100 + n, scope=scope, bucket=BucketCondition(allowance="own", state="available"),
            rating_group=2,
        ),
        PccRule(
            id=f"slow-{n}", precedence=50_000 + n, scope=scope, charging="free", rating_group=3,
            bucket=BucketCondition(allowance="own", state="exhausted"),
        ),
    )  # fmt: skip
    offering = ProductOffering(
        id=f"pack-{n}", name=f"Pack {n}", kind="add_on", rules=(f"pack-{n}", f"slow-{n}"),
        allowances=(Allowance(id="own", octets=10**15, scope=scope, on_exhausted="throttle"),),
    )  # fmt: skip
    return offering, rules


def accounts_of(tariff: Tariff, products: int, seed: int) -> list[AccountState]:
    """Accounts that hold the plan and `products - 1` packs drawn at random."""
    random_of = random.Random(seed)
    packs = [name for name in tariff.offerings if name != "plan"]
    return [_account(f"s-{n}", random_of.sample(packs, products - 1), tariff) for n in range(ACCOUNTS)]


def _account(name: str, packs: Sequence[str], tariff: Tariff) -> AccountState:
    def common(number: int) -> dict[str, str | int]:
        return {"version": "1.0", "command_id": f"c{number}", "account_id": name, "issued_at_ms": NOW_MS}

    commands: list[AccountCommand] = [ChangeProfile(**common(0))]  # type: ignore[arg-type]
    for number, offering in enumerate(("plan", *packs), start=1):
        commands.append(ActivateProduct(**common(number), product_id=f"p{number}", offering_id=offering))  # type: ignore[arg-type]
    account: AccountState | None = None
    for offset, command in enumerate(commands):
        outcome = apply_command(command, account, tariff, at=Position("commands", 0, offset), now_ms=NOW_MS)
        if not isinstance(outcome, Outcome):
            raise RuntimeError(f"{command}: {outcome}")
        account = outcome.account
    if account is None:
        raise RuntimeError("no account")
    return account


def flows_of(count: int, seed: int) -> list[tuple[FlowRecord, Classification]]:
    """Flows with their verdicts: Zipf over applications, heavy-tailed sizes, mostly 4G and 5G."""
    random_of = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(APPLICATIONS)]
    kinds = [
        Classification(
            category=CATEGORIES[n % 4],  # type: ignore[arg-type]
            application=f"app-{n}", service=None, confidence=95,
            evidence=(Evidence(kind="server_name", value=f"www.app-{n}.com", matched=f"app-{n}.com", confidence=95),),
        )
        for n in range(APPLICATIONS)
    ]  # fmt: skip
    rats = random_of.choices(("EUTRA", "NR", "UTRA"), (60, 30, 10), k=count)
    chosen = random_of.choices(kinds, weights, k=count)
    return [
        (
            _flow(n, f"s-{random_of.randrange(ACCOUNTS)}", int(random_of.paretovariate(1.1) * 800), rats[n]),
            chosen[n],
        )
        for n in range(count)
    ]


def _flow(number: int, subscriber_id: str, octets: int, rat_type: str) -> FlowRecord:
    at_ms = NOW_MS + number
    return FlowRecord(
        version="1.0", record_id=f"r-{number}", subscriber_id=subscriber_id, exporter_id="bench", start_ms=at_ms,
        end_ms=at_ms + 1000, ip_protocol=6, subscriber_ip="10.0.0.1", subscriber_port=40_000, remote_ip="192.0.2.1",
        remote_port=443, octets_up=octets // 10, octets_down=octets, packets_down=1, rat_type=rat_type,  # type: ignore[arg-type]
    )  # fmt: skip


class Case:
    """The accounts of one shape under one catalogue, kept and read as a lane keeps and reads them."""

    def __init__(self, tariff: Tariff, products: int) -> None:
        self._tariff = tariff
        self._accounts = Accounts()
        for account in accounts_of(tariff, products, seed=products):
            self._accounts.put(account)
        self._decided = dict.fromkeys(self._accounts.ids(), 0)

    def forget(self) -> None:
        """Empty what the tariff remembers."""
        self._tariff.forget()

    def decide(self, offset: int, raw: bytes, classification: Classification) -> int:
        """Nanoseconds of one decision. Reading the record and the account before, and writing after, do not count."""
        flow = _read_flow(raw)
        account = self._accounts.get(flow.subscriber_id)
        if account is None:
            raise RuntimeError(f"no account {flow.subscriber_id}")
        at = Position("flows", 0, offset)
        before = time.perf_counter_ns()
        outcome = decide(flow, classification, account, self._tariff, at=at, now_ms=NOW_MS)
        spent = time.perf_counter_ns() - before
        after = outcome.account
        self._decided[after.account_id] += 1
        if self._decided[after.account_id] % EMIT_EVERY == 0:
            after = emit_usage(after, partition=0, now_ms=NOW_MS).account
        self._accounts.put(after)
        return spent


def figures_of(cases: Mapping[str, Case]) -> dict[str, dict[str, float]]:
    """p50, p99 and mean µs per decision of each case, and `first`: the p50 where nothing is remembered yet.

    All cases decide the same flows, slice by slice in turn, so that what else the machine does meets all of them
    alike; one that is measured minutes after another tells of the machine. A first round fills the tariffs' memory.
    """
    flows = [(_json(flow), classification) for flow, classification in flows_of(FLOWS, seed=7)]
    spans: dict[str, list[int]] = {name: [] for name in cases}
    first = {name: _first(case, flows[:FIRSTS]) for name, case in cases.items()}
    with _collected_as_in_a_worker():
        for turn in range(1 + ROUNDS):
            for start in range(0, FLOWS, SLICE):
                for name, case in cases.items():
                    spent = [case.decide(start + n, *flow) for n, flow in enumerate(flows[start : start + SLICE])]
                    spans[name] += spent if turn else ()
    return {name: {**_figures(spans[name]), "first": first[name]} for name in cases}


def _first(case: Case, flows: Sequence[tuple[bytes, Classification]]) -> float:
    spans = []
    for offset, flow in enumerate(flows):
        case.forget()
        spans.append(case.decide(offset, *flow))
    return round(statistics.median(spans) / 1000, 2)


def _figures(spans: Sequence[int]) -> dict[str, float]:
    ordered = sorted(spans)
    return {
        "p50": round(ordered[len(ordered) // 2] / 1000, 2),
        "p99": round(ordered[len(ordered) * 99 // 100] / 1000, 2),
        "mean": round(statistics.fmean(ordered) / 1000, 2),
    }


@contextlib.contextmanager
def _collected_as_in_a_worker() -> Iterator[None]:
    """The collector at rest and all that exists out of its sight, as the policy service sets it."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def run(sizes: Sequence[int] = (10, 1_000, 10_000)) -> dict[str, dict[str, dict[str, float]]]:
    """{products_N: {offerings_M: {p50, p99, mean, first}}} in µs; a catalogue has no fewer offerings than are held."""
    found = {}
    for products in (1, 5, 25):
        tariffs = {f"offerings_{size}": compile_tariff(catalogue_of(max(size, products))) for size in sizes}
        found[f"products_{products}"] = figures_of({name: Case(tariff, products) for name, tariff in tariffs.items()})
    return found


def measure(_arguments: argparse.Namespace | None = None) -> dict[str, Any]:
    """The figures for `make bench`: p50 as `decide_us.products_N.offerings_M`, everything else beside it."""
    found = run()
    middle = {products: {size: figures["p50"] for size, figures in sizes.items()} for products, sizes in found.items()}
    return {"decide_us": middle, "decide_detail_us": found}


def main() -> None:
    """Print the table; write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures = measure()
    print(f"decide(): microseconds per flow, {platform.python_implementation()} {platform.python_version()}")
    for products, sizes in figures["decide_detail_us"].items():
        for offerings, case in sizes.items():
            line = "  ".join(f"{name} {value:7.2f}" for name, value in case.items())
            print(f"  {products:12} {offerings:16} {line}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
