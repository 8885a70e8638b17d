"""Lint of the Grafana dashboard and its provisioning: what Grafana accepts in silence and then shows wrongly."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.checks.expressions import DASHBOARDS, DEPLOY, all_panels, load_yaml
from deploy.grafana import build_dashboard

UNITS = frozenset({"short", "none", "cps", "reqps", "Bps", "bytes", "s", "percentunit", "percent"})
"""Grafana unit ids in use here; a misspelt one would show bare numbers."""

_RANGE = re.compile(r"\b(?:rate|increase|irate|delta)\s*\([^()\[]*\[([^\]]*)\]")
_FIXED_WINDOWS = frozenset({"$__rate_interval", "$__range", "1h"})
_UNIT_OF_NAME = (("_octets", {"Bps", "bytes"}), ("_bytes", {"Bps", "bytes"}), ("_seconds", {"s", "short"}))


def load(path: Path) -> Mapping[str, Any]:
    """One dashboard file."""
    board: Mapping[str, Any] = json.loads(path.read_text())
    return board


def check_dashboard(board: Mapping[str, Any]) -> list[str]:
    """Complaints about one dashboard."""
    panels = [panel for panel in all_panels(board) if panel["type"] != "row"]
    return [
        *_identity_problems(board),
        *_layout_problems(board),
        *(f"panel {panel.get('title')!r}: {problem}" for panel in panels for problem in _panel_problems(panel)),
    ]


def check_provisioning() -> list[str]:
    """Complaints about the provisioning files: what Grafana would load from elsewhere or not at all."""
    folder = DEPLOY / "grafana" / "provisioning"
    sources = load_yaml(folder / "datasources" / "prometheus.yml")["datasources"]
    providers = load_yaml(folder / "dashboards" / "smartpipe.yml")["providers"]
    problems = [] if [s["type"] for s in sources] == ["prometheus"] else ["exactly one Prometheus data source, please"]
    problems += [f"data source {s['name']} is not the default one" for s in sources if not s.get("isDefault")]
    problems += [f"provider {p['name']} lets edits in Grafana win" for p in providers if p.get("allowUiUpdates")]
    if not list(DASHBOARDS.glob("*.json")):
        problems.append(f"{DASHBOARDS} holds no dashboard")
    return problems


def _identity_problems(board: Mapping[str, Any]) -> Iterator[str]:
    for key in ("uid", "title", "schemaVersion"):
        if not board.get(key):
            yield f"the dashboard has no {key}"
    if not any(variable["type"] == "datasource" for variable in board["templating"]["list"]):
        yield "the data source is not a variable, so the dashboard works in one Grafana only"
    ids = [panel["id"] for panel in all_panels(board)]
    for panel_id in sorted({item for item in ids if ids.count(item) > 1}):
        yield f"panel id {panel_id} is used twice"
    titles = [panel["title"] for panel in all_panels(board) if panel.get("title")]
    for title in sorted({item for item in titles if titles.count(item) > 1}):
        yield f"panel title {title!r} is used twice"


def _layout_problems(board: Mapping[str, Any]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place, title = panel["gridPos"], panel.get("title", "")
        if place["x"] < 0 or place["y"] < 0 or place["x"] + place["w"] > build_dashboard.GRID_WIDTH:
            yield f"panel {title!r} leaves the grid of {build_dashboard.GRID_WIDTH} columns"
        cells = [(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])]  # fmt: skip
        for other in sorted({taken[cell] for cell in cells if cell in taken}):
            yield f"panel {title!r} overlaps {other!r}"
        taken.update(dict.fromkeys(cells, title))


def _panel_problems(panel: Mapping[str, Any]) -> Iterator[str]:
    for key in ("title", "description"):
        if not panel.get(key):
            yield f"no {key}"
    unit = panel["fieldConfig"]["defaults"].get("unit")
    if unit not in UNITS:
        yield f"unit {unit!r} is not one of {', '.join(sorted(UNITS))}"
    targets = panel.get("targets", [])
    if not targets:
        yield "no query"
    refs = [target["refId"] for target in targets]
    if len(set(refs)) != len(refs):
        yield "a refId is used twice"
    for source in [panel, *targets]:
        if source.get("datasource", {}).get("uid") != "${datasource}":
            yield "the data source is not ${datasource}"
    for target in targets:
        yield from _target_problems(target, unit)


def _target_problems(target: Mapping[str, Any], unit: str | None) -> Iterator[str]:
    if not target.get("legendFormat"):
        yield f"query {target['refId']} has no legend"
    for window in _RANGE.findall(target["expr"]):
        if window not in _FIXED_WINDOWS:
            yield f"query {target['refId']} has the window [{window}]; use $__rate_interval"
    for ending, units in _UNIT_OF_NAME:
        plain = re.fullmatch(rf"[^/]*\b\w*{ending}(?:_total|_bucket)?\b[^/]*", target["expr"])
        if plain and unit not in units:
            yield f"query {target['refId']} yields {ending[1:]}, but the unit is {unit!r}"
