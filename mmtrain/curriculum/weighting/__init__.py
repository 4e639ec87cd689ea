"""The weightings: how the task losses become one update. A row here is all that a new weighting needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.curriculum.weighting.adaptive import AdaptiveConfig
from mmtrain.curriculum.weighting.dwa import DwaConfig
from mmtrain.curriculum.weighting.fixed import FixedConfig
from mmtrain.curriculum.weighting.inverse_loss import InverseLossConfig
from mmtrain.curriculum.weighting.rlw import RlwConfig

WeightingConfig = Annotated[
    FixedConfig | DwaConfig | RlwConfig | InverseLossConfig | AdaptiveConfig, Field(discriminator="name")
]

WEIGHTINGS = (FixedConfig, DwaConfig, RlwConfig, InverseLossConfig, AdaptiveConfig)
