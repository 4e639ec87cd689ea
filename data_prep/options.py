"""Repeated `name=value` options of a command."""

from collections.abc import Sequence

from mmtrain.errors import ConfigError


def read_pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """Repeated `name=value` options as a mapping. Errors: ConfigError where one is none, or a name comes twice."""
    pairs: dict[str, str] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not (key and sign and value) or key in pairs:
            raise ConfigError(f"{option} {item}: write name=value, each name once")
        pairs[key] = value
    return pairs
