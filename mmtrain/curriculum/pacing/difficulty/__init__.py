"""The difficulties: by which numbers a pacing calls a sample easy or hard. mmtrain/difficulty.py reads them."""

from typing import Annotated

from pydantic import Field

from mmtrain.curriculum.pacing.difficulty.column import ColumnConfig
from mmtrain.curriculum.pacing.difficulty.data_map import DataMapConfig
from mmtrain.curriculum.pacing.difficulty.predictions import PredictionsConfig
from mmtrain.curriculum.pacing.difficulty.running import RunningConfig
from mmtrain.curriculum.pacing.difficulty.text_length import TextLengthConfig
from mmtrain.section import Section, rows_of

DifficultyConfig = Annotated[
    ColumnConfig | TextLengthConfig | PredictionsConfig | DataMapConfig | RunningConfig,
    Field(discriminator="name"),
]

# column, predictions and data_map must be told what to read.
DIFFICULTIES: tuple[type[Section], ...] = rows_of(DifficultyConfig)
