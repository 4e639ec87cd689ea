"""Shared and private subspaces of each modality, held apart by three losses of the fusion's own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.attending import Attends
from mmtrain.models.block import TransformerBlock
from mmtrain.models.fusion.misa_losses import difference, reconstruction, similarity
from mmtrain.models.fusion.pooled import PooledModalities, presence, stack_normed
from mmtrain.models.masks import blank
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section

_PARTS = "parts"


class MisaFusionConfig(Section):
    """Modality-invariant and -specific representations (MISA; Hazarika et al. 2020).

    The strengths weigh the fusion's batch terms in the training loss; 0 leaves a term out. Defaults are the authors' code's.
    """

    name: Literal["misa"] = "misa"
    similarity: float = Field(default=1.0, ge=0, description="alpha: strength of the moment discrepancy of shared parts.")
    difference: float = Field(default=0.3, ge=0, description="beta: strength of the orthogonality of private parts.")
    reconstruction: float = Field(default=1.0, ge=0, description="gamma: strength of the squared reconstruction error.")
    heads: int = Field(default=2, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layer, in multiples of dim.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where nothing can be shared."""
        if len(modalities) < 2:
            raise ConfigError(
                f"fusion misa looks for what modalities share, the model reads only {modalities[0]}; "
                "add a modality, or write the fusion concat"
            )

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "MisaFusion":
        self.check(modalities)
        strengths = {
            "similarity": self.similarity,
            "difference": self.difference,
            "reconstruction": self.reconstruction,
        }
        return MisaFusion(
            poolings={name: pooling.build(dim=dim) for name in modalities},
            dim=dim,
            strengths={name: strength for name, strength in strengths.items() if strength},
            heads=self.heads,
            expansion=self.expansion,
            dropout=self.dropout,
        )


class MisaFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, M d], and the batch terms in `strengths`, each times its strength.

    u_m = LayerNorm(pooled_m); shared c_m = sigmoid(C u_m + .) with the same C for all, private p_m = sigmoid(P_m u_m + .)
    (section 3.3). All 2 M of them attend to one another in a transformer block and, side by side, give the joint
    vector (section 3.4). The parts of a missing modality are masked out everywhere. The norm of u_m is the authors' code's.
    """

    def __init__(
        self,
        *,
        poolings: Mapping[str, nn.Module],
        dim: int,
        strengths: Mapping[str, float],
        heads: int,
        expansion: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.strengths, self.batch_terms = dict(strengths), tuple(strengths)
        self.pooled = PooledModalities(poolings)
        self.norms = module_dict("norm", {name: nn.LayerNorm(dim) for name in poolings})
        self.shared = nn.Linear(dim, dim)
        self.private = module_dict("private", {name: nn.Linear(dim, dim) for name in poolings})
        if "reconstruction" in strengths:
            self.decoders = module_dict("decoder", {name: nn.Linear(dim, dim) for name in poolings})
        self.block = TransformerBlock(dim=dim, heads=heads, expansion=expansion, dropout=dropout)
        width = dim * len(poolings)
        self.output = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.ReLU(), nn.Dropout(dropout))
        self.joint_dim = width

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled, present = self.pooled(inputs), presence(inputs, self.modalities)
        own = stack_normed(pooled, self.norms)
        shared = self.shared(own).sigmoid()  # [B, M, d]
        private = torch.stack(
            [self.private[module_key(name, "private")](own[:, m]) for m, name in enumerate(self.modalities)], dim=1
        ).sigmoid()
        mask = torch.cat([present, present], dim=1)  # [B, 2 M]
        parts = blank(self.block(blank(torch.cat([private, shared], dim=1), mask), mask), mask)
        joint = self.output(rearrange(parts, "b m d -> b (m d)"))
        return Fused(joint=joint, per_modality=pooled, aux=self._terms(own, shared, private, present))

    def attends(self) -> Iterator[Attends]:
        """The private and shared parts of all modalities, among themselves."""
        yield Attends(self.block.attention, "layer 1", queries=(_PARTS,), keys=(_PARTS,))

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        return {_PARTS: tuple(f"{part} of {name}" for part in ("private", "shared") for name in self.modalities)}

    def _terms(self, own: Tensor, shared: Tensor, private: Tensor, present: Tensor) -> dict[str, Tensor]:
        """The batch terms, in float32 also under autocast, over the samples that have the modalities."""
        with torch.autocast(own.device.type, enabled=False):
            wide = torch.promote_types(own.dtype, torch.float32)
            own, shared, private = own.to(wide), shared.to(wide), private.to(wide)
            terms = {}
            if "similarity" in self.strengths:
                terms["similarity"] = similarity(shared, present)
            if "difference" in self.strengths:
                terms["difference"] = difference(shared, private, present)
            if "reconstruction" in self.strengths:
                decoders = [self.decoders[module_key(name, "decoder")] for name in self.modalities]
                both = (shared + private).unbind(dim=1)
                rebuilt = [decoder(rows) for decoder, rows in zip(decoders, both, strict=True)]
                terms["reconstruction"] = reconstruction(own, torch.stack(rebuilt, dim=1), present)
            return {name: self.strengths[name] * term for name, term in terms.items()}
