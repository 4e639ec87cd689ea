"""The objective of a stage: every task's per-sample losses, masked, and the penalties that stand beside them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmtrain.data.batch import Batch
from mmtrain.errors import CheckpointError
from mmtrain.objectives.losses.task_loss import TaskLoss
from mmtrain.objectives.pretext.protocol import Alone, Companions, PretextLoss
from mmtrain.objectives.regularizers.penalty import NamedParameters, Penalty
from mmtrain.objectives.regularizers.r_drop import symmetric_kl


class Predicted(Protocol):
    """What the model gives of a batch."""

    @property
    def logits(self) -> Mapping[str, Tensor]:
        """[B] or [B, C] by task with labels."""

    @property
    def pretext(self) -> Mapping[str, Mapping[str, Tensor]]:
        """What the module of each pretext task gives."""

    @property
    def joint(self) -> Tensor:
        """[B, J]."""


@dataclass(frozen=True)
class LossTerms:
    """Per task and sample; 0 where the sample has no label of the task, or a pretext task does not speak for it."""

    training: dict[str, Tensor]  # [B] in the graph, float32
    reported: dict[str, Tensor]  # [B] detached, float32
    defined: dict[str, Tensor]  # [B] bool: False where the 0 that is reported is no loss


class Objective:
    """Turns outputs into per-sample losses. Nothing here reduces over the batch: that is the engine's one division.

    `losses`: by task with labels; `pretext`: by pretext task; `regularizers`: penalties on weights by the name they are
    reported under; `r_drop`: strength of the consistency between two passes, None for one pass. `conventions`: by task, what
    its predictions are measured by besides; for evaluations alone.
    """

    def __init__(
        self,
        *,
        losses: Mapping[str, TaskLoss],
        pretext: Mapping[str, PretextLoss] | None = None,
        regularizers: Mapping[str, Penalty] | None = None,
        r_drop: float | None = None,
        conventions: Mapping[str, str] | None = None,
    ) -> None:
        self.losses, self.pretext, self.conventions = dict(losses), dict(pretext or {}), dict(conventions or {})
        self.regularizers, self.r_drop = dict(regularizers or {}), r_drop

    @property
    def task_names(self) -> tuple[str, ...]:
        """Tasks with labels, then pretext tasks."""
        return (*self.losses, *self.pretext)

    @property
    def num_views(self) -> int:
        """How often the model reads each sample in a step: with 2, the engine trains on `two_views(batch)`."""
        return 1 if self.r_drop is None else 2

    def __call__(
        self,
        outputs: Predicted,
        batch: Batch,
        *,
        active: Collection[str] | None = None,
        companions: Companions | None = None,
    ) -> LossTerms:
        """Losses of the batch that the model read (the doubled one, where there are two views).

        Rows without a label give exactly 0 and no gradient, whatever their logits are, NaN included. Every head's outputs
        enter the graph even where no row is labelled, so that all processes reduce the same gradients.
        `active`: the tasks that are trained, None = all; of the others the training loss is 0 throughout in the same way.
        `companions`: the samples that pretext tasks compare these with; None: each other.
        """
        training, reported, defined = {}, {}, dict(batch.labelled)
        for task, loss in self.losses.items():
            labelled, logits = batch.labelled[task], outputs.logits[task]
            learned = labelled if active is None or task in active else torch.zeros_like(labelled)
            training[task] = _mask(loss.training(_mask(logits, learned), batch.targets[task]), learned)
            with torch.no_grad():
                reported[task] = _mask(loss.reported(_mask(logits.detach(), labelled), batch.targets[task]), labelled)
        for task, pretext_loss in self.pretext.items():
            spoken, found = batch.labelled[task], outputs.pretext[task]
            terms = pretext_loss(found, batch, spoken=spoken, companions=companions or Alone())
            is_active = active is None or task in active
            value = _mask(terms.training, spoken) if is_active else _silence(*found.values()).expand(len(spoken))
            # without a head on it, what makes the joint vectors would be in no process's graph
            training[task] = value if self.losses else value + _silence(outputs.joint)
            reported[task], defined[task] = _mask(terms.reported.detach(), spoken), spoken & terms.defined
        return LossTerms(training=training, reported=reported, defined={task: defined[task] for task in training})

    def consistency(self, logits: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Strength times the symmetric KL between both views of each labelled sample, by task, [B] for 2B logits.

        `batch` is the doubled batch (`two_views`): rows i and B + i are one sample. Empty without R-Drop.
        """
        if self.r_drop is None:
            return {}
        terms = {}
        for task, loss in self.losses.items():
            labelled = batch.labelled[task]
            if len(logits[task]) != len(labelled) or len(labelled) % 2:
                raise ValueError(f"R-Drop needs 2B rows of '{task}', got {len(logits[task])} logits of {len(labelled)} rows")
            first, second = _mask(logits[task], labelled).chunk(2)
            terms[task] = self.r_drop * _mask(symmetric_kl(loss.kind, first, second), labelled.chunk(2)[0])
        return terms

    def penalties(self, named_parameters: NamedParameters) -> dict[str, Tensor]:
        """Each penalty on the weights as a differentiable scalar, its strength included; never part of `LossTerms`."""
        parameters = list(named_parameters)
        return {name: penalty(parameters) for name, penalty in self.regularizers.items()}

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint must keep, by regularizer."""
        return {name: penalty.state_dict() for name, penalty in self.regularizers.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Errors: CheckpointError where the checkpoint belongs to other regularizers or another model."""
        if set(state) != set(self.regularizers):
            raise CheckpointError(
                f"the checkpoint has regularizers {sorted(state)}, the config has {sorted(self.regularizers)}"
            )
        for name, penalty in self.regularizers.items():
            penalty.load_state_dict(state[name])


def _mask(values: Tensor, labelled: Tensor) -> Tensor:
    missing = ~labelled if values.ndim == 1 else ~labelled.unsqueeze(1)
    return values.masked_fill(missing, 0.0)


def _silence(*tensors: Tensor) -> Tensor:
    """0, with gradients of zeros for everything floating in `tensors`, whatever it holds."""
    parts = [
        values.masked_fill(torch.ones_like(values, dtype=torch.bool), 0.0).sum()
        for values in tensors
        if values.is_floating_point()
    ]
    return torch.stack(parts).sum()
