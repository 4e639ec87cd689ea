"""Reading an experiment file: `base:` refinement, dotted overrides, and where every key stands."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmtrain.config_yaml import COMMAND_LINE, KeyPath, parse_yaml, place, shorten
from mmtrain.errors import ConfigError

# mappings whose entries bear names of the user's: null in place of one takes it out of what a file refines; "*": any key
NAMED: tuple[KeyPath, ...] = (
    *(("datasets",), ("streams",), ("tasks",), ("pretext",), ("regularizers",), ("augmentation", "*"), ("augmentation",)),
    *(("model", "sequences"), ("model", "images")),
)


@dataclass
class ConfigTree:
    """Plain nested values, and for each key path the file and line (or the command line) that set it.

    Of a tree that stands below the keys `above` of a file, `own` are the paths that were written there. `removed`: where
    null came over an entry of a mapping that has names for keys.
    """

    values: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)
    above: KeyPath = ()
    own: frozenset[KeyPath] = frozenset()
    removed: frozenset[KeyPath] = frozenset()

    def origin(self, path: KeyPath) -> str:
        """Where `path` or the nearest section above it was written."""
        return self.origins.get(self._known(path), "config")

    def written(self, path: KeyPath) -> KeyPath:
        """The keys that lead to `path` in the file."""
        return (*self.above, *path) if self._known(path) in self.own else path

    def _known(self, path: KeyPath) -> KeyPath:
        """The longest part of `path` that was written somewhere."""
        return next((path[:length] for length in range(len(path), 0, -1) if path[:length] in self.origins), ())


def load_tree(file: str | Path, overrides: Sequence[str] = ()) -> ConfigTree:
    """Read `file`, merge it over its `base:` files, then merge `key.path=value` overrides over both.

    Sections merge key by key; a section whose `name` changes is replaced whole, and null takes a dataset, stream, task or
    other entry with a name out of its mapping. Interpolations such as `${oc.env:SCRATCH}` are resolved last.
    Errors: ConfigError with file and line.
    """
    tree = _read(Path(file), seen=())
    above = ConfigTree({})
    for override in overrides:
        above = merge(above, _override(override))
    tree = merge(tree, above)
    for path in above.origins:  # a section that an override made is the command line's; one that it entered is not
        for length in range(1, len(path)):
            tree.origins.setdefault(path[:length], COMMAND_LINE)
    tree = without_removed(tree, keep="stages")  # a stage may take out what its file shares: known when both are merged
    return replace(tree, values=_interpolate(tree))


def merge(below: ConfigTree, above: ConfigTree) -> ConfigTree:
    """`above` refines `below`; the root itself is never replaced, whatever its `name`."""
    values = dict(below.values)
    origins = dict(below.origins)
    removed = set(below.removed | above.removed)
    for key, value in above.values.items():
        values[key] = _merge_value(values.get(key), value, (key,), origins, removed)
    return ConfigTree(values, origins | above.origins, removed=frozenset(removed))


def without_removed(tree: ConfigTree, *, keep: str = "") -> ConfigTree:
    """The tree without the entries that null came over, but for those below the key `keep`.

    Null over nothing stays, to be complained of: the entry that is meant is not there.
    """
    values, origins = tree.values, dict(tree.origins)
    for path in (path for path in tree.removed if path[0] != keep):
        if _is_null(values, path):
            values = _without(values, path)
            origins.pop(path, None)
    return replace(tree, values=values, origins=origins, removed=frozenset(path for path in tree.removed if path[0] == keep))


def _is_null(values: Any, path: KeyPath) -> bool:
    """Whether null stands there; of what is not there at all it does not."""
    first, *rest = path
    if not isinstance(values, Mapping) or first not in values:
        return False
    return _is_null(values[first], tuple(rest)) if rest else values[first] is None


def _without(values: Mapping[Any, Any], path: KeyPath) -> dict[Any, Any]:
    """A copy without the entry at `path`, which is there."""
    first, *rest = path
    if rest:
        return {**values, first: _without(values[first], tuple(rest))}
    return {key: value for key, value in values.items() if key != first}


def escape_interpolations(values: Any) -> Any:
    """Plain values whose every `${` will be read as the two characters that it is."""
    if isinstance(values, dict):
        return {key: escape_interpolations(value) for key, value in values.items()}
    if isinstance(values, list):
        return [escape_interpolations(value) for value in values]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", values) if isinstance(values, str) else values


def _merge_value(below: Any, above: Any, path: KeyPath, origins: dict[KeyPath, str], removed: set[KeyPath]) -> Any:
    if above is None and below is not None and has_name(path):
        removed.add(path)
    mergeable = isinstance(below, Mapping) and isinstance(above, Mapping)
    if not mergeable or ("name" in above and "name" in below and above["name"] != below["name"]):
        for known in [known for known in origins if known[: len(path)] == path]:
            del origins[known]
        return above
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merge_value(merged.get(key), value, (*path, key), origins, removed)
    return merged


def has_name(path: KeyPath) -> bool:
    """Whether an entry of a mapping with names for keys stands there, in a stage or outside of them."""
    above = path[2:-1] if path[0] == "stages" else path[:-1]
    return any(len(above) == len(known) and all(map(_fits, above, known)) for known in NAMED)


def _fits(key: str | int, known: str | int) -> bool:
    return known in (key, "*")


def _read(file: Path, seen: tuple[Path, ...]) -> ConfigTree:
    name = shorten(str(file), 200)
    try:
        resolved = file.resolve()
        if resolved in seen:
            chain = " -> ".join(path.name for path in (*seen, resolved))
            raise ConfigError(f"{name}: `base:` leads back to this file: {chain}")
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        needed = f" (`base:` of {seen[-1]})" if seen else ""
        raise ConfigError(f"config file {name} does not exist{needed}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle, before Python 3.13
        raise ConfigError(f"config file {name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {name} is not UTF-8 text (byte {error.start})") from None
    values, lines = parse_yaml(text, name)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: a config is a mapping of keys to values, found {shorten(repr(values))}")
    tree = ConfigTree(values, {(): name} | {path: place(name, line) for path, line in lines.items()})
    base = values.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        where = tree.origin(("base",))
        raise ConfigError(f"{where}: base: must be a path relative to this file, found {shorten(repr(base))}")
    return merge(_read(file.parent / base, (*seen, resolved)), tree)


def _override(override: str) -> ConfigTree:
    """One `key.path=value` as a tree."""
    key, equals, text = override.partition("=")
    parts = tuple(key.split("."))
    if not equals or key.startswith("-") or not all(parts) or key != key.strip():
        raise ConfigError(f"{COMMAND_LINE}: '{shorten(override)}' is not an override; write key.path=value")
    if parts == ("base",):
        raise ConfigError(f"{COMMAND_LINE}: base: stands in a file; give the file that you mean with --config")
    value, lines = parse_yaml(text, f"{COMMAND_LINE}: {shorten(key)}")
    origins: dict[KeyPath, str] = {(*parts, *path): COMMAND_LINE for path in ((), *lines)}
    for part in reversed(parts):
        value = {part: value}
    return ConfigTree(value, origins)


def _interpolate(tree: ConfigTree) -> dict[str, Any]:
    """The values with every `${...}` filled in. Errors: ConfigError where one cannot be, or a `???` was left."""
    if not _asks(tree.values):
        return tree.values
    from omegaconf import OmegaConf  # slow to import
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree.values), resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        key = str(getattr(error, "full_key", None) or "")
        where = f"{tree.origin(tuple(key.split('.')))}: {key}" if key else tree.origin(())
        raise ConfigError(f"{where}: {_interpolation_problem(error)}") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _asks(value: Any) -> bool:
    """Whether something in it stands for another value."""
    if isinstance(value, dict):
        return any(_asks(item) for item in value.values())
    if isinstance(value, list):
        return any(_asks(item) for item in value)
    return isinstance(value, str) and ("${" in value or value == "???")


def _interpolation_problem(error: Exception) -> str:
    from omegaconf.errors import MissingMandatoryValue

    if isinstance(error, MissingMandatoryValue):
        return "??? asks for a value; write it here, in a file that refines this one, or as an override"
    problem = str(getattr(error, "msg", None) or error or "nested too deeply").strip().splitlines()[0]
    problem = problem.rpartition("raised while resolving interpolation: ")[2].strip('"')
    hint = "; set it, or write ${oc.env:NAME,default}" if "Environment variable" in problem else ""
    return f"{problem}{hint}"
