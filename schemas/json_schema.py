"""JSON Schema (2020-12) of a topic, from its Python models. Values in, values out: the same models, the same schema."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.catalogue import Application, Campaign, CatalogueEntry, PccRule, ProductOffering, VersionMarker
from schemas.catalogue_scopes import Zone
from schemas.topics import Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_REF = "#/$defs/"
_BODIES: dict[str, type[BaseModel]] = {
    "application": Application,
    "offering": ProductOffering,
    "rule": PccRule,
    "campaign": Campaign,
    "zone": Zone,
    "version": VersionMarker,
}


def json_schema(topic: Topic) -> Schema:
    """The schema of one record of `topic`, its models under `$defs`, every field described.

    `x-smartpipe` holds what a value's schema cannot say and a reader relies on: version, key, encoding, compaction.
    """
    roots, definitions = msgspec.json.schema_components(topic.models, ref_template=_REF + "{name}")
    variants = [variant for root in roots for variant in root.get("anyOf", [root])]
    for model in _struct_types(topic):
        _improve_struct(definitions[model.__name__], model)
    if CatalogueEntry in topic.models:
        _spell_out_bodies(definitions)
    schema = {
        "$schema": DIALECT,
        "$id": f"urn:smartpipe:{topic.name}:{topic.version}",
        "title": topic.name,
        "description": topic.about,
        "x-smartpipe": {
            "version": topic.version,
            "key": topic.key,
            "content_type": topic.content_type,
            "compacted": topic.compacted,
        },
        **(variants[0] if len(variants) == 1 else {"anyOf": variants}),
        "$defs": _in_order_of_use(variants, definitions),
    }
    # Defaults may be tuples; what is returned has to equal what a JSON file brings back.
    return dict(msgspec.json.decode(msgspec.json.encode(schema)))


def message_names(topic: Topic) -> list[str]:
    """The models that a record of `topic` can be, each a definition of its schema."""
    schema = json_schema(topic)
    return [str(variant["$ref"]).removeprefix(_REF) for variant in schema.get("anyOf", [schema])]


def _struct_types(topic: Topic) -> Iterator[type[msgspec.Struct]]:
    """Every struct that a record of `topic` is made of."""
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(topic.models))
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType):
            yield info.cls
            waiting.extend(field.type for field in info.fields)
        waiting.extend(getattr(info, "types", ()))
        waiting.extend(getattr(info, "item_types", ()))
        parts = ("item_type", "key_type", "value_type", "type")
        waiting.extend(getattr(info, part) for part in parts if hasattr(info, part))


def _improve_struct(definition: Schema, model: type[msgspec.Struct]) -> None:
    definition["description"] = inspect.cleandoc(model.__doc__ or "")
    config = model.__struct_config__
    if isinstance(config.tag, str) and config.tag_field:
        definition["properties"][config.tag_field] = {
            "description": f"Tells the kinds of record apart; `{config.tag}` here.",
            "type": "string",
            "const": config.tag,
        }
    if config.array_like:
        # A position has no name on the wire; readers of the schema still want one.
        fields = msgspec.structs.fields(model)
        positions = zip(fields, definition["prefixItems"], strict=True)
        definition["prefixItems"] = [{"title": field.encode_name, **item} for field, item in positions]


def _spell_out_bodies(definitions: dict[str, Schema]) -> None:
    """Give each kind of catalogue entry the schema of its own body."""
    pairs, bodies = models_json_schema(
        [(model, "serialization") for model in _BODIES.values()], ref_template=_REF + "{model}"
    )
    for name, body in bodies["$defs"].items():
        definitions[name] = _without_noise(body)
    entry = definitions["CatalogueEntry"]
    for kind, model in _BODIES.items():
        definitions[f"{model.__name__}Entry"] = _entry_of(entry, kind, pairs[model, "serialization"])
    variants = [{"$ref": f"{_REF}{model.__name__}Entry"} for model in _BODIES.values()]
    definitions["CatalogueEntry"] = {
        "title": entry["title"],
        "description": entry["description"],
        "anyOf": variants,
    }


def _entry_of(entry: Schema, kind: str, body: Mapping[str, Any]) -> Schema:
    properties = dict(entry["properties"])
    properties["kind"] = {"description": properties["kind"]["description"], "type": "string", "const": kind}
    properties["body"] = {"description": properties["body"]["description"], **body}
    return {
        "title": f"CatalogueEntry, kind {kind}",
        "description": f"A catalogue entry whose body is of kind `{kind}`.",
        "type": "object",
        "properties": properties,
        "required": entry["required"],
    }


def _without_noise(definition: Schema) -> Schema:
    """A pydantic definition with its docstring unindented and the titles that only repeat field names left out."""
    properties = {
        name: {key: value for key, value in schema.items() if key != "title"}
        for name, schema in definition["properties"].items()
    }
    description = inspect.cleandoc(definition["description"])
    head = {"title": definition["title"], "description": description, "type": "object", "properties": properties}
    return head | {key: value for key, value in definition.items() if key not in head}


def _in_order_of_use(roots: list[Schema], definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """The definitions that `roots` reach, breadth first, so that a reader meets each after what uses it."""
    ordered: dict[str, Schema] = {}
    waiting = [name for root in roots for name in _references(root)]
    while waiting:
        name = waiting.pop(0)
        if name not in ordered:
            ordered[name] = definitions[name]
            waiting.extend(_references(definitions[name]))
    return ordered


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield str(value).removeprefix(_REF)
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)
