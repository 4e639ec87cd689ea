"""What tasks that compare two modalities of the same samples share: their pairs, who is compared, the mean over pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from mmtrain.data.batch import Batch, Mask
from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError
from mmtrain.objectives.pretext.projection import PairHead, Scalar
from mmtrain.objectives.pretext.protocol import Companions, Pairs, PretextTerms
from mmtrain.section import Section


class PairsSection(Section):
    """The field of every task over pairs of modalities."""

    pairs: Annotated[tuple[tuple[str, str], ...], Field(min_length=1)] | None = Field(
        default=None, description="Modalities that are compared, two by two; null: every pair of the model's modalities."
    )

    @property
    def needed_tasks(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def compares(self) -> bool:
        """Matches stand against other samples."""
        return True

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where a pair is none of two of the model's `modalities`, or stands here twice."""
        if len(modalities) < 2:
            raise ConfigError(f"pairs: this compares two modalities, and the model reads {', '.join(modalities)} alone")
        seen: set[frozenset[str]] = set()
        for pair in self.pairs or ():
            unknown = [modality for modality in pair if modality not in modalities]
            if unknown:
                raise ConfigError(f"pairs: the model reads no '{unknown[0]}'; it reads {', '.join(modalities)}")
            if len(set(pair)) == 1 or frozenset(pair) in seen:
                what = "is no pair of two modalities" if len(set(pair)) == 1 else "stands here twice"
                raise ConfigError(f"pairs: [{', '.join(pair)}] {what}")
            seen.add(frozenset(pair))

    def speaks(self, present: Mapping[str, Mask], labelled: Mapping[str, Mask]) -> Mask:  # noqa: ARG002 - of every row
        """[N] the samples that have both modalities of a pair."""
        found = np.zeros_like(next(iter(present.values())))
        for first, second in self.pairs_of(tuple(present)):
            if first in present and second in present:
                found |= present[first] & present[second]
        return found

    def pairs_of(self, modalities: Sequence[str]) -> Pairs:
        """The pairs as written, or all of `modalities`."""
        return self.pairs if self.pairs is not None else tuple(combinations(modalities, 2))


class PairSection(PairsSection):
    """The fields of every task that embeds two modalities of the same samples."""

    dim: int = Field(default=128, gt=0, description="Width of the vectors that are compared.")
    hidden: tuple[PositiveInt, ...] = Field(
        default=(), description="Widths of the hidden layers of each modality's projection; none: it is linear."
    )

    @property
    def scalars(self) -> dict[str, Scalar]:
        """What the row learns besides projections."""
        return {}

    def build_module(
        self,
        *,
        modalities: Sequence[str],
        dim: int,
        joint_dim: int,  # noqa: ARG002 - of every row
        input_dims: Mapping[str, int],  # noqa: ARG002
        tokenizer: Tokenizer | None,  # noqa: ARG002
    ) -> PairHead:
        """Errors: ConfigError where the fusion leaves a modality of it without an encoder."""
        self.check(modalities)
        used = dict.fromkeys(modality for pair in self.pairs_of(modalities) for modality in pair)
        return PairHead(modalities=tuple(used), input_dim=dim, dim=self.dim, hidden=self.hidden, scalars=self.scalars)


@dataclass(frozen=True)
class PairRows:
    """One pair of modalities: the b samples of this process against the B of all processes that they are compared with."""

    first: Tensor  # [b, D] of length 1; zeros where the sample lacks the pair
    second: Tensor  # [b, D]
    all_first: Tensor  # [B, D]
    all_second: Tensor  # [B, D]
    own: Tensor  # [b] int64: where each sample stands among all
    negatives: Tensor  # [b, B] bool: who is a negative of whom


Compare = Callable[[PairRows, Mapping[str, Tensor]], Tensor]  # a pair, the module's outputs -> [b] each sample's loss in it


