"""No pacing: every pass walks through all of its stream."""

from typing import Literal

from mmtrain.curriculum.pacing.pacer import Pacer
from mmtrain.curriculum.pacing.protocol import Choice, Stateless
from mmtrain.curriculum.pacing.ranking import Ranking
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class NoPacingConfig(Section):
    """Every sample in every pass."""

    name: Literal["none"] = "none"

    def build(self, setting: Setting) -> Pacer:
        """The pacer of this stage."""
        return Pacer(Whole(), setting=setting, values={})


class Whole(Stateless):
    """All samples, always."""

    def choose(self, ranking: Ranking, *, stream: str, number: int, step: int) -> Choice:  # noqa: ARG002
        """The whole stream."""
        return Choice(None)

    def words(self, *, stream: str, number: int, step: int) -> str:  # noqa: ARG002
        """Nothing decides here."""
        return "no pacing"
