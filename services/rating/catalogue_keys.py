"""What to say of a key that no part of a catalogue has: what is known there, and what was probably meant."""

import difflib
import typing

from pydantic import BaseModel

from services.rating.catalogue_yaml import KeyPath


def unknown_key(model: type[BaseModel], path: KeyPath) -> tuple[str, str]:
    """The rule that the key at the end of `path`, inside a `model`, breaks, and the next step."""
    key, found = str(path[-1]), _model_at(model, path[:-1])
    known = [field.alias or name for name, field in found.model_fields.items()] if found else []
    rule = f"there is no such key; known here are {', '.join(known)}" if known else "there is no such key"
    if key.isdecimal():
        return rule, "a comma separates keys: write an amount with a point, e.g. 9.99"
    near = difflib.get_close_matches(key, known, n=1)
    return rule, f"write {near[0]!r}, or remove it" if near else "remove it or mend its spelling"


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    found: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, str) and found is not None:
            field = found.model_fields.get(step)
            found = _model_in(field.annotation) if field else None
    return found


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model in a type such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)
