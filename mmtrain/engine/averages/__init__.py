"""The table of weight averages. A row here is all that a new one needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.engine.averages.ema import EMAConfig
from mmtrain.engine.averages.swa import SWAConfig
from mmtrain.section import Section, rows_of

AverageConfig = Annotated[EMAConfig | SWAConfig, Field(discriminator="name")]
AVERAGES: tuple[type[Section], ...] = rows_of(AverageConfig)
