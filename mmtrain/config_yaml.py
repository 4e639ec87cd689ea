"""YAML text to plain values and the line of every key; tags, double keys and keys that are no words are refused."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from mmtrain.errors import ConfigError

KeyPath = tuple[str | int, ...]
COMMAND_LINE = "command line"

_MAX_DEPTH = 40
_MAX_VALUES = 20_000  # aliases count as often as they are used
_MAX_BITS = 1024  # of an integer; what a float holds
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # a zero byte, half a character: no path and no file takes them
_RARE_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map"))


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without dates and merge keys, and with 1e-4 as the number that it is (PyYAML alone reads a string)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag in _PLAIN and not tag.endswith(":float")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would read as something else than the word that it is."""

    def represent_str(self, word: str) -> yaml.ScalarNode:
        """PyYAML writes rare line breaks as they are, and reads them back as spaces."""
        style = '"' if _RARE_BREAKS.search(word) else None
        return self.represent_scalar("tag:yaml.org,2002:str", word, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=e))(e[-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$", re.IGNORECASE
)
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


@dataclass
class _Reading:
    """One text on its way to values."""

    loader: _Loader
    origin: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    num_values: int = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain value of a node. Errors: ConfigError."""
        self.num_values += 1
        if len(path) > _MAX_DEPTH or self.num_values > _MAX_VALUES:
            raise self.error(node, f"too large or too deep for a config (over {_MAX_VALUES} values or {_MAX_DEPTH} levels)")
        if node.tag not in _PLAIN:
            raise self.error(node, f"the tag {_tag_name(node.tag)} is not read; a config holds plain values only")
        if isinstance(node, yaml.MappingNode):
            return self.section(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.scalar(node)

    def section(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        """A mapping whose keys are words, each once."""
        section: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                written = shorten(str(key_node.value)) if isinstance(key_node, yaml.ScalarNode) else "a list or section"
                raise self.error(key_node, f"a key is a word, and YAML reads {written} as another type; put it in quotes")
            if key in section:
                first = self.lines[(*path, key)]
                raise self.error(key_node, f"the key '{shorten(key)}' stands here twice (first in line {first})")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            section[key] = self.value(value_node, (*path, key))
        return section

    def scalar(self, node: yaml.Node) -> Any:
        """A number, a word, true, false or null."""
        if node.tag not in _PLAIN:
            raise self.error(node, f"the tag {_tag_name(node.tag)} is not read; a config holds plain values only")
        try:
            value = self.loader.construct_object(node)
        except (ValueError, LookupError):  # `!!int x`; more digits than Python converts; `!!bool x`
            raise self.error(node, f"{shorten(str(node.value))} cannot be read as a value") from None
        if isinstance(value, str) and _FORBIDDEN.search(value):
            raise self.error(node, f"{shorten(ascii(value))} holds a character that no file may hold")
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise self.error(node, f"{shorten(node.value)} is larger than any number here")
        return value

    def error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{place(self.origin, node.start_mark.line + 1)}: {problem}")


def parse_yaml(text: str, origin: str) -> tuple[Any, dict[KeyPath, int]]:
    """The values of a YAML text (None where it is empty), and the line of each key. `origin`: what messages call the text.

    Errors: ConfigError with the line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        reading = _Reading(loader, origin)
        return reading.value(node, ()), reading.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = origin if mark is None else place(origin, mark.line + 1)
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {shorten(str(error).splitlines()[0], 120)}") from None
    except RecursionError:
        raise ConfigError(f"{origin}: not valid YAML: nested too deeply") from None


def dump_yaml_text(values: Any) -> str:
    """Plain values as a text that `parse_yaml` reads back."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def place(origin: str, line: int) -> str:
    """`file:line`; the command line has no lines."""
    return origin if origin.startswith(COMMAND_LINE) else f"{origin}:{line}"


def shorten(text: str, length: int = 60) -> str:
    """At most `length` characters of a text, on one line, for a message."""
    flat = text.replace("\n", "\\n")
    return flat if len(flat) <= length else flat[: length - 3] + "..."


def _tag_name(tag: str) -> str:
    return shorten(tag.replace("tag:yaml.org,2002:", "!!"))
