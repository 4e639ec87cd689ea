"""Hard samples first; the pool grows with the time trained."""

from typing import Literal

from mmtrain.curriculum.pacing.growth import Growth, GrowthConfig
from mmtrain.curriculum.pacing.pacer import Pacer, pacer_by
from mmtrain.curriculum.pacing.protocol import Choice, Stateless
from mmtrain.curriculum.pacing.ranking import Ranking
from mmtrain.curriculum.setting import Setting


class AntiConfig(GrowthConfig):
    """The hardest part of each stream, larger with every pass: the control of every claim for easy first."""

    name: Literal["anti"] = "anti"

    def build(self, setting: Setting) -> Pacer:
        """The pacer of this stage."""
        return pacer_by(self.difficulty, Anti(growth=self.growth(setting)), setting)


class Anti(Stateless):
    """The pool of a pass that begins at step t: the c(t) N hardest samples, with the c of `competence`."""

    def __init__(self, *, growth: Growth) -> None:
        self._growth = growth

    def choose(self, ranking: Ranking, *, stream: str, number: int, step: int) -> Choice:  # noqa: ARG002
        """The hardest samples, as many as the step allows."""
        return Choice(ranking.hardest(self._growth.count(len(ranking), step)))

    def words(self, *, stream: str, number: int, step: int) -> str:  # noqa: ARG002
        """The competence."""
        return f"hardest first, competence {self._growth.competence(step):.3g}"
