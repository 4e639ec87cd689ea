"""Turns pydantic's complaints into lines that name the file, the key, and the nearest valid name."""

import difflib
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mmtrain.config_file import ConfigTree, KeyPath
from mmtrain.errors import ConfigError


def config_error(error: ValidationError, model: type[BaseModel], tree: ConfigTree) -> ConfigError:
    """One ConfigError that lists every complaint, a line each."""
    return ConfigError("\n".join(dict.fromkeys(_line(detail, model, tree) for detail in error.errors())))


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is near, and the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f"{guess} Known: {', '.join(names) or 'none'}"


def _line(detail: ErrorDetails, model: type[BaseModel], tree: ConfigTree) -> str:
    path, models = _walk(detail["loc"], model, tree.values)
    where = f"{tree.origin(path)}: {'.'.join(map(str, path)) or 'the whole config'}"
    if detail["type"] == "extra_forbidden":
        known = {name for owner in models for name in owner.model_fields}
        return f"{where}: unknown key{nearest(str(path[-1]), known)}"
    if detail["type"] == "missing":
        return f"{where}: is required and missing"
    if detail["type"] == "union_tag_invalid":
        context = detail.get("ctx", {})
        known = {tag.strip("' ") for tag in str(context.get("expected_tags", "")).split(",")}
        return f"{where}.name: unknown name '{context.get('tag')}'{nearest(str(context.get('tag')), known)}"
    if detail["type"] == "union_tag_not_found":
        return f"{where}: needs a `name:` that says which component it is"
    message = detail["msg"].removeprefix("Value error, ")
    found = "" if detail["type"] == "value_error" else f" (found {_short(detail['input'])})"
    return f"{where}: {message}{found}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _walk(loc: tuple[int | str, ...], model: type[BaseModel], values: Any) -> tuple[KeyPath, list[type[BaseModel]]]:
    """The key path of an error without pydantic's union tags, and the sections that could own its last key."""
    path: list[int | str] = []
    owners, owner_models = [model], [model]
    here = values
    for position, part in enumerate(loc):
        inside = isinstance(here, dict) and part in here
        tagged = [owner for owner in owners if part in _tags(owner)]
        if tagged and not inside:
            owners = tagged
            continue
        last = position == len(loc) - 1
        if not inside and not last and not (isinstance(here, list) and isinstance(part, int)):
            continue
        path.append(part)
        owner_models = owners
        owners = [below for owner in owners for below in _below(owner, str(part))] or owners
        here = here[part] if inside else (here[part] if isinstance(here, list) and isinstance(part, int) else None)
    return tuple(path), owner_models


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    name = model.model_fields.get("name")
    annotation = None if name is None else name.annotation
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def _below(model: type[BaseModel], key: str) -> Iterator[type[BaseModel]]:
    info = model.model_fields.get(key)
    if info is not None:
        yield from _models_in(info.annotation)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
