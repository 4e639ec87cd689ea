"""Looking things up in a tree of config sections: which section a key belongs to, and what names it could have."""

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel

from mmtrain.config_yaml import KeyPath

Models = list[type[BaseModel]]


def walk(loc: Iterable[int | str], model: type[BaseModel], *, unknown: bool) -> tuple[KeyPath, Models, Models]:
    """A pydantic location as a key path, without the names of union members; the sections that own its last key, and
    those that may stand below it.

    `unknown`: the last key is one that its section does not know.
    """
    path: list[int | str] = []
    owners: Models = [model]
    here: list[Any] = [model]
    for part in loc:
        models = models_in(here)
        if len(models) > 1:  # a union by `name`, and the location says which member
            here = [member for member in models if part in names_of([member])]
            continue
        steps = [step for option in _options(here) for step in _steps(option, part)]
        if steps or (unknown and models):
            path.append(part)
            owners, here = models, steps
    return tuple(path), owners, models_in(here)


def models_in(annotations: Iterable[Any]) -> Models:
    """The sections among what annotations allow."""
    return [option for option in _options(annotations) if isinstance(option, type) and issubclass(option, BaseModel)]


def known_keys(owners: Models) -> set[str]:
    """Every field of the sections."""
    return {name for owner in owners for name in owner.model_fields}


def names_of(owners: Models) -> set[str]:
    """What the sections' `name:` may be."""
    fields: list[Any] = [owner.model_fields["name"].annotation for owner in owners if "name" in owner.model_fields]
    return {str(tag) for field in fields if typing.get_origin(field) is Literal for tag in typing.get_args(field)}


def places_of(key: str, model: type[BaseModel]) -> list[str]:
    """Dotted paths below `model` where a field `key` stands, whatever the `name` of the sections on the way."""
    found = []
    for name, field in model.model_fields.items():
        below = models_in([field.annotation])
        found += [f"{name}.{key}"] if below and all(key in member.model_fields for member in below) else []
        found += [f"{name}.{place}" for place in places_of(key, below[0])] if len(below) == 1 else []
    return found


def _options(annotations: Iterable[Any]) -> Iterator[Any]:
    """The members of unions, without `Annotated` and None."""
    for annotation in annotations:
        origin = typing.get_origin(annotation)
        if origin is Annotated:
            yield from _options(typing.get_args(annotation)[:1])
        elif origin in (Union, types.UnionType):
            yield from _options(typing.get_args(annotation))
        elif annotation is not types.NoneType:
            yield annotation


def _steps(option: Any, part: int | str) -> list[Any]:
    """What may stand under the key `part` of a section, a dict or a list."""
    if isinstance(option, type) and issubclass(option, BaseModel):
        field = option.model_fields.get(str(part))
        return [] if field is None else [field.annotation]
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is dict:
        return [] if part == "[key]" else [arguments[1]]
    return list(arguments[:1]) if origin in (tuple, list) else []
