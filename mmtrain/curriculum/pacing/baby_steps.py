"""Buckets of difficulty, the easiest first, the next one added to them after some passes."""

from typing import Literal

from pydantic import Field

from mmtrain.curriculum.pacing.difficulty import DifficultyConfig
from mmtrain.curriculum.pacing.pacer import Pacer, pacer_by
from mmtrain.curriculum.pacing.protocol import Choice, Stateless
from mmtrain.curriculum.pacing.ranking import Ranking
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class BabyStepsConfig(Section):
    """Cumulative buckets of equal size."""

    name: Literal["baby_steps"] = "baby_steps"
    difficulty: DifficultyConfig = Field(description="What makes a sample hard: a column, its text, or its loss.")
    buckets: int = Field(default=4, ge=1, description="Parts of equal size that each stream is cut into.")
    passes: int = Field(default=1, ge=1, description="Passes of the stream before the next bucket is added.")

    def build(self, setting: Setting) -> Pacer:
        """The pacer of this stage."""
        return pacer_by(self.difficulty, BabySteps(buckets=self.buckets, passes=self.passes), setting)


class BabySteps(Stateless):
    """The pool of pass n = 0, 1, ...: the N b / K easiest samples (rounded, at least 1), b = min(K, 1 + floor(n / passes)).

    Source: Spitkovsky, Alshawi and Jurafsky 2010, "From Baby Steps to Leapfrog"; Bengio et al. 2009, "Curriculum Learning".
    """

    def __init__(self, *, buckets: int, passes: int) -> None:
        self.buckets, self.passes = buckets, passes

    def choose(self, ranking: Ranking, *, stream: str, number: int, step: int) -> Choice:  # noqa: ARG002
        """The buckets that are open."""
        is_last = self._open(number) == self.buckets
        mask = ranking.easiest(max(round(len(ranking) * self._open(number) / self.buckets), 1))
        return Choice(mask, None if is_last else (number // self.passes + 1) * self.passes)

    def words(self, *, stream: str, number: int, step: int) -> str:  # noqa: ARG002
        """How many buckets are open."""
        return f"{self._open(number)} of {self.buckets} buckets"

    def _open(self, number: int) -> int:
        return min(self.buckets, 1 + number // self.passes)