class PairLoss:
    """The mean over pairs of the mean over the samples that have both modalities of what `compare` says of them.

    With N samples spoken for, and N_p of them with pair p out of P pairs with samples, sample i's part is
    l_i = sum over its pairs p of l_ip N / (P N_p), so that their sum over N is that mean. N, N_p and P are those of all
    processes. Reported is the mean of l_ip over the sample's own pairs in which it has a negative; a sample without any
    has no loss to report. `by_chance`: the loss of a predictor that knows nothing, among n samples. `exclude_alike`: samples
    of one group or with one text are no negatives of each other.
    """

    scores: tuple[str, ...] = ()

    def __init__(self, *, pairs: Pairs, compare: Compare, by_chance: Callable[[float], float], exclude_alike: bool) -> None:
        self.pairs = pairs
        self._compare, self._by_chance, self._exclude_alike = compare, by_chance, exclude_alike
        self._modalities = tuple(dict.fromkeys(modality for pair in pairs for modality in pair))

    def __call__(
        self, outputs: Mapping[str, Tensor], batch: Batch, *, spoken: Tensor, companions: Companions
    ) -> PretextTerms:
        """See PretextLoss."""
        modalities = self._modalities
        embeddings = {name: outputs[f"embedding/{name}"] for name in modalities}
        gathered = companions.gather(torch.cat(list(embeddings.values()), dim=1)).chunk(len(modalities), dim=1)
        everyone = dict(zip(modalities, gathered, strict=True))
        marks = [spoken, *(outputs[f"present/{name}"] & spoken for name in modalities), batch.group, batch.text_key]
        all_spoken, *all_marks = companions.gather(torch.stack([mark.long() for mark in marks], dim=1)).unbind(dim=1)
        present = dict(zip(modalities, [mark.bool() for mark in all_marks[:-2]], strict=True))
        own = companions.start + torch.arange(len(spoken), device=spoken.device)
        apart = torch.ones(len(spoken), len(all_spoken), dtype=torch.bool, device=spoken.device).scatter(
            1, own[:, None], False
        )
        if self._exclude_alike:
            for keys in all_marks[-2:]:
                apart &= keys[own][:, None] != keys
        values, counts, compared = [], [], []
        for first, second in self.pairs:
            both = present[first] & present[second]  # [B]
            rows = PairRows(
                embeddings[first], embeddings[second], everyone[first], everyone[second], own, negatives=apart & both
            )
            values.append(self._compare(rows, outputs).masked_fill(~both[own], 0))
            counts.append(both.sum())
            compared.append(both[own] & rows.negatives.any(dim=1))
        return join_pairs(torch.stack(values), torch.stack(compared), torch.stack(counts), all_spoken.sum())

    def score(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002 - of every loss
        """Nothing: retrieval tells what the embeddings are worth."""
        return {}

    def embeddings(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> [b, D]; NaN where the sample lacks it."""
        return {
            name: outputs[f"embedding/{name}"].masked_fill(~outputs[f"present/{name}"][:, None], float("nan"))
            for name in self._modalities
        }

    def chance(self, present: Mapping[str, Mask], *, companions: int) -> float:
        """The mean over pairs with samples, each among its share of the companions; at least two of them."""
        none = np.zeros_like(next(iter(present.values())))
        shares = [float((present.get(first, none) & present.get(second, none)).mean()) for first, second in self.pairs]
        return float(np.mean([self._by_chance(max(share * companions, 2.0)) for share in shares if share]))


def join_pairs(values: Tensor, compared: Tensor, counts: Tensor, num_spoken: Tensor) -> PretextTerms:
    """Losses [P, b], whose mean anything [P, b], N_p [P] and N of all processes -> PairLoss's terms of a sample, [b]."""
    weight = num_spoken.to(values.dtype) / ((counts > 0).sum() * counts).clamp(min=1)  # [P]
    training = (values * weight[:, None]).sum(dim=0)
    reported = values.detach().masked_fill(~compared, 0).sum(dim=0) / compared.sum(dim=0).clamp(min=1)
    return PretextTerms(training, reported, compared.any(dim=0))
