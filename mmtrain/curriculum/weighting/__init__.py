"""The weightings: how the task losses become one update. A row here is all that a new weighting needs."""

from mmtrain.curriculum.weighting.fixed import FixedConfig

WeightingConfig = FixedConfig  # a union by `name` from the second row on: pydantic refuses a union of one

WEIGHTINGS = (FixedConfig,)
