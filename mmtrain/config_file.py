"""Reading an experiment file: `base:` refinement, dotted overrides, and where every key stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmtrain.errors import ConfigError

KeyPath = tuple[str | int, ...]
COMMAND_LINE = "command line"


@dataclass
class ConfigTree:
    """Plain nested values, and for each key path the file and line (or the command line) that set it."""

    values: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> str:
        """Where `path` or the nearest section above it was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return "config"


def load_tree(file: str | Path, overrides: Sequence[str] = ()) -> ConfigTree:
    """Read `file`, merge it over its `base:` files, then merge `key.path=value` overrides over both.

    Sections merge key by key; a section whose `name` changes is replaced whole. Interpolations such as
    `${oc.env:SCRATCH}` are resolved last. Errors: ConfigError with file and line.
    """
    tree = _read(Path(file), seen=())
    if overrides:
        tree = merge(tree, _override_tree(overrides))
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree.values), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file}: {_first_line(error)}") from None
    assert isinstance(resolved, dict)
    return ConfigTree({str(key): value for key, value in resolved.items()}, tree.origins)


def merge(below: ConfigTree, above: ConfigTree) -> ConfigTree:
    """`above` refines `below`; the root itself is never replaced, whatever its `name`."""
    values = dict(below.values)
    origins = dict(below.origins)
    for key, value in above.values.items():
        values[key] = _merge_value(values.get(key), value, (key,), origins)
    return ConfigTree(values, origins | above.origins)


def _merge_value(below: Any, above: Any, path: KeyPath, origins: dict[KeyPath, str]) -> Any:
    mergeable = isinstance(below, Mapping) and isinstance(above, Mapping)
    if not mergeable or ("name" in above and "name" in below and above["name"] != below["name"]):
        for known in [known for known in origins if known[: len(path)] == path]:
            del origins[known]
        return above
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merge_value(merged.get(key), value, (*path, key), origins)
    return merged


def _read(file: Path, seen: tuple[Path, ...]) -> ConfigTree:
    resolved = file.resolve()
    if resolved in seen:
        raise ConfigError(f"{file}: `base:` leads back to this file: {' -> '.join(str(path) for path in (*seen, resolved))}")
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else {}
    except FileNotFoundError:
        raise ConfigError(f"config file {file} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {file} cannot be read: {error}") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid YAML: {_first_line(error)}") from None
    if not isinstance(values, dict) or (root is not None and not isinstance(root, yaml.MappingNode)):
        raise ConfigError(f"{file}: a config is a mapping of keys to values, found {type(values).__name__}")
    tree = ConfigTree({str(key): value for key, value in values.items()})
    if root is not None:
        _note_lines(root, (), str(file), tree.origins)
    base = tree.values.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{tree.origin(('base',))}: base: must be a path relative to this file, found {base!r}")
    return merge(_read(file.parent / base, (*seen, resolved)), tree)


def _note_lines(node: yaml.Node, path: KeyPath, file: str, origins: dict[KeyPath, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, key.value)
            origins[below] = f"{file}:{key.start_mark.line + 1}"
            _note_lines(value, below, file, origins)


def _override_tree(overrides: Sequence[str]) -> ConfigTree:
    tree = ConfigTree({})
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key or key.startswith("-") or not all(key.split(".")):
            raise ConfigError(f"{COMMAND_LINE}: '{override}' is not an override; write key.path=value")
        try:
            values = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
        except (OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"{COMMAND_LINE}: {override}: {_first_line(error)}") from None
        assert isinstance(values, dict)
        single = ConfigTree({str(name): value for name, value in values.items()})
        single.origins[tuple(key.split("."))] = COMMAND_LINE
        tree = merge(tree, single)
    return tree


def _first_line(error: Exception) -> str:
    """The problem and its place out of a YAML or OmegaConf error, on one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}: {getattr(error, 'problem', error)}"
    return str(error).strip().splitlines()[0]
