"""The table of fusions: the encoded modalities of a sample to one vector."""

from typing import Annotated

from pydantic import Field

from mmtrain.models.fusion.attention import AttentionFusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.hca import HcaFusionConfig
from mmtrain.section import Section

FusionConfig = Annotated[ConcatFusionConfig | AttentionFusionConfig | HcaFusionConfig, Field(discriminator="name")]
FUSIONS: tuple[type[Section], ...] = (ConcatFusionConfig, AttentionFusionConfig, HcaFusionConfig)
