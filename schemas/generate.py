"""Write, or check, the files that are generated from the models: `python -m schemas.generate [--check]`.

    schemas/json/<topic>.schema.json        JSON Schema 2020-12 of a record
    schemas/examples/<topic>/<n>.json       examples, from schemas/samples.py
    schemas/asyncapi.yaml                   the AsyncAPI 3.0 document over all topics
    docs/contracts.md                       the table of topics, between its markers

Output depends on the models alone, so that a second run changes nothing.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from schemas.asyncapi import asyncapi_document
from schemas.json_schema import json_schema
from schemas.marked import replace_marked
from schemas.samples import SAMPLES
from schemas.topics import ALL, DAY_MS, FLOWS, Topic

ROOT = Path(__file__).resolve().parent.parent

NEXT_STEP = "run `python -m schemas.generate` and commit what it writes"

_OURS = ("schemas/json", "schemas/examples")
_PAGE = "docs/contracts.md"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Generate below `root`; with `--check` write nothing, name every file that differs, and return 1 if one does."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description="Generate the contracts' files.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file has drifted")
    if parser.parse_args(arguments).check:
        problems = list(drift(root))
        sys.stdout.writelines(f"{problem}\n" for problem in problems)
        sys.stdout.write(f"{NEXT_STEP}\n" if problems else "generated contracts are up to date\n")
        return 1 if problems else 0
    written = write(root)
    sys.stdout.write(f"{written} of {len(generated_files(root))} files written\n")
    return 0


def generated_files(root: Path = ROOT) -> dict[str, str]:
    """Every generated file below `root` as it has to be: path with forward slashes, text."""
    files = {f"schemas/json/{topic.name}.schema.json": _json_text(json_schema(topic)) for topic in ALL}
    for topic in ALL:
        for number, sample in enumerate(SAMPLES[topic.name], 1):
            files[f"schemas/examples/{topic.name}/{number}.json"] = _json_text(example(topic, sample))
    files["schemas/asyncapi.yaml"] = _yaml_text(asyncapi_document(ALL, _examples_by_message()))
    page = (root / _PAGE).read_text(encoding="utf-8")
    files[_PAGE] = replace_marked(page, "topics", _topic_table(ALL))
    return files


def drift(root: Path = ROOT) -> Iterator[str]:
    """One line for each file below `root` that is missing, differs, or that no topic generates any more."""
    files = generated_files(root)
    for path, text in files.items():
        file = root / path
        if not file.is_file():
            yield f"{path}: missing"
        elif file.read_text(encoding="utf-8") != text:
            yield f"{path}: differs from the models"
    yield from (f"{path}: no topic generates it any more" for path in _leftovers(root, files))


def write(root: Path = ROOT) -> int:
    """Bring the files below `root` up to date, delete those that nothing generates; returns how many were written."""
    files = generated_files(root)
    stale = [path for path, text in files.items() if not _has_text(root / path, text)]
    for path in stale:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files[path], encoding="utf-8")
    for path in list(_leftovers(root, files)):
        (root / path).unlink()
    return len(stale)


def example(topic: Topic, sample: msgspec.Struct) -> Any:
    """A sample as JSON types. Flow records leave out what equals the default, as exporters do."""
    payload = msgspec.to_builtins(sample)
    if topic.name != FLOWS:
        return payload
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(sample)}
    return {name: value for name, value in payload.items() if value != defaults[name]}


def _examples_by_message() -> dict[str, dict[str, list[object]]]:
    found: dict[str, dict[str, list[object]]] = {}
    for topic in ALL:
        for sample in SAMPLES[topic.name]:
            found.setdefault(topic.name, {}).setdefault(type(sample).__name__, []).append(example(topic, sample))
    return found


def _leftovers(root: Path, files: Mapping[str, str]) -> Iterator[str]:
    for folder in _OURS:
        for file in sorted((root / folder).rglob("*.json")):
            path = file.relative_to(root).as_posix()
            if path not in files:
                yield path


def _has_text(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


def _json_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


class _PlainDumper(yaml.SafeDumper):
    """Repeats what is repeated: anchors and aliases are hard to read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _yaml_text(value: object) -> str:
    head = "# Generated by `python -m schemas.generate` from the models in schemas/; do not edit.\n"
    return head + yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)


def _topic_table(topics: Sequence[Topic]) -> str:
    rows = ["| topic and schema | version | what | key | from → to | kept |", "| --- | --- | --- | --- | --- | --- |"]
    for topic in topics:
        link = f"[`{topic.name}`](../schemas/json/{topic.name}.schema.json)"
        route = f"{', '.join(topic.producers)} → {', '.join(topic.consumers)}"
        kept = "compacted" if topic.compacted else f"{topic.retention_ms // DAY_MS} days"
        rows.append(f"| {link} | {topic.version} | {topic.about} | {topic.key} | {route} | {kept} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
