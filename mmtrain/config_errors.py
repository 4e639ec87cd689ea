"""Turns pydantic's complaints into lines that name the file, the key, and the nearest valid name."""

import difflib
from collections.abc import Iterable, Iterator, Set
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mmtrain.config_file import ConfigTree, has_name
from mmtrain.config_models import known_keys, names_of, places_of, walk
from mmtrain.config_yaml import KeyPath, shorten
from mmtrain.errors import ConfigError

_SECTION = "is a section: keys and values below it"
_MESSAGES = {
    "missing": "is required and missing",
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "dict_type": _SECTION,
    "tuple_type": "is a list, such as [a, b]",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-' make a name, and it begins with a letter or digit",
}


def config_error(
    error: ValidationError, model: type[BaseModel], tree: ConfigTree, *, beside: Set[str] = frozenset()
) -> ConfigError:
    """One ConfigError that lists every complaint, a line for each key. `beside`: keys that a file may have besides."""
    complaints: dict[KeyPath, list[str]] = {}
    found: dict[KeyPath, Any] = {}
    for detail in error.errors():
        for path, message in _complaints(detail, model, tree, beside):
            complaints.setdefault(path, []).append(message)
            if detail["type"] not in ("value_error", "missing", "extra_forbidden") and "union_tag" not in detail["type"]:
                found[path] = detail["input"]
    lines = []
    for path, messages in complaints.items():
        value = f" (found {shorten(repr(found[path]))})" if path in found else ""
        lines.append(located(tree, path, ", or: ".join(dict.fromkeys(messages)) + value))
    return ConfigError("\n".join(lines))


def located(tree: ConfigTree, path: KeyPath, message: str) -> str:
    """`file:line: dotted.key: message`."""
    return f"{tree.origin(path)}: {'.'.join(map(_word, tree.written(path))) or 'the whole config'}: {message}"


def refuse_truth_as_number(tree: ConfigTree, checked: Any) -> None:
    """pydantic takes true for the number 1, and YAML takes `on` and `yes` for true: neither is a number here."""
    lines = [
        located(tree, path, f"should be a number (found {str(value).lower()}, which YAML also reads from yes, no, on, off)")
        for path, value in _changed_truths(tree.values, checked, ())
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is near, and the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    guess = f"; did you mean '{close[0]}'?" if close else "."
    return f"{guess} Known: {', '.join(names) or 'none'}"


def _complaints(
    detail: ErrorDetails, model: type[BaseModel], tree: ConfigTree, beside: Set[str]
) -> Iterator[tuple[KeyPath, str]]:
    """The key and the words of a complaint; a validator's own words may hold several, a line each."""
    kind = detail["type"]
    path, owners, below = walk(detail["loc"], model, unknown=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        known = known_keys(owners) | (beside if len(path) == 1 and tree.written(path) == path else set())
        yield path, _unknown_key(str(path[-1]), known, model)
    elif path and detail["input"] is None and has_name(path):
        yield path, "null takes an entry out, and there is none of this name below"
    elif kind == "union_tag_invalid":
        tag = str(detail.get("ctx", {}).get("tag"))
        yield (*path, "name"), f"unknown name '{shorten(tag)}'{nearest(tag, names_of(below))}"
    elif kind == "union_tag_not_found":
        yield path, f"needs a `name:` that says which component it is. Known: {', '.join(sorted(names_of(below)))}"
    elif kind == "value_error":
        for line in detail["msg"].removeprefix("Value error, ").splitlines():
            yield _addressed(line, path, tree)
    else:
        yield path, _MESSAGES.get(kind, detail["msg"][:1].lower() + detail["msg"][1:])


def _changed_truths(written: Any, checked: Any, path: KeyPath) -> Iterator[tuple[KeyPath, bool]]:
    if isinstance(written, bool) and not isinstance(checked, bool):
        yield path, written
    elif isinstance(written, dict) and isinstance(checked, dict):
        for key, value in written.items():
            yield from _changed_truths(value, checked[key], (*path, key))
    elif isinstance(written, list) and isinstance(checked, list):
        for index, (value, kept) in enumerate(zip(written, checked, strict=True)):
            yield from _changed_truths(value, kept, (*path, index))


def _unknown_key(key: str, known: set[str], root: type[BaseModel]) -> str:
    section, dot, rest = key.partition(".")
    if dot and section in known:
        return f"unknown key; in a file keys nest: write `{section}:` and below it `{rest}:`"
    elsewhere = places_of(key, root)
    if elsewhere and not difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f"unknown key; did you mean {' or '.join(elsewhere)}? Known here: {', '.join(sorted(known))}"
    return f"unknown key{nearest(key, known)}"


def _addressed(line: str, path: KeyPath, tree: ConfigTree) -> tuple[KeyPath, str]:
    """A message that begins with a dotted key below `path` belongs to that key: `streams.a.dataset: no dataset 'b'`."""
    here: Any = tree.values
    for part in path:
        here = here[part] if isinstance(here, dict) and part in here else None
    head, separator, rest = line.partition(" ")
    below = _follow(head.removesuffix(":"), here)
    if not below:
        return path, line
    return (*path, *below), rest if head.endswith(":") and separator else line


def _follow(dotted: str, here: Any) -> KeyPath:
    """The keys that a dotted text spells, as far down as all of it fits; keys may hold dots themselves."""
    if isinstance(here, dict):
        for key in sorted(here, key=len, reverse=True):
            if dotted == key:
                return (key,)
            if dotted.startswith(f"{key}.") and (below := _follow(dotted[len(key) + 1 :], here[key])):
                return (key, *below)
    return ()


def _word(part: str | int) -> str:
    word = str(part)
    return word if word.isprintable() and word.strip() == word and word and len(word) <= 60 else shorten(repr(word))
