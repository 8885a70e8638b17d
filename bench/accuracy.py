"""How well the classifier does on labelled flows: `make accuracy`, or `python -m bench.accuracy [FOLDER]`.

Reads `*-flows-*.jsonl` with its `*-mapping-*.json` beside it, classifies in one pass in the given order with one
subscriber memory, as `smartpipe classify` does, and scores the answers. Writes `build/accuracy.json`. Labels are only
looked at here. Exit code 1 when a floor is missed; without the data it says so and ends with 0.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from schemas.classification import Classification
from schemas.flow import octets_of
from services.engine.classify import Classifier, SubscriberMemory
from services.ingest.ndpi_labelled import flow_of
from services.rating.catalogue_files import load_catalogue

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
CATEGORIES = ("voip_im", "social", "streaming", "other")
OTT = frozenset(CATEGORIES) - {"other"}
FLOORS = {
    "accuracy": 0.95, "ott_named_accuracy": 0.97, "ott_nameless_accuracy": 0.75, "macro_f1": 0.92,
    "call_precision": 0.9, "call_recall": 0.9,
}  # fmt: skip

CALL_LABELS = frozenset(("RTP", "STUN.Zoom", "Zoom", "STUN", "RTCP"))
"""Labels of media planes that name no service: they are calls too."""

UDP = 17


class Scored(NamedTuple):
    """One flow: what the label says, what the classifier said."""

    category: str
    call: bool | None
    """None where the label names an application and leaves open which service a nameless UDP flow of it was."""

    named: bool
    specific: bool
    octets: int
    name: str
    label: str
    answer: Classification


def main(arguments: list[str] | None = None) -> int:
    """Score, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--output", type=Path, default=Path("build/accuracy.json"))
    parser.add_argument(
        "--catalogue", type=Path, default=None, help="folder of catalogue files; the shipped one if absent"
    )
    parser.add_argument("--worst", type=int, default=30, help="how many wrongly answered names to list")
    options = parser.parse_args(arguments)
    files = sorted(options.folder.glob("*-flows-*.jsonl")) if options.folder.is_dir() else []
    if not files:
        print(f"accuracy: SKIPPED, no *-flows-*.jsonl in {options.folder}; nothing was measured")
        return 0
    scored = [item for file in files for item in score(file, mapping_beside(file), options.catalogue)]
    report = report_of(scored, worst=options.worst)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines_of(report)))
    return 1 if report["missed"] else 0


def mapping_beside(file: Path) -> dict[str, Any]:
    """The mapping of labels to our categories that belongs to a file of flows."""
    mapping: dict[str, Any] = json.loads(
        (file.parent / file.name.replace("-flows-", "-mapping-").replace(".jsonl", ".json")).read_bytes()
    )
    return mapping


def score(file: Path, mapping: dict[str, Any], catalogue: Path | None = None) -> Iterator[Scored]:
    """Every flow of `file` with its label and the answer, streaming and in order."""
    classifier = Classifier(load_catalogue(catalogue).applications, cache_entries=65_536)
    memory = SubscriberMemory()
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            flow = flow_of(line, number)
            answer = classifier.classify(flow, memory)
            yield _scored(json.loads(line), mapping, octets_of(flow), answer)


def _scored(row: dict[str, Any], mapping: dict[str, Any], octets: int, answer: Classification) -> Scored:
    label = mapping[row["label_app"]]
    category = label.get("by_ndpi_category", {}).get(row["label_category"], label["category"])
    name = row["requested_server_name"]
    call: bool | None = label.get("service") == "call" or row["label_app"] in CALL_LABELS
    if not call and "service" not in label and row["ip_protocol"] == UDP and not name:
        call = None
    return Scored(category, call, bool(name), label["specific"], octets, name, row["label_app"], answer)


