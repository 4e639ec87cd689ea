"""Matching: do these two modalities belong to one sample, or has one of them been taken from another?"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.batch import Batch, Keys, Mask, MaskedSequence
from mmtrain.data.schema import TaskSchema
from mmtrain.data.tokenize import Tokenizer
from mmtrain.objectives.pretext.pairs import PairsSection, join_pairs
from mmtrain.objectives.pretext.protocol import Companions, Pairs, PretextTerms, Views


class MatchingConfig(PairsSection):
    """Two-way classification of true against mismatched pairs on the fused vector (image-text matching of ALBEF; Li et al.
    2021, equations 4 and 5; over text-video, video-audio and text-audio in HICCAP; Baharlouei et al. 2024).

    Each sample's second modality of a pair is replaced by that of another sample of the same forward pass, never of one of
    its group or with its text. All other modalities are hidden. In evaluation the choice is the same each time.
    """

    name: Literal["matching"] = "matching"
    similarity: float | None = Field(
        default=None,
        gt=0,
        description="Temperature of the cosines between encoded second modalities by which mismatches are drawn: the lower, "
        "the harder they are. null: all alike.",
    )

    def build_module(
        self,
        *,
        modalities: Sequence[str],
        dim: int,  # noqa: ARG002 - of every row
        joint_dim: int,
        input_dims: Mapping[str, int],  # noqa: ARG002
        tokenizer: Tokenizer | None,  # noqa: ARG002
    ) -> "MatchingHead":
        self.check(modalities)
        return MatchingHead(pairs=self.pairs_of(modalities), joint_dim=joint_dim, similarity=self.similarity)

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> "MatchingLoss":  # noqa: ARG002
        return MatchingLoss(pairs=self.pairs_of(modalities))


class Mismatch(NamedTuple):
    """Which sample each one's second modality is taken from."""

    source: Tensor  # [B] int64
    exists: Tensor  # [B] bool: False where the sample lacks the pair, or no other one will do


class MatchingHead(nn.Module):
    """Views to `logits/<a>-<b>` [B, 2], of the true and of the mismatched pair, and `exists/<a>-<b>` [B] bool.

    A positive logit says: one sample. `joint_dim`: J of the fusion; `similarity`: see MatchingConfig.
    """

    draws = "matching"  # said where several processes train

    def __init__(self, *, pairs: Pairs, joint_dim: int, similarity: float | None) -> None:
        super().__init__()
        self.pairs, self.similarity = pairs, similarity
        self.outputs = nn.ModuleList(nn.Linear(joint_dim, 1) for _ in pairs)

    def forward(self, views: Views, spoken: Tensor | None = None) -> dict[str, Tensor]:
        """`spoken` [B] bool: the samples that the task speaks for; None: all."""
        found = {}
        for (first, second), output in zip(self.pairs, self.outputs, strict=True):
            both = views.encoded[first].present & views.encoded[second].present
            both = both if spoken is None else both & spoken
            mismatch = self.choose(both, views.keys, views.pooled(second))
            joint = views.fuse(_paired(views.encoded, first, second, mismatch.source)).joint  # [2B, J]
            found[f"logits/{first}-{second}"] = torch.stack(output(joint)[:, 0].chunk(2), dim=1)
            found[f"exists/{first}-{second}"] = mismatch.exists
        return found

    @torch.no_grad()
    def choose(self, both: Tensor, keys: Keys | None, vectors: Tensor) -> Mismatch:
        """`both` [B] bool: who has the pair; `vectors` [B, d]: the encoded second modality."""
        allowed = both[:, None] & both & ~torch.eye(len(both), dtype=torch.bool, device=both.device)  # [B, B]
        for key in keys or ():
            allowed &= key[:, None] != key
        exists = allowed.any(dim=1)
        if self.similarity is None:
            scores, weights = _lots(keys, len(both), both.device), allowed.float()
        else:
            rows = F.normalize(vectors.float(), dim=1)
            scores = rows @ rows.T  # in evaluation the most similar one is taken
            weights = (scores / self.similarity).masked_fill(~allowed, -torch.inf).softmax(dim=1)
            # of rows that are not finite any will do, so that the gradient's check finds them, and no draw breaks on them
            weights = torch.where(weights.isfinite().all(dim=1, keepdim=True), weights, allowed.float())
        if not self.training:
            return Mismatch(scores.double().masked_fill(~allowed, -torch.inf).argmax(dim=1), exists)
        return Mismatch(torch.where(exists[:, None], weights, 1.0).multinomial(1)[:, 0], exists)


def _lots(keys: Keys | None, num_samples: int, device: torch.device) -> Tensor:
    """[B, B]: for each sample an order of the others that looks like chance, and is that of these samples in any batch."""
    own = torch.arange(num_samples, device=device) if keys is None else keys.text
    return own[:, None] * 0x5851F42D4C957F2D + own * 0x14057B7EF767814F  # int64 arithmetic wraps around


def _paired(encoded: Mapping[str, MaskedSequence], first: str, second: str, source: Tensor) -> dict[str, MaskedSequence]:
    """2B samples of two modalities, the others hidden: each sample, then each with the second modality of its source."""
    rows = {}
    for name, (values, mask) in encoded.items():
        other = source if name == second else slice(None)
        seen = mask if name in (first, second) else torch.zeros_like(mask)
        rows[name] = MaskedSequence(torch.cat([values, values[other]]), torch.cat([seen, seen[other]]))
    return rows


class MatchingLoss:
    """The mean over pairs of the mean over their samples of half the cross-entropy of either decision, in nats.

    A sample for which no mismatch exists drops out of that pair. Reported is the mean over the sample's own pairs.
    """

    pairs: Pairs = ()  # nothing is embedded
    scores = ("accuracy",)

    def __init__(self, *, pairs: Pairs) -> None:
        self._names = [f"{first}-{second}" for first, second in pairs]

    def __call__(
        self,
        outputs: Mapping[str, Tensor],
        batch: Batch,  # noqa: ARG002 - of every loss
        *,
        spoken: Tensor,
        companions: Companions,
    ) -> PretextTerms:
        """See PretextLoss."""
        exists = torch.stack([outputs[f"exists/{name}"] & spoken for name in self._names])  # [P, b]
        logits = torch.stack([outputs[f"logits/{name}"] for name in self._names])  # [P, b, 2]
        logits = logits.masked_fill(~exists[..., None], 0)
        values = (F.softplus(-logits[..., 0]) + F.softplus(logits[..., 1])) / 2
        counts = companions.gather(torch.cat([exists, spoken[None]]).T.long()).sum(dim=0)  # N_p of each pair, then N
        return join_pairs(values.masked_fill(~exists, 0), exists, counts[:-1], counts[-1])

    def score(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """`accuracy` of both decisions over the sample's pairs; NaN where no mismatch exists."""
        exists = torch.stack([outputs[f"exists/{name}"] for name in self._names])  # [P, b]
        logits = torch.stack([outputs[f"logits/{name}"] for name in self._names])
        right = ((logits[..., 0] > 0).float() + (logits[..., 1] <= 0).float()) / 2
        return {"accuracy": (right * exists).sum(dim=0) / exists.sum(dim=0)}

    def embeddings(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """None."""
        return {}

    def chance(self, present: Mapping[str, Mask], *, companions: int) -> float:  # noqa: ARG002
        """Of an even guess, ln 2."""
        return float(np.log(2))
