"""The samplers: how many samples of each stream are in a batch. A row here is all that a new sampler needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.curriculum.samplers.dynamic_difficulty import DynamicDifficultyConfig
from mmtrain.curriculum.samplers.proportional import ProportionalConfig
from mmtrain.curriculum.samplers.round_robin import RoundRobinConfig
from mmtrain.curriculum.samplers.temperature import TemperatureConfig
from mmtrain.curriculum.samplers.uniform import UniformConfig

SamplerConfig = Annotated[
    UniformConfig | ProportionalConfig | TemperatureConfig | RoundRobinConfig | DynamicDifficultyConfig,
    Field(discriminator="name"),
]

# The same rows for contract tests and the docs to go over; each builds with its defaults.
SAMPLERS = (UniformConfig, ProportionalConfig, TemperatureConfig, RoundRobinConfig, DynamicDifficultyConfig)
