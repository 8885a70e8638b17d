"""What a change of a schema means to those who write and read its topic. Schemas in, verdicts out.

Four kinds of change, judged by who stands on the other side of the topic:

    kind            input      internal   output
    broken          break      break      break      a field removed, moved, required; default, key, encoding changed
    narrowed        break      break      warning    what was accepted, and may lie in the topic, no longer is
    widened type    -          warning    break      a reader meets a type, or an absence, that it cannot expect
    widened value   -          warning    warning    a reader meets a word or a size that it has not seen

`input`: others write the topic. `output`: others read it. `internal`: both sides are ours, but never upgraded at once.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Schema = Mapping[str, Any]
Role = Literal["input", "internal", "output"]
Severity = Literal["break", "warning"]
Kind = Literal["broken", "narrowed", "widened type", "widened value"]


class Change(NamedTuple):
    """One change that somebody has to know of, or that must not happen."""

    severity: Severity
    where: str
    text: str

    def __str__(self) -> str:
        """One line for the console."""
        return f"{self.severity}: {self.where}: {self.text}"


_VERDICTS: dict[Kind, dict[Role, Severity | None]] = {
    "broken": {"input": "break", "internal": "break", "output": "break"},
    "narrowed": {"input": "break", "internal": "break", "output": "warning"},
    "widened type": {"input": None, "internal": "warning", "output": "break"},
    "widened value": {"input": None, "internal": "warning", "output": "warning"},
}

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_PROSE = frozenset({"title", "description", "examples", "deprecated", "$comment"})
_JUDGED = frozenset(
    {
        *_LOWER_BOUNDS, *_UPPER_BOUNDS, "type", "enum", "const", "pattern", "default", "properties", "required",
        "items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "$ref", "$defs", "$schema", "$id",
        "x-smartpipe",
    }
)  # fmt: skip
"""Keywords that the rules below understand; a change of any other one counts as broken."""


def changes(old: Schema, new: Schema, *, role: Role, topic: str) -> Iterator[Change]:
    """Everything that differs between two schemas of `topic` and matters to `role`; prose does not."""
    for name in ("key", "content_type", "compacted"):
        before, after = old["x-smartpipe"][name], new["x-smartpipe"][name]
        if before != after:
            found = _Found("broken", name, f"changed from {before!r} to {after!r}, which readers rely on")
            yield from _judged(found, role, topic)
    for found in _Comparison(old, new).node("", old, new):
        yield from _judged(found, role, topic)


def promise(schema: Schema) -> Any:
    """What `schema` promises, spelt out: references resolved, names of models and words for people left out."""
    return _spelt_out(schema, schema)


class _Found(NamedTuple):
    kind: Kind
    path: str
    text: str


def _judged(found: _Found, role: Role, topic: str) -> Iterator[Change]:
    severity = _VERDICTS[found.kind][role]
    if severity is None:
        return
    name, _, major = topic.rpartition(".v")
    steps = {
        "break": f"undo it, or open {name}.v{int(major) + 1} beside {topic}",
        "warning": f"{'tell' if role == 'output' else 'upgrade'} the readers first",
    }
    yield Change(severity, f"{topic}: {found.path.lstrip('.') or 'record'}", f"{found.text}; {steps[severity]}")


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Walks two schemas side by side; each knows its own definitions."""

    old_root: Schema
    new_root: Schema

    def node(self, path: str, old: Schema, new: Schema) -> Iterator[_Found]:
        """Compare the values that two schemas accept at one place of the record."""
        yield from _default(path, _resolved(old, self.old_root), _resolved(new, self.new_root))
        before, after = _alternatives(list(_flattened(old, self.old_root)), list(_flattened(new, self.new_root)))
        for label in sorted(before.keys() - after.keys()):
            yield _Found("narrowed", path, f"no longer accepts {label}")
        for label in sorted(after.keys() - before.keys()):
            # A tagged record is a new word of its tag; anything else is a new type.
            kind: Kind = "widened value" if "=" in label else "widened type"
            yield _Found(kind, path, f"may now be {label}")
        for label in before:
            if label in after:
                yield from self._same_type(path, before[label], after[label])

    def _same_type(self, path: str, old: Schema, new: Schema) -> Iterator[_Found]:
        yield from _bounds(path, old, new)
        yield from _words(path, old, new)
        yield from _pattern(path, old, new)
        yield from _unknown_keywords(path, old, new)
        if "properties" in old or "properties" in new:
            yield from self._fields(path, old, new)
        if "prefixItems" in old or "prefixItems" in new:
            yield from self._positions(path, old, new)
        yield from self._contents(path, old, new)

    def _fields(self, path: str, old: Schema, new: Schema) -> Iterator[_Found]:
        before, after = old.get("properties", {}), new.get("properties", {})
        was_required, is_required = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(before.keys() - after.keys()):
            yield _Found("broken", f"{path}.{name}", "the field was removed; keep it, even if it is no longer used")
        for name in sorted(is_required - was_required):
            text = "became required" if name in before else "is new and required"
            yield _Found("broken", f"{path}.{name}", f"the field {text}; records without it exist, give it a default")
        for name in sorted((was_required - is_required) & after.keys()):
            yield _Found("widened type", f"{path}.{name}", "the field became optional, so readers may miss it")
        if old.get("additionalProperties") is False:
            for name in sorted(after.keys() - before.keys() - is_required):
                text = "the field is new where the published contract refuses unknown fields"
                yield _Found("widened type", f"{path}.{name}", text)
        for name in before:
            if name in after:
                yield from self.node(f"{path}.{name}", before[name], after[name])

    def _positions(self, path: str, old: Schema, new: Schema) -> Iterator[_Found]:
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        required = new.get("minItems", 0)
        for position, field in enumerate(after):
            name = f"{path}.{field.get('title', position)}"
            was = before[position].get("title") if position < len(before) else None
            if position >= len(before) and position < required:
                yield _Found("broken", name, "the field is new and required; records without it exist")
            elif position < len(before) and was != field.get("title"):
                text = f"position {position} held {was}; fields are read by position, so add new ones at the end"
                yield _Found("broken", name, text)
            elif position < len(before):
                if old.get("minItems", 0) <= position < required:
                    yield _Found("broken", name, "the field became required; records without it exist")
                yield from self.node(name, before[position], field)
        for field in before[len(after) :]:
            yield _Found("broken", f"{path}.{field.get('title')}", "the field was removed; keep it, even if unused")

    def _contents(self, path: str, old: Schema, new: Schema) -> Iterator[_Found]:
        """Items of a list and values of a free-form object."""
        for keyword, suffix in (("items", "[]"), ("additionalProperties", ".*")):
            before, after = old.get(keyword, True), new.get(keyword, True)
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                yield from self.node(path + suffix, before, after)
            elif before is not after and after is not True:
                yield _Found("narrowed", path + suffix, "is now restricted")
            elif before is not after:
                yield _Found("widened value", path + suffix, "is no longer restricted")


