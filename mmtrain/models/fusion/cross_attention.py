"""Crossmodal transformers: every modality reads every other one, pair by pair."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from einops import pack
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.attending import Attends
from mmtrain.models.block import CrossBlock, TransformerBlock
from mmtrain.models.encoders.transformer import add_positions
from mmtrain.models.masks import blank, masked_mean
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.models.time import RelativeTimeConfig, TimeDistance
from mmtrain.section import Section


class CrossAttentionFusionConfig(Section):
    """Multimodal transformer (MulT; Tsai et al. 2019), with the key padding masks that its authors' code lacks.

    Cost for M modalities: M (M - 1) crossmodal transformers of T_a x T_b attention, and M self-attention ones of width
    (M - 1) d, whose weights grow with (M - 1)^2 d^2. The paper's d is 40; three modalities make 5 million weights at d 128
    and 170 million at d 768. The joint vector is M (M - 1) d wide.
    """

    name: Literal["cross_attention"] = "cross_attention"
    layers: int = Field(default=2, gt=0, description="Blocks of each ordered pair; the paper has 4.")
    self_layers: int = Field(default=1, gt=0, description="Blocks of each modality over what it read; the paper has 3.")
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layers, in multiples of their rows'.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")
    relative_time: RelativeTimeConfig | None = Field(
        default=None, description="Rows of another modality count less the farther they are in time; null: by content alone."
    )

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where there is no pair."""
        if len(modalities) < 2:
            raise ConfigError(
                f"fusion cross_attention needs two modalities, the model reads only {modalities[0]}; "
                "add a modality, or write the fusion attention"
            )

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "CrossAttentionFusion":
        self.check(modalities)
        return CrossAttentionFusion(
            poolings={name: pooling.build(dim=dim * (len(modalities) - 1)) for name in modalities},
            dim=dim,
            layers=self.layers,
            self_layers=self.self_layers,
            heads=self.heads,
            expansion=self.expansion,
            dropout=self.dropout,
            relative_time=None if self.relative_time is None else self.relative_time.build(heads=self.heads),
        )


class CrossAttentionFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, M (M - 1) d].

    For each modality a and each other b: Z = x_a + positions, then `layers` crossmodal blocks from x_b + positions to Z
    (section 3.2); what a read from all b side by side goes through self-attention, a norm and the pooling (the
    paper takes the last row). Residuals add the values before the norm, as in the authors' code, where the
    paper prints those behind it. A missing b leaves Z as it was but for the feed-forward. `per_modality` holds the mean
    of each modality's rows before they meet. `relative_time` biases what rows read of the others by the seconds between.
    """

    def __init__(
        self,
        *,
        poolings: Mapping[str, nn.Module],
        dim: int,
        layers: int,
        self_layers: int,
        heads: int,
        expansion: int,
        dropout: float,
        relative_time: TimeDistance | None = None,
    ) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.dropout, self.relative_time = nn.Dropout(dropout), relative_time
        self.readers = nn.ModuleDict()
        for name in poolings:
            blocks = {
                other: nn.ModuleList(
                    CrossBlock(dim=dim, heads=heads, expansion=expansion, dropout=dropout) for _ in range(layers)
                )
                for other in poolings
                if other != name
            }
            self.readers[module_key(name, "reader")] = module_dict("blocks", blocks)
        width = dim * (len(poolings) - 1)
        memories = {
            name: nn.ModuleList(
                TransformerBlock(dim=width, heads=heads, expansion=expansion, dropout=dropout) for _ in range(self_layers)
            )
            for name in poolings
        }
        self.memories = module_dict("memory", memories)
        self.norms = module_dict("norm", {name: nn.LayerNorm(width) for name in poolings})
        self.poolings = module_dict("pooling", poolings)
        self.joint_dim = width * len(poolings)

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        placed = {name: self._placed(inputs[name]) for name in self.modalities}
        joint = pack([self._read(name, placed) for name in self.modalities], "b *")[0]
        return Fused(joint=joint, per_modality={name: masked_mean(*inputs[name]) for name in self.modalities})

    def attends(self) -> Iterator[Attends]:
        """What each modality reads of each other one, then among the rows of what it read."""
        for name in self.modalities:
            readers = self.readers[module_key(name, "reader")]
            for other in self.modalities:
                blocks = () if other == name else readers[module_key(other, "blocks")]  # type: ignore[index]
                for number, block in enumerate(blocks, start=1):
                    yield Attends(block.attention, f"layer {number}", queries=(name,), keys=(other,))
            for number, block in enumerate(self.memories[module_key(name, "memory")], start=1):  # type: ignore[arg-type]
                yield Attends(block.attention, f"self layer {number}", queries=(name,), keys=(name,))

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        return {}

    def _placed(self, sequence: MaskedSequence) -> MaskedSequence:
        return MaskedSequence(self.dropout(add_positions(blank(*sequence))), sequence.mask)

    def _read(self, name: str, placed: Mapping[str, MaskedSequence]) -> Tensor:
        """What one modality read from all others, [B, (M - 1) d]; zeros where the sample lacks the modality itself."""
        mask, read = placed[name].mask, []
        for other in self.modalities:
            if other == name:
                continue
            rows, context = placed[name].values, placed[other]
            bias = None if self.relative_time is None else self.relative_time(name, other, rows, context.values)
            for block in self.readers[module_key(name, "reader")][module_key(other, "blocks")]:  # type: ignore[index]
                rows = block(rows, context, bias)
            read.append(rows)
        rows = pack(read, "b t *")[0]  # [B, T, (M - 1) d]
        for block in self.memories[module_key(name, "memory")]:  # type: ignore[attr-defined]
            rows = block(rows, mask)
        rows = blank(self.norms[module_key(name, "norm")](rows), mask)
        pooled: Tensor = self.poolings[module_key(name, "pooling")](MaskedSequence(rows, mask))
        return pooled
