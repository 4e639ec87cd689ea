"""The table of heads: the joint vector to one task's logits."""

from typing import Annotated

from pydantic import Field

from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.heads.scale import ScaleHeadConfig
from mmtrain.section import Section, rows_of

HeadConfig = Annotated[LinearHeadConfig | MlpHeadConfig | ScaleHeadConfig, Field(discriminator="name")]
HEADS: tuple[type[Section], ...] = rows_of(HeadConfig)