def _default(path: str, old: Schema, new: Schema) -> Iterator[_Found]:
    if "default" in old and "default" in new and _filled(old["default"], new) != _filled(new["default"], new):
        text = f"an absent field meant {old['default']!r} and would mean {new['default']!r}"
        yield _Found("broken", path, text)


def _filled(default: Any, schema: Schema) -> Any:
    """A default with the fields that it leaves out: a record that gained a field still means what it meant."""
    if not isinstance(default, dict):
        return default
    fields = schema.get("properties", {}).items()
    return {**{name: field["default"] for name, field in fields if "default" in field}, **default}


def _bounds(path: str, old: Schema, new: Schema) -> Iterator[_Found]:
    names = [name for name in (*_LOWER_BOUNDS, *_UPPER_BOUNDS) if old.get(name) != new.get(name)]
    if "prefixItems" in old and "prefixItems" in new:
        names = [name for name in names if name != "minItems"]  # this one counts the required positions
    for name in names:
        before, after = old.get(name), new.get(name)
        kind: Kind = "narrowed" if _is_tighter(name, before, after) else "widened value"
        yield _Found(kind, path, f"{name} changed from {before} to {after}")


def _is_tighter(name: str, before: int | None, after: int | None) -> bool:
    if before is None or after is None:
        return before is None
    return (after > before) == (name in _LOWER_BOUNDS)


