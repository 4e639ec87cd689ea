"""Where rows stand in time: marks in seconds behind the encoders, and a bias of attention by the distance in time."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.transformer import sinusoids
from mmtrain.models.masks import blank
from mmtrain.section import Section


class TimePositionsConfig(Section):
    """Sinusoids of each row's time, added behind its encoder, so that modalities of different rates line up."""

    per_second: float = Field(default=10.0, gt=0, description="Positions in a second: how fine times are told apart.")

    def build(self, *, rates: Mapping[str, float]) -> "TimePositions":
        return TimePositions(rates=rates, per_second=self.per_second)


class RelativeTimeConfig(Section):
    """Attention between two modalities that falls with the seconds between their rows (ALiBi; Press et al. 2022)."""

    slope: float = Field(default=1.0, gt=0, description="Head h of H loses slope x 2^(-8h/H) in its score for each second.")

    def build(self, *, heads: int) -> "TimeDistance":
        return TimeDistance(slope=self.slope, heads=heads)


def row_times(num_rows: int, rate: float, device: torch.device) -> Tensor:
    """[T] seconds: the middle of each row, (i + 1/2) / rate, so that a long row stands amid the short ones of its time."""
    return (torch.arange(num_rows, device=device) + 0.5) / rate


class TimePositions(nn.Module):
    """Adds sinusoidal positions (Vaswani et al. 2017, section 3.5) at seconds x `per_second` to a modality's rows.

    `rates`: rows per second by modality. What is not named keeps its rows as they are.
    """

    def __init__(self, *, rates: Mapping[str, float], per_second: float) -> None:
        super().__init__()
        self.rates, self.per_second = dict(rates), per_second

    def forward(self, name: str, rows: MaskedSequence) -> MaskedSequence:
        """[B, T, d] to the same, zeros under the mask."""
        if name not in self.rates:
            return rows
        times = row_times(rows.values.shape[1], self.rates[name], rows.values.device)
        marks = sinusoids(times * self.per_second, rows.values.shape[2])  # [T, d]
        return MaskedSequence(blank(rows.values + marks.to(rows.values.dtype), rows.mask), rows.mask)


class TimeDistance(nn.Module):
    """What each head loses in its scores between the rows of two modalities: slope_h |t - s|, without parameters.

    Equation: softmax(q k / sqrt(e) - slope_h |t_q - t_k|), slope_h = slope 2^(-8h/H) for h = 1 .. H, times in seconds
    (ALiBi, Press et al. 2022, section 3, with seconds in place of tokens).
    """

    def __init__(self, *, slope: float, heads: int) -> None:
        super().__init__()
        self.slope, self.heads = slope, heads
        self.rates: dict[str, float] = {}  # rows per second by modality: see `set_rates`

    def forward(self, name: str, other: str, queries: Tensor, context: Tensor) -> Tensor | None:
        """[H, T, S] for rows [B, T, d] that read rows [B, S, d]; None where one of the two has no times."""
        if name not in self.rates or other not in self.rates:
            return None
        reading = row_times(queries.shape[1], self.rates[name], queries.device)
        read = row_times(context.shape[1], self.rates[other], context.device)
        head = torch.arange(1, self.heads + 1, device=queries.device)
        slopes = self.slope * torch.exp2(-8.0 * head / self.heads)
        return -slopes[:, None, None] * (reading[:, None] - read[None, :]).abs()


def set_rates(fusion: nn.Module, rates: Mapping[str, float], modalities: Sequence[str]) -> None:
    """Tell a fusion's distances in time the rows per second of its modalities. Errors: ConfigError where no two have any."""
    for module in fusion.modules():
        if isinstance(module, TimeDistance):
            module.rates = {name: rates[name] for name in modalities if name in rates}
            if len(module.rates) < 2:
                raise ConfigError(
                    "model.fusion.relative_time: it needs two modalities whose stores give rows per second; of "
                    f"{', '.join(modalities)} {next(iter(module.rates), 'none')} has them"
                )
