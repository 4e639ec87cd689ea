"""The table of poolings: many rows to one vector."""

from typing import Annotated

from pydantic import Field

from mmtrain.models.pooling.attention import AttentionPoolingConfig
from mmtrain.models.pooling.first import FirstPoolingConfig
from mmtrain.models.pooling.max import MaxPoolingConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.section import Section, rows_of

PoolingConfig = Annotated[
    MeanPoolingConfig | MaxPoolingConfig | FirstPoolingConfig | AttentionPoolingConfig, Field(discriminator="name")
]
POOLINGS: tuple[type[Section], ...] = rows_of(PoolingConfig)
