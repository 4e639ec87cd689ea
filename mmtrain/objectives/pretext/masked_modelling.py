"""Masked modelling: hidden words and hidden rows, told from what is left of the sample."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.batch import Batch, Mask, MaskedSequence
from mmtrain.data.schema import TEXTS, TaskSchema
from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError
from mmtrain.objectives.pretext.pairs import join_pairs
from mmtrain.objectives.pretext.protocol import Companions, Pairs, PretextTerms, Views
from mmtrain.objectives.pretext.words import Words
from mmtrain.section import Section

_CHANCE_OF_TEXT = float(np.log(30522))  # of BERT's vocabulary: a reference needs the scale alone


class MaskedModellingConfig(Section):
    """Masked language modelling on the text (BERT; Devlin et al. 2019, section 3.1) and masked feature regression.

    What is hidden is predicted from its place in the encoder's output and from the fused vector of the sample, both of the
    corrupted inputs, so that the other modalities help. Rows are compared as He et al. 2022 (MAE, section 4.2) compare
    patches: each target row at mean 0 and deviation 1.
    """

    name: Literal["masked_modelling"] = "masked_modelling"
    modalities: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Those that are hidden in part; null: all that the model reads."
    )
    text_probability: float = Field(default=0.15, gt=0, le=0.5, description="That a token is hidden, at least one a text.")
    feature_probability: float = Field(default=0.15, gt=0, le=0.5, description="That a row is hidden, at least one of all.")

    @property
    def needed_tasks(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def compares(self) -> bool:
        """What is hidden, each sample tells of itself."""
        return False

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where the model does not read a modality."""
        for modality in self.modalities or ():
            if modality not in modalities:
                raise ConfigError(f"modalities: the model reads no '{modality}'; it reads {', '.join(modalities)}")

    def check_rows(self, modalities: Sequence[str], *, pooled: Collection[str], pixels: Collection[str]) -> None:
        """Errors: ConfigError where the encoder of one of them gives no rows, as those of `pooled`, or it is of `pixels`."""
        for modality in self.hidden_of(modalities):
            if modality in pooled:
                raise ConfigError(f"modalities: the encoder of '{modality}' gives one row a sample; name the others alone")
            if modality in pixels:
                raise ConfigError(
                    f"modalities: '{modality}' holds pixels, of which no rows are hidden; name the others alone"
                )

    def hidden_of(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """The modalities as written, or all."""
        return self.modalities or tuple(modalities)

    def speaks(self, present: Mapping[str, Mask], labelled: Mapping[str, Mask]) -> Mask:  # noqa: ARG002 - of every row
        """[N] the samples that have one of the modalities."""
        found = np.zeros_like(next(iter(present.values())))
        for modality in self.hidden_of(tuple(present)):
            if modality in present:
                found |= present[modality]
        return found

    def build_module(
        self,
        *,
        modalities: Sequence[str],
        dim: int,
        joint_dim: int,
        input_dims: Mapping[str, int],
        tokenizer: Tokenizer | None,
    ) -> "MaskedModelling":
        """Errors: ConfigError where the tokenizer has no token that stands for a hidden one, or rows have one column."""
        self.check(modalities)
        for name in self.hidden_of(modalities):
            if input_dims.get(name) == 1:
                raise ConfigError(
                    f"modalities: the rows of '{name}' have one column, which at mean 0 is 0 everywhere, and nothing is "
                    "left to predict; name the others alone"
                )
        words = Words.of(tokenizer, self.text_probability) if tokenizer is not None else None
        return MaskedModelling(
            widths={name: input_dims.get(name) for name in self.hidden_of(modalities)},
            words=words,
            dim=dim,
            joint_dim=joint_dim,
            probability=self.feature_probability,
        )

    def build_loss(
        self,
        *,
        modalities: Sequence[str],
        tasks: Mapping[str, TaskSchema],  # noqa: ARG002
    ) -> "MaskedModellingLoss":
        return MaskedModellingLoss(self.hidden_of(modalities))


class MaskedModelling(nn.Module):
    """Views to `loss/<modality>` [B], the mean over the hidden places of each sample, and `hidden/<modality>` [B] bool.

    `widths`: D of each modality that is hidden in part, None of a text; `words`: what of its tokens may be hidden.
    Tokens: cross-entropy in nats. Rows: mean squared error over D against the row at mean 0 and deviation 1.
    """

    draws = "masked_modelling"  # said where several processes train

    def __init__(
        self, *, widths: Mapping[str, int | None], words: Words | None, dim: int, joint_dim: int, probability: float
    ) -> None:
        super().__init__()
        self.widths, self.words, self.probability = dict(widths), words, probability
        outputs = {}
        for name, width in widths.items():
            size = width if width is not None else _of_text(words).vocabulary
            outputs[name] = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, size))
        self.outputs = nn.ModuleList(outputs.values())
        self.context = nn.Linear(joint_dim, dim)
        rows = [torch.zeros(width) for width in widths.values() if width is not None]
        self.blanks = nn.ParameterList(rows)  # [D] each: what stands in the place of a hidden row

    def forward(self, views: Views, spoken: Tensor | None = None) -> dict[str, Tensor]:
        """`spoken` [B] bool: the samples that the task speaks for; None: all."""
        blanks = iter(self.blanks)
        corrupted, places = {}, {}
        for name, width in self.widths.items():
            corrupted[name], places[name] = (
                self._hide_words(views.inputs[name]) if width is None else self._hide_rows(views.inputs[name], next(blanks))
            )
        encoded = {**views.encoded, **views.encode(corrupted)}
        context = self.context(views.fuse(encoded).joint)[:, None]  # [B, 1, d]
        found = {}
        for name, output in zip(self.widths, self.outputs, strict=True):
            place = places[name] if spoken is None else places[name] & spoken[:, None]
            states = (encoded[name].values + context)[place]  # [n, d], of the hidden places alone
            losses = _compare(output(states), views.inputs[name].values[place])
            values = torch.zeros(place.shape, dtype=losses.dtype, device=place.device).masked_scatter(place, losses)
            found[f"loss/{name}"] = values.sum(dim=1) / place.sum(dim=1).clamp(min=1)
            found[f"hidden/{name}"] = place.any(dim=1)
        return found

    def _hide_rows(self, sequence: MaskedSequence, blank: Tensor) -> tuple[MaskedSequence, Tensor]:
        place = self._places(sequence.mask, self.probability)
        values = torch.where(place[..., None], blank.to(sequence.values.dtype), sequence.values)
        return MaskedSequence(values, sequence.mask), place

    def _hide_words(self, sequence: MaskedSequence) -> tuple[MaskedSequence, Tensor]:
        """Of the chosen tokens 80 % become the mask token, 10 % any token and 10 % stay; in evaluation all are masked."""
        words, ids = _of_text(self.words), sequence.values
        ordinary = sequence.mask & ~torch.isin(ids, torch.tensor(words.special, device=ids.device))
        place = self._places(ordinary, words.probability)
        chance = torch.rand(ids.shape, device=ids.device) if self.training else torch.zeros(ids.shape, device=ids.device)
        others = torch.randint_like(ids, words.vocabulary) if self.training else ids
        hidden = torch.where(place & (chance < 0.8), words.mask, ids)
        hidden = torch.where(place & (chance >= 0.9), others, hidden)
        return MaskedSequence(hidden, sequence.mask), place

    def _places(self, allowed: Tensor, probability: float) -> Tensor:
        """[B, T] bool: which of the places that are allowed are hidden, at least one where there is any.

        In training each with its probability; in evaluation every 1/p-th of the sample's own, from the middle of that on, so
        that neither chance nor companions have a say.
        """
        if not self.training:
            step = max(round(1 / probability), 1)
            rank = allowed.cumsum(dim=1) - 1
            first = torch.minimum(torch.full_like(rank[:, :1], step // 2), allowed.sum(dim=1, keepdim=True) - 1)
            return allowed & (rank >= first) & ((rank - first) % step == 0)
        lots = torch.rand(allowed.shape, device=allowed.device).masked_fill(~allowed, 2)
        least = lots.argmin(dim=1, keepdim=True) == torch.arange(allowed.shape[1], device=allowed.device)
        return allowed & ((lots < probability) | least)


def _compare(predicted: Tensor, original: Tensor) -> Tensor:
    """[n]: predicted [n, vocabulary] against token ids [n], or [n, D] against rows [n, D]."""
    predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
    if original.dim() == 1:
        return F.cross_entropy(predicted, original, reduction="none")
    rows = original.to(predicted.dtype)
    return (predicted - F.layer_norm(rows, rows.shape[-1:], eps=1e-6)).square().mean(dim=1)


def _of_text(words: Words | None) -> Words:
    assert words is not None, "a model that reads text has a tokenizer"
    return words


class MaskedModellingLoss:
    """The mean over modalities of the mean over the samples with hidden places of each; reported: over the sample's own."""

    pairs: Pairs = ()  # nothing is embedded

    def __init__(self, modalities: Sequence[str]) -> None:
        self._modalities = tuple(modalities)
        self.scores = tuple(f"{name}_loss" for name in modalities)

    def __call__(
        self,
        outputs: Mapping[str, Tensor],
        batch: Batch,  # noqa: ARG002 - of every loss
        *,
        spoken: Tensor,
        companions: Companions,
    ) -> PretextTerms:
        """See PretextLoss."""
        hidden = torch.stack([outputs[f"hidden/{name}"] & spoken for name in self._modalities])  # [M, b]
        values = torch.stack([outputs[f"loss/{name}"] for name in self._modalities]).masked_fill(~hidden, 0)
        counts = companions.gather(torch.cat([hidden, spoken[None]]).T.long()).sum(dim=0)
        return join_pairs(values, hidden, counts[:-1], counts[-1])

    def score(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """Each modality's own loss; NaN where the sample has none of it hidden."""
        return {
            f"{name}_loss": outputs[f"loss/{name}"].masked_fill(~outputs[f"hidden/{name}"], torch.nan)
            for name in self._modalities
        }

    def embeddings(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """None."""
        return {}

    def chance(self, present: Mapping[str, Mask], *, companions: int) -> float:  # noqa: ARG002
        """Of one that says every token of a vocabulary of BERT's size is as likely, and every row zero."""
        having = [name for name in self._modalities if name in present and present[name].any()]
        return float(np.mean([_CHANCE_OF_TEXT if name in TEXTS else 1.0 for name in having]))
