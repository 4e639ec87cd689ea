"""What a fusion and a whole model give back."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Fused:
    """One vector a sample, and what each modality contributed."""

    joint: Tensor  # [B, J]
    per_modality: dict[str, Tensor]  # [B, d] each; zeros where the sample lacks the modality
    aux: dict[str, Tensor] = field(default_factory=dict)  # the fusion's own batch terms, one number each


@dataclass(frozen=True)
class Outputs:
    """What the objectives read. Logits have passed no softmax or sigmoid."""

    logits: dict[str, Tensor]  # [B] for binary and regression tasks, [B, C] for multiclass and multilabel
    joint: Tensor  # [B, J]
    per_modality: dict[str, Tensor]  # [B, d] each
    aux: dict[str, Tensor] = field(default_factory=dict)
    pretext: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # task -> what its module gives its loss
