"""What a pretext task is made of: which samples it speaks for, a module in the model, and a loss of what that gives."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from mmtrain.data.batch import Batch, Keys, Mask, MaskedSequence
from mmtrain.data.schema import TaskSchema
from mmtrain.data.tokenize import Tokenizer

Pairs = tuple[tuple[str, str], ...]  # of modalities


class FusedView(Protocol):
    """What the model's fusion gives."""

    @property
    def joint(self) -> Tensor:
        """[B, J]."""

    @property
    def per_modality(self) -> Mapping[str, Tensor]:
        """[B, d] each, as the fusion left them: where it mixes modalities, each may know of the others."""


class Views(Protocol):
    """One forward pass of the model, as a pretext module may look at it."""

    @property
    def inputs(self) -> Mapping[str, MaskedSequence]:
        """Token ids [B, T] and rows [B, T, D], what modality dropout hid being masked."""

    @property
    def encoded(self) -> Mapping[str, MaskedSequence]:
        """Each modality behind its encoder, [B, T, d]."""

    @property
    def fused(self) -> FusedView:
        """The fusion of `encoded`."""

    @property
    def keys(self) -> Keys | None:
        """Of the samples; None where the model is called without."""

    def pooled(self, modality: str) -> Tensor:
        """[B, d]: the mean of the real rows of `encoded`, zeros where there is none. Knows of no other modality."""

    def encode(self, inputs: Mapping[str, MaskedSequence], /) -> Mapping[str, MaskedSequence]:
        """Other inputs through the model's encoders, such as corrupted ones; only the modalities given are run."""

    def fuse(self, encoded: Mapping[str, MaskedSequence], /) -> FusedView:
        """Other rows of every modality through the model's fusion, such as mismatched ones."""


class Companions(Protocol):
    """The samples that are compared: those of one forward pass, on all processes in training."""

    @property
    def start(self) -> int:
        """Where this process's rows begin among all."""

    def gather(self, rows: Tensor) -> Tensor:
        """[b, ...] of this process -> [B, ...] of all, the processes' rows one after the other; differentiable.

        The gradient that arrives is the sum over processes. Every process calls it equally often, in the same order.
        """


class Alone:
    """The samples of one forward pass of one process: in evaluation, and where there is one process."""

    start = 0

    def gather(self, rows: Tensor) -> Tensor:
        return rows


class PretextTerms(NamedTuple):
    """Values of the samples of this process, at least float32; what a sample that is not spoken for gets is not read."""

    training: Tensor  # [b] in the graph; its sum over the samples spoken for, by their number, is what is minimized
    reported: Tensor  # [b] each sample's own loss: what logs, curriculum and predictions see
    defined: Tensor  # [b] bool: False where nothing could be compared, so that what is reported means nothing


class PretextLoss(Protocol):
    """The loss of one pretext task, without parameters or state: those are its module's."""

    @property
    def pairs(self) -> Pairs:
        """Between which modalities validation retrieves; none for a task without embeddings."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of what `score` gives."""

    def __call__(
        self, outputs: Mapping[str, Tensor], batch: Batch, *, spoken: Tensor, companions: Companions
    ) -> PretextTerms:
        """`outputs`: what the module gave for this batch; `spoken` [b] bool: the samples that the task speaks for.

        Gradients must reach every output on every process, also where no sample of it counts.
        """

    def score(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Numbers [b] of each sample whose mean over a split is a metric of that name; NaN where a sample has none."""

    def embeddings(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> [b, D] of length 1, NaN throughout where the sample lacks it: what retrieval compares."""

    def chance(self, present: Mapping[str, Mask], *, companions: int) -> float:
        """Mean reported loss of a predictor that knows nothing, among that many samples of which as large a part has each
        modality as of `present` [N], the samples spoken for.
        """


class PretextRow(Protocol):
    """The config of a pretext task, as the table's rows have it."""

    @property
    def name(self) -> str:
        """Of the row."""

    @property
    def needed_tasks(self) -> tuple[str, ...]:
        """Tasks of the stores that a stream with this one lists too."""

    @property
    def compares(self) -> bool:
        """Whether a sample's loss is among the other samples of its forward pass; alone, it then has none."""

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where a model that reads `modalities` cannot do it; the words begin with the key."""

    def speaks(self, present: Mapping[str, Mask], labelled: Mapping[str, Mask]) -> Mask:
        """Of N samples those that belong to the task, [N], by the modalities and the labels that each has."""

    def build_module(
        self,
        *,
        modalities: Sequence[str],
        dim: int,
        joint_dim: int,
        input_dims: Mapping[str, int],
        tokenizer: Tokenizer | None,
    ) -> nn.Module:
        """For a model with encoders of `modalities`. `dim`: d of their rows; `joint_dim`: J; `input_dims`: D of each feature
        modality. Errors: ConfigError.

        It stands among the model's heads and makes named tensors of (views, spoken) in every forward pass, whichever task is
        active; `spoken` [B] bool: the samples that the task speaks for, None: all. Every parameter reaches an output.
        """

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> PretextLoss:
        """`tasks`: those of the stores, with their kinds. Errors: ConfigError."""
