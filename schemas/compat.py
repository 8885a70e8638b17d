"""Refuse breaking changes: compare the models with the contracts that were published.

    python -m schemas.compat [--check]    exit with 1 on a break
    python -m schemas.compat --release    the same, and every version must be published
    python -m schemas.compat publish      freeze what is not published yet

A published version is a file `schemas/published/<topic>/<major.minor>.schema.json`; its digest stands in
`schemas/published/digests.json`, so that neither an edit nor a removal goes unseen. Within a major, what was promised
to a writer or a reader stays true; anything else needs a new topic `.v<major+1>` beside the old one.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from schemas.changes import Change, Role, Severity, changes, promise
from schemas.json_schema import Schema, json_schema
from schemas.topics import ALL, Topic

PUBLISHED = Path(__file__).resolve().parent / "published"

OURS = frozenset({"ingest", "policy", "rating"})
"""Parties that are upgraded with this repository; everybody else is not."""

_NEXT_STEP = "run `python -m schemas.compat publish` and commit its file"
_DIGESTS = "digests.json"
_SUFFIX = ".schema.json"


def main(arguments: Sequence[str] | None = None, folder: Path = PUBLISHED, topics: Sequence[Topic] = ALL) -> int:
    """Check the contracts of `topics` against `folder`, or publish them into it; 1 when one is broken."""
    parser = argparse.ArgumentParser(prog="python -m schemas.compat", description="Keep published contracts.")
    parser.add_argument("command", nargs="?", choices=("publish",), help="freeze what is not published yet")
    parser.add_argument("--check", action="store_true", help="compare only; the default")
    parser.add_argument("--release", action="store_true", help="refuse drafts, too: everything must be published")
    given = parser.parse_args(arguments)
    schemas = {topic.name: json_schema(topic) for topic in topics}
    problems = list(check(schemas, folder, roles={topic.name: role_of(topic) for topic in topics}))
    if given.command == "publish" and not given.check:
        return _publish_all(schemas, folder, problems)
    problems += _unpublished(schemas, folder, drafts="break" if given.release else "warning")
    return _report(map(str, problems), failed=_has_break(problems))


def role_of(topic: Topic) -> Role:
    """Which side of `topic` others hold: they write it (input), read it (output), or neither (internal)."""
    if not OURS.issuperset(topic.producers):
        return "input"
    return "internal" if OURS.issuperset(topic.consumers) else "output"


def check(schemas: Mapping[str, Schema], folder: Path, *, roles: Mapping[str, Role]) -> Iterator[Change]:
    """Every change since the newest published version of each topic, and every damage to published files."""
    yield from _damage(folder)
    for name in _published_topics(folder):
        published = _newest(folder / name)
        if name not in schemas:
            yield Change("break", name, f"{name} was published and is gone from schemas/topics.py; put it back")
        elif published is not None:
            yield from _since(name, published, schemas[name], roles[name])


def publish(schemas: Mapping[str, Schema], folder: Path) -> list[str]:
    """Freeze each schema whose version has no file yet; returns what is new. A file that is there stays as it is."""
    new = []
    digests = _digests(folder)
    for name, schema in schemas.items():
        key = _key(name, schema)
        file = folder / f"{key}{_SUFFIX}"
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        digests[key] = _digest(file)
        new.append(key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _DIGESTS).write_text(json.dumps(dict(sorted(digests.items())), indent=2) + "\n", encoding="utf-8")
    return new


def _unpublished(schemas: Mapping[str, Schema], folder: Path, *, drafts: Severity) -> Iterator[Change]:
    """Versions without a file. On top of a published one it is a draft, which may change until it is released."""
    published = _published_topics(folder)
    for name, schema in schemas.items():
        key = _key(name, schema)
        if not (folder / f"{key}{_SUFFIX}").is_file():
            yield Change(drafts if name in published else "break", key, f"not published yet; {_NEXT_STEP}")


def _publish_all(schemas: Mapping[str, Schema], folder: Path, problems: Sequence[Change]) -> int:
    if _has_break(problems):
        return _report([*map(str, problems), "nothing was published"], failed=True)
    new = publish(schemas, folder)
    return _report([*(f"published {key}" for key in new)] or ["everything is published already"], failed=False)


def _report(lines: Iterable[str], *, failed: bool) -> int:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    if not failed:
        sys.stdout.write("contracts hold\n")
    return 1 if failed else 0


def _has_break(problems: Iterable[Change]) -> bool:
    return any(problem.severity == "break" for problem in problems)


def _since(name: str, published: Schema, schema: Schema, role: Role) -> Iterator[Change]:
    found = list(changes(published, schema, role=role, topic=name))
    yield from found
    old, new = _version(published), _version(schema)
    if _order(new) < _order(old):
        yield Change("break", name, f"version went back from {old} to {new}; published numbers are used up")
    if new == old and promise(published) != promise(schema) and not _has_break(found):
        step = f"raise the minor of its version constant to {_raised(old)} and publish"
        yield Change("break", name, f"the contract changed and still calls itself {old}; {step}")


def _damage(folder: Path) -> Iterator[Change]:
    digests = _digests(folder)
    for key, digest in digests.items():
        file = folder / f"{key}{_SUFFIX}"
        if not file.is_file():
            yield Change("break", key, "the published file is gone; restore it from the history")
        elif _digest(file) != digest:
            yield Change("break", key, "the published file was edited; restore it from the history")
    for file in sorted(folder.glob(f"*/*{_SUFFIX}")):
        key = file.relative_to(folder).as_posix().removesuffix(_SUFFIX)
        if key not in digests:
            yield Change("break", key, "the file was not published by `python -m schemas.compat publish`; delete it")


def _published_topics(folder: Path) -> list[str]:
    return sorted({file.parent.name for file in folder.glob(f"*/*{_SUFFIX}")})


def _newest(folder: Path) -> Schema | None:
    versions = [_read(file) for file in folder.glob(f"*{_SUFFIX}")]
    return max(versions, key=lambda schema: _order(_version(schema)), default=None)


def _key(name: str, schema: Schema) -> str:
    """`<topic>/<major.minor>`, what a published file is called."""
    return f"{name}/{_version(schema)}"


def _version(schema: Schema) -> str:
    return str(schema["x-smartpipe"]["version"])


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _raised(version: str) -> str:
    major, minor = _order(version)
    return f"{major}.{minor + 1}"


def _digests(folder: Path) -> dict[str, str]:
    file = folder / _DIGESTS
    return dict(_read(file)) if file.is_file() else {}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read(file: Path) -> Schema:
    return dict(json.loads(file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main())
