"""The table of settings in the pages for people: `python -m services.runtime.settings_docs [--check]`.

Writes docs/settings.md, and README.md where it has the markers `<!-- settings:begin -->` and `<!-- settings:end -->`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from schemas.marked import has_markers, replace_marked
from services.runtime.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]

PART = "settings"
"""Name of the generated part in each page."""

_PAGE = "docs/settings.md"
_OPTIONAL_PAGE = "README.md"
_NEXT_STEP = "run `python -m services.runtime.settings_docs` and commit what it writes"
_UNITS = {
    "_ms": "ms",
    "_octets": "octets",
    "_records": "records",
    "_records_per_lane": "records per lane",
    "_accounts": "accounts",
    "_entries": "entries",
}


class SettingDoc(NamedTuple):
    """What a person has to know of one setting."""

    name: str
    variable: str
    kind: str
    """`whole number, ms`, `text` or `one word`."""

    default: str
    """As it would stand in the environment; empty when there is none."""

    rule: str
    """Bounds or words in one phrase; empty when anything goes."""

    about: str


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the pages below `root`; with `--check` write nothing and return 1 if one has drifted."""
    parser = argparse.ArgumentParser(prog="python -m services.runtime.settings_docs", description="Document settings.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page has drifted")
    check = parser.parse_args(arguments).check
    stale = {path: text for path, text in pages(root).items() if (root / path).read_text(encoding="utf-8") != text}
    for path, text in stale.items():
        sys.stdout.write(f"{path}: {'the settings table has drifted' if check else 'written'}\n")
        if not check:
            (root / path).write_text(text, encoding="utf-8")
    if not stale:
        sys.stdout.write("settings tables are up to date\n")
    elif check:
        sys.stdout.write(f"{_NEXT_STEP}\n")
    return 1 if check and stale else 0


def pages(root: Path) -> dict[str, str]:
    """Every page with the table below `root`, as it has to be. Raises MarkersMissing for docs/settings.md only."""
    table = settings_table(settings_docs())
    texts = {path: (root / path).read_text(encoding="utf-8") for path in (_PAGE, _OPTIONAL_PAGE)}
    wanted = {path: text for path, text in texts.items() if path == _PAGE or has_markers(text, PART)}
    return {path: replace_marked(text, PART, table) for path, text in wanted.items()}


def settings_docs() -> list[SettingDoc]:
    """Every setting in the order of the model."""
    return [_described(name, rules) for name, rules in Settings.model_json_schema()["properties"].items()]


def settings_table(settings: Sequence[SettingDoc]) -> str:
    """The settings as a Markdown table."""
    return "\n".join(_rows(settings))


def _rows(settings: Sequence[SettingDoc]) -> Iterator[str]:
    yield "| setting | environment variable | kind | default | rule | meaning |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else "empty"
        cells = (f"`{setting.name}`", f"`{setting.variable}`", setting.kind, default, setting.rule, setting.about)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _described(name: str, rules: Mapping[str, Any]) -> SettingDoc:
    return SettingDoc(
        name=name,
        variable=PREFIX + name.upper(),
        kind=_kind(name, rules),
        default=str(rules["default"]),
        rule=_rule(rules),
        about=rules["description"],
    )


def _kind(name: str, rules: Mapping[str, Any]) -> str:
    if "enum" in rules:
        return "one word"
    if rules["type"] == "string":
        return "text"
    unit = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    return f"whole number, {unit}" if unit else "whole number"


def _rule(rules: Mapping[str, Any]) -> str:
    if "enum" in rules:
        return ", ".join(f"`{word}`" for word in rules["enum"])
    if "minimum" in rules:
        return f"{rules['minimum']} to {rules['maximum']}"
    bounds = (("minLength", "at least {} character"), ("maxLength", "at most {} characters"))
    return ", ".join(words.format(rules[bound]) for bound, words in bounds if bound in rules)


if __name__ == "__main__":
    sys.exit(main())
