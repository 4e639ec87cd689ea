"""Shares between proportional (temperature 1) and uniform (temperature infinite)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from mmtrain.curriculum.decision import ShareRule
from mmtrain.curriculum.samplers.proportional import weighted_rule
from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class TemperatureConfig(Section):
    """Shares by a root of the size; large streams may be capped."""

    name: Literal["temperature"] = "temperature"
    temperature: float = Field(default=2.0, ge=0.1, le=1000, description="1 = proportional to size; large = equal shares.")
    cap: int | None = Field(default=None, ge=1, description="Samples; a larger stream counts as this large. null = no cap.")

    def build(self, setting: Setting) -> "Temperature":
        """The sampler of this stage."""
        sizes = {stream.name: stream.size for stream in setting.streams}
        return Temperature(sizes=sizes, temperature=self.temperature, cap=self.cap)


class Temperature(Stateless):
    """share_t proportional to min(n_t, cap)^(1/temperature).

    Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    section 3.5.2 (examples-proportional mixing with a limit, and its temperature-scaled form).
    """

    def __init__(self, *, sizes: Mapping[str, int], temperature: float, cap: int | None = None) -> None:
        capped = {name: min(size, cap) if cap else size for name, size in sizes.items()}
        largest = max(capped.values())  # dividing by it first keeps the power finite
        self._rule = weighted_rule({name: (size / largest) ** (1 / temperature) for name, size in capped.items()})

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step."""
        return self._rule
