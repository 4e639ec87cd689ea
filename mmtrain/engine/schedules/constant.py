"""The peak to the end."""

from typing import Literal

from mmtrain.engine.schedules.warmup import WarmupSection


class ConstantConfig(WarmupSection):
    """1 behind warm-up."""

    name: Literal["constant"] = "constant"
