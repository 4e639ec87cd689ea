"""The table of optimizers. A row here is all that a new optimizer needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.engine.optimizers.adafactor import AdafactorConfig
from mmtrain.engine.optimizers.adagrad import AdagradConfig
from mmtrain.engine.optimizers.adam import AdamConfig
from mmtrain.engine.optimizers.adamw import AdamWConfig
from mmtrain.engine.optimizers.schedule_free_adamw import ScheduleFreeAdamWConfig
from mmtrain.engine.optimizers.sgd import SGDConfig

OptimizerConfig = Annotated[
    AdamWConfig | AdamConfig | AdagradConfig | SGDConfig | AdafactorConfig | ScheduleFreeAdamWConfig,
    Field(discriminator="name"),
]
OPTIMIZERS = (AdamWConfig, AdamConfig, AdagradConfig, SGDConfig, AdafactorConfig, ScheduleFreeAdamWConfig)
