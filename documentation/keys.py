"""How one key of a config reads: its type, its bounds and its default, in words."""

import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union

import yaml
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mmtrain.config_models import models_in
from mmtrain.section import NAME_PATTERN

_SIGNS: tuple[tuple[type, str, str], ...] = (
    (Ge, "ge", ">= {}"),
    (Gt, "gt", "> {}"),
    (Le, "le", "<= {}"),
    (Lt, "lt", "< {}"),
    (MinLen, "min_length", "at least {} long"),
    (MaxLen, "max_length", "at most {} long"),
)
_WORDS = {int: "integer", float: "number", bool: "true or false", str: "text", types.NoneType: "null", Any: "anything"}


def sections_below(annotation: Any) -> list[tuple[str, list[type[BaseModel]]]]:
    """(suffix of the key, sections that may stand there) of a field: `.<name>` below a mapping, `[]` below a list."""
    found = models_in([annotation])
    if found:
        return [("", found)]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return [(f".<name>{suffix}", models) for suffix, models in sections_below(arguments[1])]
    if origin in (tuple, list):
        return [(f"[]{suffix}", models) for suffix, models in sections_below(arguments[0])]
    options = arguments[:1] if origin is Annotated else arguments if origin in (Union, types.UnionType) else ()
    return [place for option in options for place in sections_below(option)]


def describe_type(annotation: Any) -> str:
    """An annotation in words, with the bounds that stand inside it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if origin is Annotated:
        inner = ", ".join(bounds(arguments[1:]))
        return describe_type(arguments[0]) + (f" ({inner})" if inner else "")
    if origin is Literal:
        return " or ".join(f"`{yaml_text(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe_type(option) for option in arguments))
    if origin is dict:
        key, value = (describe_type(argument) for argument in arguments)
        return f"mapping of {key} to {value}"
    return _describe_list(arguments) if origin in (tuple, list) else _WORDS.get(annotation, str(annotation))


def _describe_list(arguments: tuple[Any, ...]) -> str:
    """A list of one type, or of as many entries as there are types."""
    kinds = [describe_type(argument) for argument in arguments if argument is not Ellipsis]
    return f"list of {kinds[0]}" if Ellipsis in arguments or len(kinds) == 1 else f"list of {len(kinds)}: {', '.join(kinds)}"


def bounds(metadata: Iterable[Any]) -> list[str]:
    """What metadata of a field or of `Annotated` demands, e.g. [">= 0", "< 1"]."""
    found = []
    for mark in metadata:
        for kind, attribute, words in _SIGNS:
            if isinstance(mark, kind | StringConstraints | FieldInfo) and getattr(mark, attribute, None) is not None:
                found.append(words.format(getattr(mark, attribute)))
        if isinstance(mark, FieldInfo):
            found += bounds(mark.metadata)
        if getattr(mark, "pattern", None) is not None:
            found.append("a name" if mark.pattern == NAME_PATTERN else f"matches `{mark.pattern}`")
    return found


def describe_default(field: FieldInfo) -> str:
    """What stands where the key is left out, as YAML."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True) if field.default_factory is not None else field.default
    assert value is not PydanticUndefined
    if isinstance(value, BaseModel):
        name = getattr(value, "name", None)
        return f"`{name}`" if isinstance(name, str) else "its defaults"
    return f"`{yaml_text(value)}`"


def yaml_text(value: Any) -> str:
    """A plain value as one line of YAML."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
