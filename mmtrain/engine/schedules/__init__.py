"""The table of learning-rate schedules. A row here is all that a new schedule needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.engine.schedules.constant import ConstantConfig
from mmtrain.engine.schedules.cosine import CosineConfig
from mmtrain.engine.schedules.cosine_restarts import CosineRestartsConfig
from mmtrain.engine.schedules.exponential import ExponentialConfig
from mmtrain.engine.schedules.inverse_square_root import InverseSquareRootConfig
from mmtrain.engine.schedules.linear import LinearConfig
from mmtrain.engine.schedules.multi_step import MultiStepConfig
from mmtrain.engine.schedules.polynomial import PolynomialConfig
from mmtrain.engine.schedules.reduce_on_plateau import ReduceOnPlateauConfig
from mmtrain.section import Section, rows_of

LrScheduleConfig = Annotated[
    LinearConfig
    | CosineConfig
    | CosineRestartsConfig
    | ExponentialConfig
    | MultiStepConfig
    | PolynomialConfig
    | InverseSquareRootConfig
    | ConstantConfig
    | ReduceOnPlateauConfig,
    Field(discriminator="name"),
]
LR_SCHEDULES: tuple[type[Section], ...] = rows_of(LrScheduleConfig)
