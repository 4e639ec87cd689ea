"""The table of optimizers. A row here is all that a new optimizer needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.engine.optimizers.adafactor import AdafactorConfig
from mmtrain.engine.optimizers.adagrad import AdagradConfig
from mmtrain.engine.optimizers.adam import AdamConfig
from mmtrain.engine.optimizers.adamw import AdamWConfig
from mmtrain.engine.optimizers.schedule_free_adamw import ScheduleFreeAdamWConfig
from mmtrain.engine.optimizers.sgd import SGDConfig
from mmtrain.section import Section, rows_of

OptimizerConfig = Annotated[
    AdamWConfig | AdamConfig | AdagradConfig | SGDConfig | AdafactorConfig | ScheduleFreeAdamWConfig,
    Field(discriminator="name"),
]
OPTIMIZERS: tuple[type[Section], ...] = rows_of(OptimizerConfig)
