"""From shares by size to equal shares, gradually: the temperature rises while training runs."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.samplers.protocol import Stateless, normalized
from mmtrain.curriculum.setting import Setting, Unit
from mmtrain.section import Section


class AnnealedConfig(Section):
    """Proportional at first, uniform at last, or between any two temperatures."""

    name: Literal["annealed"] = "annealed"
    start: float = Field(default=1.0, ge=0.1, le=1000, description="Temperature at the start; 1 = proportional to size.")
    end: float | None = Field(default=None, ge=0.1, le=1000, description="Temperature at the end; null = equal shares.")
    over: float = Field(default=1.0, gt=0, description="How long the way from start to end takes, in `unit`.")
    unit: Unit = Field(default="epochs", description="What `over` counts: epochs or optimizer steps.")

    def build(self, setting: Setting) -> "Annealed":
        """The sampler of this stage."""
        return Annealed(
            sizes={stream.name: stream.size for stream in setting.streams},
            start=1 / self.start,
            end=0.0 if self.end is None else 1 / self.end,
            num_steps=max(setting.steps(self.over, self.unit), 1),
        )


class Annealed(Stateless):
    """share_t(i) proportional to n_t^a(i), with a(i) = start + (end - start) min(i / num_steps, 1) at step i.

    The exponent a = 1 / temperature moves in a straight line: from 1 (proportional) to 0 (uniform), temperature goes from
    1 to infinity. `sizes` by stream name.
    Source: the annealed sampling of Stickland and Murray 2019, "BERT and PALs", p_i ~ N_i^a with
    a = 1 - 0.8 (e - 1) / (E - 1) in epoch e of E; here in steps and to any end.
    """

    def __init__(self, *, sizes: Mapping[str, int], start: float, end: float, num_steps: int) -> None:
        largest = max(sizes.values())  # dividing by it first keeps the power finite
        self._sizes = {name: size / largest for name, size in sizes.items()}
        self.start, self.end, self.num_steps = start, end, num_steps

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step; the exponent goes by the step."""
        return self._shares

    def _shares(self, step: int, active: Names) -> dict[str, float]:
        exponent = self.start + (self.end - self.start) * min(step / self.num_steps, 1.0)
        return normalized({name: self._sizes[name] ** exponent for name in active})
