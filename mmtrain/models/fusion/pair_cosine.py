"""Two modalities as a pair: the cosine between their vectors and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.fusion.pair import check_pair
from mmtrain.models.fusion.pooled import PooledModalities
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class PairCosineFusionConfig(Section):
    """cos(u, v) (SBERT's regression objective; Reimers and Gurevych 2019, section 3).

    With the head `scale` the prediction is a cos(u, v) + b with a > 0, so that its correlations with a gold score are the
    cosine's own.
    """

    name: Literal["pair_cosine"] = "pair_cosine"

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError unless there are two modalities."""
        check_pair(self.name, modalities)

    def needed(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """Both."""
        return tuple(modalities)

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "PairCosineFusion":
        self.check(modalities)
        return PairCosineFusion(poolings={name: pooling.build(dim=dim) for name in modalities})


class PairCosineFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, 1] in -1 .. 1; 0 where the sample lacks one of the two."""

    joint_dim = 1

    def __init__(self, *, poolings: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled = PooledModalities(poolings)

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        first, second = pooled.values()
        return Fused(joint=F.cosine_similarity(first, second, dim=1)[:, None], per_modality=pooled)
