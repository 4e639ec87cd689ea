"""A pool that grows with the steps, by a root: what easiest first and hardest first have in common."""

from pydantic import Field

from mmtrain.curriculum.pacing.difficulty import DifficultyConfig
from mmtrain.curriculum.setting import Setting, Unit
from mmtrain.section import Section


class GrowthConfig(Section):
    """How fast a pool grows, and by which difficulty."""

    difficulty: DifficultyConfig = Field(description="What makes a sample hard: a column, its text, or its loss.")
    start: float = Field(default=0.01, gt=0, le=1, description="The pool at the start, as a part of the stream: c0.")
    over: float = Field(default=1.0, gt=0, description="How long the way to the whole stream takes, in `unit`: T.")
    unit: Unit = Field(default="epochs", description="What `over` counts: epochs or optimizer steps.")
    power: float = Field(default=2.0, ge=0.1, le=100, description="p of the root: 1 = linear, 2 = square root.")

    def growth(self, setting: Setting) -> "Growth":
        """The growth in steps of this stage."""
        return Growth(start=self.start, num_steps=max(setting.steps(self.over, self.unit), 1), power=self.power)


class Growth:
    """The part c(t) of a stream that is in its pool, t optimizer steps after the start of the stage."""

    def __init__(self, *, start: float, num_steps: int, power: float) -> None:
        self.start, self.num_steps, self.power = start, num_steps, power

    def competence(self, step: int) -> float:
        """c at this step, 0 < c <= 1."""
        return root(step / self.num_steps, start=self.start, power=self.power)

    def count(self, size: int, step: int) -> int:
        """Samples in the pool of a stream of `size`: c size, rounded, at least 1."""
        return max(round(self.competence(step) * size), 1)


def root(progress: float, *, start: float, power: float) -> float:
    """min(1, (progress (1 - start^power) + start^power)^(1 / power)): from `start` at progress 0 to 1 at progress 1.

    Source: Platanios et al. 2019, "Competence-based Curriculum Learning for Neural Machine Translation", equation 8 and the
    root of any power named after it.
    """
    if progress >= 1:
        return 1.0
    first = start**power
    return float(min((progress * (1 - first) + first) ** (1 / power), 1.0))
