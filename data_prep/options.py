"""Repeated `name=value` options of a command."""

import math
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


def read_rates(items: Sequence[str], option: str) -> dict[str, float]:
    """Repeated `name=number` options, numbers above 0. Errors: ConfigError where one is not."""
    rates = {}
    for key, value in read_pairs(items, option).items():
        try:
            rates[key] = float(value)
        except ValueError:
            rates[key] = math.nan
        if not 0 < rates[key] < math.inf:
            raise ConfigError(f"{option} {key}={value}: write a number above 0")
    return rates
