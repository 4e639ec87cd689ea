"""Supervised contrast: the joint vectors of one class together, apart from those of the others."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from mmtrain.data.batch import Batch, Mask
from mmtrain.data.schema import TaskSchema
from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError
from mmtrain.objectives.pretext.pairs import join_pairs
from mmtrain.objectives.pretext.projection import projection, unit
from mmtrain.objectives.pretext.protocol import Companions, Pairs, PretextTerms, Views
from mmtrain.section import Section


class SupervisedContrastiveConfig(Section):
    """Each sample's projected joint vector finds those of its own class among all of the batch, at a fixed temperature.

    Khosla et al. 2020, "Supervised Contrastive Learning", equation 2 (the sum outside the logarithm). It speaks for the
    samples that carry a label of `task`; one that is alone in its class has no loss.
    """

    name: Literal["supervised_contrastive"] = "supervised_contrastive"
    task: str = Field(min_length=1, description="The binary or multiclass task whose classes belong together.")
    dim: int = Field(default=128, gt=0, description="Width of the vectors that are compared.")
    hidden: tuple[PositiveInt, ...] = Field(
        default=(), description="Widths of the hidden layers of the joint vector's projection; none: it is linear."
    )
    temperature: float = Field(default=0.1, ge=0.01, le=10, description="It stays.")

    @property
    def needed_tasks(self) -> tuple[str, ...]:
        """The one whose labels it reads."""
        return (self.task,)

    @property
    def compares(self) -> bool:
        """Its classes are those of the pass."""
        return True

    def check(self, modalities: Sequence[str]) -> None:
        """Any will do."""

    def speaks(self, present: Mapping[str, Mask], labelled: Mapping[str, Mask]) -> Mask:  # noqa: ARG002 - of every row
        """[N] the samples with a label of the task."""
        return labelled[self.task]

    def build_module(
        self,
        *,
        modalities: Sequence[str],  # noqa: ARG002 - of every row
        dim: int,  # noqa: ARG002
        joint_dim: int,
        input_dims: Mapping[str, int],  # noqa: ARG002
        tokenizer: Tokenizer | None,  # noqa: ARG002
    ) -> "JointHead":
        return JointHead(input_dim=joint_dim, dim=self.dim, hidden=self.hidden)

    def build_loss(
        self,
        *,
        modalities: Sequence[str],  # noqa: ARG002
        tasks: Mapping[str, TaskSchema],
    ) -> "SupervisedContrastive":
        """Errors: ConfigError where the task has no classes of which a sample is one."""
        kind = tasks[self.task].kind if self.task in tasks else "pretext"
        if kind not in ("binary", "multiclass"):
            raise ConfigError(f"task: '{self.task}' is a {kind} task; name a binary or a multiclass one")
        return SupervisedContrastive(task=self.task, temperature=self.temperature)


class JointHead(nn.Module):
    """Views to `embedding` [B, dim]: the joint vector, projected and put to length 1."""

    def __init__(self, *, input_dim: int, dim: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.projection = projection(input_dim, hidden, dim)

    def forward(self, views: Views, spoken: Tensor | None = None) -> dict[str, Tensor]:  # noqa: ARG002 - of every row
        return {"embedding": unit(self.projection(views.fused.joint))}


class SupervisedContrastive:
    """The mean over the samples with a companion of their class; `task`: whose classes."""

    pairs: Pairs = ()
    scores: tuple[str, ...] = ()

    def __init__(self, *, task: str, temperature: float) -> None:
        self._task, self._temperature = task, temperature

    def __call__(
        self, outputs: Mapping[str, Tensor], batch: Batch, *, spoken: Tensor, companions: Companions
    ) -> PretextTerms:
        """See PretextLoss."""
        own_vectors = outputs["embedding"].masked_fill(~spoken[:, None], 0)
        vectors = companions.gather(own_vectors)  # [B, D]
        marks = torch.stack([spoken.long(), batch.targets[self._task].long()], dim=1)
        all_spoken, classes = companions.gather(marks).unbind(dim=1)
        counted = all_spoken.bool()
        own = companions.start + torch.arange(len(spoken), device=spoken.device)
        others = counted & ~torch.eye(len(counted), dtype=torch.bool, device=spoken.device)  # [B, B]
        alike = others & counted[:, None] & (classes[:, None] == classes)
        logits = (own_vectors @ vectors.T / self._temperature).masked_fill(~others[own], torch.finfo(vectors.dtype).min)
        log_shares = torch.log_softmax(logits, dim=1).masked_fill(~alike[own], 0)  # [b, B]
        has_match = alike.any(dim=1)
        values = (-log_shares.sum(dim=1) / alike[own].sum(dim=1).clamp(min=1)).masked_fill(~has_match[own], 0)
        return join_pairs(values[None], has_match[own][None], has_match.sum()[None], all_spoken.sum())

    def score(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002 - of every loss
        """Nothing: what the classes are worth, the task itself tells."""
        return {}

    def embeddings(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """None of a modality's own."""
        return {}

    def chance(self, present: Mapping[str, Mask], *, companions: int) -> float:  # noqa: ARG002
        """All others alike."""
        return math.log(max(companions - 1, 1))
