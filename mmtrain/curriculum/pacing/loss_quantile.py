"""What the model finds easiest, or hardest, is left out of the next pass."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mmtrain.curriculum.pacing.pacer import Pacer
from mmtrain.curriculum.pacing.protocol import Choice, Stateless
from mmtrain.curriculum.pacing.ranking import Ranking
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class LossQuantileConfig(Section):
    """Drop parts of each stream by the samples' last losses."""

    name: Literal["loss_quantile"] = "loss_quantile"
    drop_easiest: float = Field(default=0.0, ge=0, lt=1, description="Part with the lowest losses that a pass leaves out.")
    drop_hardest: float = Field(default=0.0, ge=0, lt=1, description="Part with the highest losses that a pass leaves out.")
    probe_every: int | None = Field(
        default=1, ge=1, description="Passes between evaluations of the samples left out; null: they keep their loss."
    )

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.drop_easiest + self.drop_hardest >= 1:
            raise ValueError(f"drop_easiest {self.drop_easiest} and drop_hardest {self.drop_hardest} leave nothing; sum < 1")
        return self

    def build(self, setting: Setting) -> Pacer:
        """The pacer of this stage."""
        pacing = LossQuantile(drop_easiest=self.drop_easiest, drop_hardest=self.drop_hardest)
        return Pacer(pacing, setting=setting, listens=True, probe_every=self.probe_every)


class LossQuantile(Stateless):
    """Of N samples all but the floor(N drop_easiest) lowest and the floor(N drop_hardest) highest losses.

    The first is hard example mining by the epoch, the second guards against wrong labels.
    """

    def __init__(self, *, drop_easiest: float, drop_hardest: float) -> None:
        self.drop_easiest, self.drop_hardest = drop_easiest, drop_hardest

    def choose(self, ranking: Ranking, *, stream: str, number: int, step: int) -> Choice:  # noqa: ARG002
        """What is neither easiest nor hardest."""
        easiest, hardest = (_part(len(ranking), share) for share in (self.drop_easiest, self.drop_hardest))
        return Choice(~ranking.easiest(easiest) & ~ranking.hardest(hardest))

    def words(self, *, stream: str, number: int, step: int) -> str:  # noqa: ARG002
        """What is dropped."""
        return f"without the easiest {self.drop_easiest:g} and the hardest {self.drop_hardest:g} by loss"


def _part(size: int, share: float) -> int:
    """floor(size share), as written: 0.07 of 100 is 7."""
    return int(round(size * share, 9))
