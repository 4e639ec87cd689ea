"""The multimodal adaptation gate: text rows shifted by what the other modalities hold at the same time."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.data.schema import TEXT
from mmtrain.errors import ConfigError
from mmtrain.models.masks import blank, masked_mean
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.models.row_order import stretch
from mmtrain.section import Section


class MagFusionConfig(Section):
    """Multimodal adaptation gate (MAG; Rahman et al. 2020), behind the text encoder; linear in the number of rows.

    The paper sets the gate between two layers of BERT; here it shifts the encoded text rows, after the last layer and
    before the pooling, so that it works with any text encoder. Text is the center: a sample without text gives zeros.
    """

    name: Literal["mag"] = "mag"
    beta: float = Field(default=1.0, gt=0, description="The shift is at most beta times as long as the text row.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Of the shifted rows; a probability. The paper's is 0.5.")

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where there is no text, or nothing beside it."""
        if TEXT not in modalities:
            raise ConfigError(
                f"fusion mag shifts text by the other modalities, the model reads {', '.join(modalities)}; "
                "give model.text an encoder, or write another fusion"
            )
        if len(modalities) == 1:
            raise ConfigError(
                "fusion mag shifts text by other modalities, the model reads text alone; "
                "name one under model.sequences, or write the fusion concat"
            )

    def needed(self, modalities: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - of every row
        """The text."""
        return (TEXT,)

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "MagFusion":
        self.check(modalities)
        return MagFusion(
            modalities=modalities, pooling=pooling.build(dim=dim), dim=dim, beta=self.beta, dropout=self.dropout
        )


class MagFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d]: the pooling of dropout(LayerNorm(z + alpha h)) over the text rows z.

    h = sum over the other modalities m of g_m * (W_m a_m) + b, g_m = ReLU(V_m [z; a_m] + c_m) and alpha =
    min(beta |z| / |h|, 1) (section 3). a_m is the mean of the rows of m that fall to the text row, as if both were spread
    evenly over the clip; a missing m has no share in h. `per_modality` holds the mean of each modality's rows before that.
    """

    def __init__(self, *, modalities: Sequence[str], pooling: nn.Module, dim: int, beta: float, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.others = tuple(name for name in modalities if name != TEXT)
        self.gates = module_dict("gate", {name: nn.Linear(2 * dim, dim) for name in self.others})
        self.shifts = module_dict("shift", {name: nn.Linear(dim, dim, bias=False) for name in self.others})
        self.bias = nn.Parameter(torch.zeros(dim))
        self.norm, self.dropout, self.pooling = nn.LayerNorm(dim), nn.Dropout(dropout), pooling
        self.beta, self.joint_dim = beta, dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        mask = inputs[TEXT].mask
        text = blank(*inputs[TEXT])  # [B, T, d]
        shift = self.bias.expand_as(text)
        for name in self.others:
            aligned = stretch(inputs[name], mask)
            gate = self.gates[module_key(name, "gate")](torch.cat([text, aligned], dim=2)).relu()
            shift = shift + gate * self.shifts[module_key(name, "shift")](aligned)
        limit = self.beta * length(text) / length(shift)  # [B, T, 1]
        rows = self.dropout(self.norm(text + limit.clamp(max=1) * shift))
        joint = self.pooling(MaskedSequence(blank(rows, mask), mask))
        return Fused(joint=joint, per_modality={name: masked_mean(*inputs[name]) for name in self.modalities})


def length(rows: Tensor) -> Tensor:
    """Euclidean length of rows [..., d] as [..., 1] in float32; never quite zero, where its gradient would not exist."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return (rows.square().sum(dim=-1, keepdim=True) + 1e-12).sqrt()
