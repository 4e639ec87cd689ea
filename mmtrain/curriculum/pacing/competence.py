"""Easy samples first; the pool grows with the time trained."""

from typing import Literal

from mmtrain.curriculum.pacing.growth import Growth, GrowthConfig
from mmtrain.curriculum.pacing.pacer import Pacer, pacer_by
from mmtrain.curriculum.pacing.protocol import Choice, Stateless
from mmtrain.curriculum.pacing.ranking import Ranking
from mmtrain.curriculum.setting import Setting


class CompetenceConfig(GrowthConfig):
    """The easiest part of each stream, larger with every pass."""

    name: Literal["competence"] = "competence"

    def build(self, setting: Setting) -> Pacer:
        """The pacer of this stage."""
        return pacer_by(self.difficulty, Competence(growth=self.growth(setting)), setting)


class Competence(Stateless):
    """The pool of a pass that begins at step t: the c(t) N easiest samples.

    Source: Platanios et al. 2019, "Competence-based Curriculum Learning for Neural Machine Translation", algorithm 1, in
    passes without replacement instead of independent draws.
    """

    def __init__(self, *, growth: Growth) -> None:
        self._growth = growth

    def choose(self, ranking: Ranking, *, stream: str, number: int, step: int) -> Choice:  # noqa: ARG002
        """The easiest samples, as many as the step allows."""
        return Choice(ranking.easiest(self._growth.count(len(ranking), step)))

    def words(self, *, stream: str, number: int, step: int) -> str:  # noqa: ARG002
        """The competence."""
        return f"competence {self._growth.competence(step):.3g}"
