"""The samplers: how many samples of each stream are in a batch. A row here is all that a new sampler needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.curriculum.samplers.annealed import AnnealedConfig
from mmtrain.curriculum.samplers.doremi import DoremiConfig
from mmtrain.curriculum.samplers.dynamic_difficulty import DynamicDifficultyConfig
from mmtrain.curriculum.samplers.exp3 import Exp3Config
from mmtrain.curriculum.samplers.fixed import FixedSharesConfig
from mmtrain.curriculum.samplers.learning_progress import LearningProgressConfig
from mmtrain.curriculum.samplers.odm import OdmConfig
from mmtrain.curriculum.samplers.proportional import ProportionalConfig
from mmtrain.curriculum.samplers.random_stream import RandomStreamConfig
from mmtrain.curriculum.samplers.round_robin import RoundRobinConfig
from mmtrain.curriculum.samplers.scheduled import ScheduledConfig
from mmtrain.curriculum.samplers.temperature import TemperatureConfig
from mmtrain.curriculum.samplers.ucb import UcbConfig
from mmtrain.curriculum.samplers.uniform import UniformConfig
from mmtrain.curriculum.samplers.validation_driven import ValidationDrivenConfig
from mmtrain.section import Section, rows_of

SamplerConfig = Annotated[
    UniformConfig
    | ProportionalConfig
    | TemperatureConfig
    | FixedSharesConfig
    | ScheduledConfig
    | AnnealedConfig
    | RoundRobinConfig
    | RandomStreamConfig
    | DynamicDifficultyConfig
    | LearningProgressConfig
    | Exp3Config
    | OdmConfig
    | UcbConfig
    | DoremiConfig
    | ValidationDrivenConfig,
    Field(discriminator="name"),
]

# Most build with their defaults; fixed, scheduled, doremi and validation_driven must be told something of each stream.
SAMPLERS: tuple[type[Section], ...] = rows_of(SamplerConfig)