def _words(path: str, old: Schema, new: Schema) -> Iterator[_Found]:
    before, after = _allowed(old), _allowed(new)
    if before is None or after is None:
        if before is not after:
            kind: Kind = "narrowed" if before is None else "widened value"
            yield _Found(kind, path, f"the list of words was {'added' if before is None else 'lifted'}")
        return
    for word in sorted(before - after):
        yield _Found("narrowed", path, f"no longer accepts the word {word}")
    for word in sorted(after - before):
        yield _Found("widened value", path, f"may now be the word {word}")


def _pattern(path: str, old: Schema, new: Schema) -> Iterator[_Found]:
    before, after = old.get("pattern"), new.get("pattern")
    if before == after:
        return
    # Whether one expression accepts all that another does is not decided here; a changed one counts as both.
    if after is not None:
        yield _Found("narrowed", path, f"the pattern became {after}")
    if before is not None:
        yield _Found("widened value", path, f"the pattern {before} is no longer promised")


def _unknown_keywords(path: str, old: Schema, new: Schema) -> Iterator[_Found]:
    for name in sorted((old.keys() | new.keys()) - _JUDGED - _PROSE):
        if old.get(name) != new.get(name):
            yield _Found("broken", path, f"{name} changed from {old.get(name)!r} to {new.get(name)!r}")


def _alternatives(old: Sequence[Schema], new: Sequence[Schema]) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """The types that a value may have, before and after, under labels that pair those that belong together."""
    plain = {kind for kind in map(_type, old) if all(list(map(_type, side)).count(kind) == 1 for side in (old, new))}
    return _labelled(old, plain), _labelled(new, plain)


def _labelled(schemas: Sequence[Schema], plain: set[str]) -> dict[str, Schema]:
    """Each schema under its type where that is enough; else under its tag, or under its title where it has none."""
    labels = [_type(schema) if _type(schema) in plain else _label(schema) for schema in schemas]
    return {
        label if labels.count(label) == 1 else f"{label} {schema.get('title', '')}": schema
        for label, schema in zip(labels, schemas, strict=True)
    }


def _flattened(node: Schema, root: Schema) -> Iterator[Schema]:
    schema = _resolved(node, root)
    choices: Sequence[Schema] = schema.get("anyOf") or schema.get("oneOf") or ()
    if choices:
        for choice in choices:
            yield from _flattened(choice, root)
    else:
        yield schema


def _label(schema: Schema) -> str:
    tags = [f"{name}={field['const']}" for name, field in schema.get("properties", {}).items() if "const" in field]
    return f"{_type(schema)} with {', '.join(tags)}" if tags else _type(schema)


def _type(schema: Schema) -> str:
    if "type" in schema:
        return str(schema["type"])
    return "any value" if _allowed(schema) is None else "string"


def _allowed(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {repr(schema["const"])}
    return {repr(word) for word in schema["enum"]} if "enum" in schema else None


def _resolved(node: Schema, root: Schema) -> Schema:
    """`node` with a reference at its top replaced by what it names; its own keywords go first."""
    while "$ref" in node:
        target = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _spelt_out(node: Any, root: Schema) -> Any:
    if isinstance(node, list):
        return [_spelt_out(item, root) for item in node]
    if not isinstance(node, Mapping):
        return node
    rules = {key: value for key, value in _resolved(node, root).items() if key not in _PROSE | {"$defs", "$id"}}
    for keyword in ("items", "additionalProperties", "anyOf", "oneOf"):
        if keyword in rules:
            rules[keyword] = _spelt_out(rules[keyword], root)
    if "properties" in rules:
        rules["properties"] = {name: _spelt_out(field, root) for name, field in rules["properties"].items()}
    if "prefixItems" in rules:
        # Here the titles are the names of the fields, not prose.
        rules["prefixItems"] = [{**_spelt_out(item, root), "title": item.get("title")} for item in rules["prefixItems"]]
    return rules
