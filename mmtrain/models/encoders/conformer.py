"""A conformer: transformer blocks with a convolution inside, for long feature sequences such as speech."""

from typing import Literal

from einops import rearrange
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.block import MultiHeadAttention
from mmtrain.models.encoders.transformer import add_positions
from mmtrain.models.masks import blank
from mmtrain.section import Section


class ConformerEncoderConfig(Section):
    """Conformer blocks (Gulati et al. 2020); the attention is quadratic in the number of rows.

    Two things differ from the paper: the norm inside the convolution is a layer norm of each row instead of a batch norm,
    so that neither padding nor batch companions reach a result, and positions are sinusoidal instead of relative.
    """

    name: Literal["conformer"] = "conformer"
    layers: int = Field(default=2, gt=0, description="Blocks, one behind the other.")
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layers, in multiples of dim.")
    reach: int = Field(default=7, gt=0, description="Neighbors on each side in the convolution: kernel 2 reach + 1.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return ConformerEncoder(
            input_dim=input_dim,
            dim=dim,
            layers=self.layers,
            heads=self.heads,
            expansion=self.expansion,
            reach=self.reach,
            dropout=self.dropout,
        )


class ConformerEncoder(nn.Module):
    """[B, T, D] to [B, T, dim], zeros under the mask."""

    def __init__(
        self, *, input_dim: int, dim: int, layers: int, heads: int, expansion: int, reach: int, dropout: float
    ) -> None:
        super().__init__()
        self.projection, self.dropout = nn.Linear(input_dim, dim), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            ConformerBlock(dim=dim, heads=heads, expansion=expansion, reach=reach, dropout=dropout) for _ in range(layers)
        )

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        rows = self.projection(blank(*sequence))
        rows = self.dropout(add_positions(rows))
        for block in self.blocks:
            rows = block(rows, sequence.mask)
        return MaskedSequence(blank(rows, sequence.mask), sequence.mask)


class ConformerBlock(nn.Module):
    """Equation 1: x + FFN(x) / 2, then + attention(x), then + convolution(x), then LayerNorm(x + FFN(x) / 2)."""

    def __init__(self, *, dim: int, heads: int, expansion: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.before, self.after = (
            nn.Sequential(
                nn.LayerNorm(dim),
                nn.Linear(dim, expansion * dim),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(expansion * dim, dim),
                nn.Dropout(dropout),
            )
            for _ in range(2)
        )
        self.attention_norm, self.attention = nn.LayerNorm(dim), MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.attention_output, self.dropout = nn.Linear(dim, dim), nn.Dropout(dropout)
        self.convolution = ConvolutionModule(dim=dim, reach=reach, dropout=dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """values [B, T, d], mask [B, T] -> [B, T, d]; rows under the mask stay finite and are never read."""
        values = values + self.before(values) / 2
        normed = self.attention_norm(values)
        values = values + self.dropout(self.attention_output(self.attention(normed, normed, mask)))
        values = values + self.convolution(values, mask)
        result: Tensor = self.norm(values + self.after(values) / 2)
        return result


class ConvolutionModule(nn.Module):
    """Figure 2: LayerNorm, pointwise to 2d, GLU, depthwise over time, norm, swish, pointwise, dropout."""

    def __init__(self, *, dim: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.depthwise_norm, self.dropout = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Dropout(dropout)
        self.gate, self.output = nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.depthwise = nn.Conv1d(dim, dim, 2 * reach + 1, padding=reach, groups=dim)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        rows = blank(F.glu(self.gate(self.norm(values))), mask)
        rows = rearrange(self.depthwise(rearrange(rows, "b t d -> b d t")), "b d t -> b t d")
        result: Tensor = self.dropout(self.output(F.silu(self.depthwise_norm(rows))))
        return result
