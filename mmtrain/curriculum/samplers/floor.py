"""A least share for every active stream, common to the samplers that could starve one."""

from collections.abc import Mapping

from mmtrain.curriculum.setting import Setting
from mmtrain.errors import ConfigError


def check_floor(where: str, floor: float, setting: Setting) -> None:
    """Errors: ConfigError where a floor for each stream of the stage makes more than 1."""
    count = len(setting.streams)
    if count * floor > 1:
        raise ConfigError(
            f"{where} {floor} for each of {count} streams makes {count * floor:g}, more than 1. "
            f"Write floor: {int(1000 / count) / 1000:g} or less"
        )


def with_floor(parts: Mapping[str, float], floor: float) -> dict[str, float]:
    """floor + (1 - K floor) part, for K parts that sum to 1."""
    return {name: floor + (1 - len(parts) * floor) * part for name, part in parts.items()}
