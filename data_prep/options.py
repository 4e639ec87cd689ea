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


def read_knobs(items: Sequence[str], option: str) -> tuple[float | None, dict[str, float]]:
    """Repeated `number` (for all) and `name=number` options. Errors: ConfigError where one is neither, or comes twice."""
    general: float | None = None
    numbers: dict[str, float] = {}
    for item in items:
        name, sign, value = item.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or bool(name) != bool(sign) or name in numbers or (not name and general is not None):
            raise ConfigError(f"{option} {item}: write a number for all, or name=number, each once")
        if name:
            numbers[name] = number
        else:
            general = number
    return general, numbers
