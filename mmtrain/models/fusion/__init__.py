"""The table of fusions: the encoded modalities of a sample to one vector."""

from typing import Annotated

from pydantic import Field

from mmtrain.models.fusion.attention import AttentionFusionConfig
from mmtrain.models.fusion.bilinear import BilinearFusionConfig
from mmtrain.models.fusion.bottleneck import BottleneckFusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.cross_attention import CrossAttentionFusionConfig
from mmtrain.models.fusion.early_concat import EarlyConcatFusionConfig
from mmtrain.models.fusion.gated import GatedFusionConfig
from mmtrain.models.fusion.hca import HcaFusionConfig
from mmtrain.models.fusion.low_rank import LowRankFusionConfig
from mmtrain.models.fusion.mag import MagFusionConfig
from mmtrain.models.fusion.mean import MeanFusionConfig
from mmtrain.models.fusion.misa import MisaFusionConfig
from mmtrain.models.fusion.only import OnlyFusionConfig
from mmtrain.models.fusion.pair import PairFusionConfig
from mmtrain.models.fusion.pair_cosine import PairCosineFusionConfig
from mmtrain.models.fusion.perceiver import PerceiverFusionConfig
from mmtrain.models.fusion.sum import SumFusionConfig
from mmtrain.models.fusion.tensor import TensorFusionConfig
from mmtrain.section import Section, rows_of

FusionConfig = Annotated[
    ConcatFusionConfig
    | SumFusionConfig
    | MeanFusionConfig
    | OnlyFusionConfig
    | GatedFusionConfig
    | TensorFusionConfig
    | LowRankFusionConfig
    | BilinearFusionConfig
    | EarlyConcatFusionConfig
    | AttentionFusionConfig
    | CrossAttentionFusionConfig
    | HcaFusionConfig
    | BottleneckFusionConfig
    | PerceiverFusionConfig
    | MagFusionConfig
    | MisaFusionConfig
    | PairFusionConfig
    | PairCosineFusionConfig,
    Field(discriminator="name"),
]
FUSIONS: tuple[type[Section], ...] = rows_of(FusionConfig)
