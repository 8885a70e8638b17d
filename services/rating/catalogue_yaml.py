"""YAML text to plain data with the line of every value. Safe by construction: no tags, no aliases, bounded depth.

Scalars are read as in YAML 1.2's core schema, so that `no` and `on` stay text, with one difference: a number with a
fraction stays text too, because in a catalogue it is money, and money never passes through a float.
"""

import dataclasses
import re
from typing import Any

import yaml

MAX_DEPTH = 16
"""Lists and mappings inside each other; the catalogue's own shape needs seven."""

KeyPath = tuple[str | int, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """A line of a file; line 0 when it is the file as a whole."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file or "(no file)"


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Why files are no catalogue: where, which field, its value, the rule it breaks, and what to do."""

    location: Location
    field: str
    value: object
    rule: str
    next_step: str

    def __str__(self) -> str:
        subject = f"{self.field} is {_short(self.value)}: " if self.field else ""
        step = f"; {self.next_step}" if self.next_step else ""
        return f"{self.location}: {subject}{self.rule}{step}"


@dataclasses.dataclass(frozen=True, slots=True)
class YamlTree:
    """A file's data, the line of each value by its path, and what was wrong with it."""

    value: Any
    lines: dict[KeyPath, int]
    problems: tuple[Problem, ...] = ()


class _RefusedError(Exception):
    """Carries the problem out of the builder."""

    def __init__(self, line: int, field: str, value: object, rule: str, next_step: str) -> None:
        super().__init__(rule)
        self.parts = (line, field, value, rule, next_step)


def parse_yaml(file: str, text: str) -> YamlTree:
    """Data and lines of one YAML document. Never raises: a text that is no such document yields its problem.

    `file` is the name to be written into problems. An empty text is None.
    """
    builder = _Builder()
    try:
        _feed(builder, text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = Problem(Location(file, line), "", None, f"this is not YAML: {error.problem}", "mend the syntax")
        return YamlTree(None, {}, (problem,))
    except yaml.YAMLError as error:
        problem = Problem(Location(file, 0), "", None, f"this is not YAML: {error}", "mend the text")
        return YamlTree(None, {}, (problem,))
    except _RefusedError as error:
        line, field, value, rule, next_step = error.parts
        return YamlTree(None, {}, (Problem(Location(file, line), field, value, rule, next_step),))
    return YamlTree(builder.root, builder.lines)


def format_yaml(data: Any, *, comment: str) -> str:
    """`data` as YAML that `parse_yaml` reads back to the same, under a comment; short lists on one line.

    Of None only the comment is written.
    """
    heading = "".join(f"# {line}\n" for line in comment.splitlines())
    if data is None:
        return heading
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=116, default_flow_style=None)
    return f"{heading}{text}"


def dotted(path: KeyPath) -> str:
    """A path as people write it: ("pfds", 0, "ports") -> `pfds[0].ports`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _feed(builder: "_Builder", text: str) -> None:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            builder.take(loader.get_event())
    finally:
        loader.dispose()


@dataclasses.dataclass(slots=True)
class _Frame:
    """A list or mapping being filled; `key` is the mapping's pending key."""

    container: list[Any] | dict[str, Any]
    path: KeyPath
    key: str | None = None


class _Builder:
    """Turns parser events into data without recursion, so that depth is a number and not the stack's end."""

    def __init__(self) -> None:
        self.root: Any = None
        self.lines: dict[KeyPath, int] = {}
        self._stack: list[_Frame] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            _refuse_tag(event, line)
            self._scalar(event, line)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            _refuse_tag(event, line)
            self._open([] if isinstance(event, yaml.SequenceStartEvent) else {}, line)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            raise _RefusedError(line, "alias", f"*{event.anchor}", "catalogue files have no aliases", "write it out")
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _RefusedError(line, "document", "---", "a catalogue file is one document", "split the file")

    def _scalar(self, event: Any, line: int) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame and isinstance(frame.container, dict) and frame.key is None:
            if event.value in frame.container:
                first = self.lines[(*frame.path, event.value)]
                rule = f"{dotted(frame.path) or 'the file'} has it already, on line {first}"
                raise _RefusedError(line, "key", event.value, rule, "keep one")
            frame.key = event.value
            self.lines[(*frame.path, event.value)] = line
            return
        self._put(_plain(event.value) if event.implicit[0] else event.value, line)

    def _open(self, container: list[Any] | dict[str, Any], line: int) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame and isinstance(frame.container, dict) and frame.key is None:
            raise _RefusedError(line, "key", "(a list or mapping)", "keys are plain words", "mend the indentation")
        if len(self._stack) >= MAX_DEPTH:
            raise _RefusedError(line, "depth", len(self._stack) + 1, f"at most {MAX_DEPTH} levels", "flatten it")
        path = self._put(container, line)
        self._stack.append(_Frame(container, path))

    def _put(self, value: Any, line: int) -> KeyPath:
        path: KeyPath = ()
        if not self._stack:
            self.root = value
        elif isinstance(container := self._stack[-1].container, list):
            path = (*self._stack[-1].path, len(container))
            container.append(value)
        else:
            key, self._stack[-1].key = self._stack[-1].key or "", None
            path = (*self._stack[-1].path, key)
            container[key] = value
        self.lines.setdefault(path, line)
        return path


def _refuse_tag(event: Any, line: int) -> None:
    if event.tag is not None and event.tag != "!":
        raise _RefusedError(line, "tag", event.tag, "catalogue files hold plain values only", "remove the tag")


def _plain(text: str) -> str | int | bool | None:
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _INTEGER.fullmatch(text) else text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
