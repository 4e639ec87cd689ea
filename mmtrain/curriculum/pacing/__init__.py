"""The pacings: which samples of a stream are in the pool of its next pass. A row here is all that a new pacing needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.curriculum.pacing.anti import AntiConfig
from mmtrain.curriculum.pacing.baby_steps import BabyStepsConfig
from mmtrain.curriculum.pacing.competence import CompetenceConfig
from mmtrain.curriculum.pacing.loss_quantile import LossQuantileConfig
from mmtrain.curriculum.pacing.none import NoPacingConfig
from mmtrain.curriculum.pacing.self_paced import SelfPacedConfig
from mmtrain.curriculum.pacing.self_paced_linear import SelfPacedLinearConfig
from mmtrain.section import Section, rows_of

PacingConfig = Annotated[
    NoPacingConfig
    | CompetenceConfig
    | BabyStepsConfig
    | AntiConfig
    | SelfPacedConfig
    | SelfPacedLinearConfig
    | LossQuantileConfig,
    Field(discriminator="name"),
]

# competence, baby_steps and anti must be told a difficulty.
PACINGS: tuple[type[Section], ...] = rows_of(PacingConfig)