def report_of(scored: list[Scored], *, worst: int) -> dict[str, Any]:
    """All figures, ready for JSON; shares are rounded to four places."""
    ott = [item for item in scored if item.category in OTT]
    by_category = {
        weight: {category: _figures(scored, category, weight) for category in CATEGORIES}
        for weight in ("flows", "octets")
    }
    headline = {
        "accuracy": _accuracy(scored),
        "accuracy_specific_labels": _accuracy([item for item in scored if item.specific]),
        "ott_named_accuracy": _accuracy([item for item in ott if item.named]),
        "ott_nameless_accuracy": _accuracy([item for item in ott if not item.named]),
        "macro_f1": round(sum(by_category["flows"][item]["f1"] for item in CATEGORIES) / len(CATEGORIES), 4),
        **_calls([item for item in scored if item.category == "voip_im"]),
    }
    return {
        "flows": len(scored),
        "headline": headline,
        "floors": FLOORS,
        "missed": [name for name, floor in FLOORS.items() if headline[name] < floor],
        "by_category": by_category,
        "by_category_named": {c: _figures([i for i in scored if i.named], c, "flows") for c in CATEGORIES},
        "by_category_nameless": {c: _figures([i for i in scored if not i.named], c, "flows") for c in CATEGORIES},
        "confusion": _confusion(scored),
        "worst_names": _worst(scored, worst),
    }


def _accuracy(scored: list[Scored]) -> float:
    return _share(sum(item.answer.category == item.category for item in scored), len(scored))


def _figures(scored: Iterable[Scored], category: str, weight: str) -> dict[str, float]:
    right = answered = there = 0
    for item in scored:
        amount = item.octets if weight == "octets" else 1
        right += amount * (item.category == category == item.answer.category)
        answered += amount * (item.answer.category == category)
        there += amount * (item.category == category)
    return {
        "precision": _share(right, answered), "recall": _share(right, there), "f1": _share(2 * right, answered + there),
        "support": there,
    }  # fmt: skip


def _calls(scored: list[Scored]) -> dict[str, float]:
    """Call against chat: among flows that are VoIP or IM by their label, which ones are said to be a call.

    Twice: where the label tells the two apart, and with every flow that it does not call a call counted as chat.
    """
    said = [item for item in scored if item.answer.service == "call"]
    right = sum(item.call is True for item in said)
    return {
        "call_precision": _share(right, sum(item.call is not None for item in said)),
        "call_precision_strict": _share(right, len(said)),
        "call_recall": _share(right, sum(item.call is True for item in scored)),
    }


def _confusion(scored: list[Scored]) -> dict[str, dict[str, int]]:
    pairs: Counter[tuple[str, str]] = Counter((item.category, item.answer.category) for item in scored)
    return {truth: {said: pairs[truth, said] for said in CATEGORIES} for truth in CATEGORIES}


def _worst(scored: list[Scored], worst: int) -> list[dict[str, Any]]:
    wrong = Counter(
        (item.name or "(no name)", item.label, item.category, item.answer.category, item.answer.application or "")
        for item in scored
        if item.category != item.answer.category
    )
    keys = ("name", "label", "category", "answered", "application")
    return [dict(zip(keys, key, strict=True)) | {"flows": flows} for key, flows in wrong.most_common(worst)]


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 1.0


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield f"{report['flows']} flows"
    for name, value in report["headline"].items():
        floor = FLOORS.get(name)
        yield f"  {name:26} {value:.4f}" + (f"  floor {floor} {'MISSED' if value < floor else 'held'}" if floor else "")
    for title in ("by_category.flows", "by_category.octets", "by_category_named", "by_category_nameless"):
        table = report
        for key in title.split("."):
            table = table[key]
        yield f"\n{title:24} precision  recall      f1      support"
        for category, row in table.items():
            yield f"  {category:22} {row['precision']:9.4f} {row['recall']:7.4f} {row['f1']:7.4f} {row['support']:12}"
    yield "\nconfusion (label down, answer across)" + "".join(f"{category:>11}" for category in CATEGORIES)
    for truth, row in report["confusion"].items():
        yield f"  {truth:35}" + "".join(f"{row[said]:11}" for said in CATEGORIES)
    yield "\nworst names"
    for item in report["worst_names"]:
        yield (
            f"  {item['flows']:4} {item['name'][:48]:48} {item['label']:22} {item['category']} answered as "
            f"{item['answered']} {item['application']}"
        )


if __name__ == "__main__":
    sys.exit(main())
