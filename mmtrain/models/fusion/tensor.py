"""Tensor fusion: the outer product of all modalities, so that every product of their features is a feature."""

from collections.abc import Mapping, Sequence
from typing import Literal

from einops import einsum, rearrange
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.fusion.pooled import PooledModalities
from mmtrain.models.masks import blank
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section

LARGEST = 200_000  # features of the product; the paper's own has 33 * 33 * 129 = 140,481


class TensorFusionConfig(Section):
    """Tensor fusion network (TFN; Zadeh et al. 2017): (width + 1)^M features, times `hidden` weights."""

    name: Literal["tensor"] = "tensor"
    width: int = Field(default=16, gt=0, description="Features of each modality that enter the product.")
    hidden: int = Field(default=128, gt=0, description="Width of the joint vector, a layer behind the product.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where the product of this many modalities is too large."""
        count, size = len(modalities), (self.width + 1) ** len(modalities)
        if size > LARGEST:
            fitting = max(width for width in range(self.width) if (width + 1) ** count <= LARGEST)
            instead = f"fusion.width {fitting} or less, or the fusion low_rank" if fitting else "the fusion low_rank"
            raise ConfigError(
                f"fusion.width {self.width}: the product of {count} modalities has (width + 1)^{count} = {size:,} features, "
                f"the most is {LARGEST:,}; write {instead}"
            )

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "TensorFusion":
        self.check(modalities)
        poolings = {name: pooling.build(dim=dim) for name in modalities}
        return TensorFusion(poolings=poolings, dim=dim, width=self.width, hidden=self.hidden, dropout=self.dropout)


class TensorFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, hidden] = ReLU(W dropout(z_1 (x) ... (x) z_M) + b).

    z_m = [ReLU(U_m LayerNorm(x_m) + c_m); 1] (section 4.2): the 1 keeps the products of fewer modalities, and a missing one
    is [0; 1], which leaves exactly these.
    """

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled = PooledModalities(poolings)
        self.factors = module_dict(
            "factor", {name: nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width), nn.ReLU()) for name in poolings}
        )
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear((width + 1) ** len(poolings), hidden), nn.ReLU())
        self.joint_dim = hidden

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        return Fused(joint=self.output(self.product(inputs, pooled)), per_modality=pooled)

    def product(self, inputs: Mapping[str, MaskedSequence], pooled: Mapping[str, Tensor]) -> Tensor:
        """[B, (width + 1)^M], the first modality's feature outermost."""
        product = None
        for name in self.modalities:
            features = blank(self.factors[module_key(name, "factor")](pooled[name]), inputs[name].present)
            features = F.pad(features, (0, 1), value=1.0)  # [B, width + 1]
            if product is not None:
                features = rearrange(einsum(product, features, "b i, b j -> b i j"), "b i j -> b (i j)")
            product = features
        assert product is not None
        return product
