"""Predictions of one split: what every sample's every task came out as."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import TaskKind
from mmtrain.errors import DataError

Floats = npt.NDArray[np.floating]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class TaskPredictions:
    """One task over the N labelled samples of a split, each sample once.

    `logits` and `probabilities` are [N] (binary, regression) or [N, C] (multiclass, multilabel); `labels` are [N], class
    numbers for multiclass, or [N, C] for multilabel. For regression `probabilities` holds values in original units.
    `losses` are the reported ones, [N]. `convention`: a row of CONVENTIONS that a regression is measured by too.
    `temperature` and `threshold` are those that validation chose (`calibration.calibrated`): they leave logits and
    probabilities as they are. Errors: ValueError where the shapes do not fit.
    """

    task: str
    kind: TaskKind
    classes: tuple[str, ...]
    ids: Strings  # [N]
    streams: Strings  # [N] names
    groups: Strings  # [N]
    labels: npt.NDArray[np.float64]
    logits: Floats
    probabilities: Floats
    losses: Floats  # [N]
    convention: str | None = None
    temperature: float | None = None  # None: not calibrated, which is as good as 1
    threshold: float = 0.5  # of the calibrated probability; what is above it is called positive

    def __post_init__(self) -> None:
        for name in ("ids", "streams", "groups"):  # object arrays neither sort nor compare reliably
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.str_))
        outputs = (len(self.ids), len(self.classes)) if self.kind in ("multiclass", "multilabel") else (len(self.ids),)
        labels = outputs if self.kind == "multilabel" else outputs[:1]
        expected = {"streams": outputs[:1], "groups": outputs[:1], "losses": outputs[:1], "labels": labels}
        expected |= {"logits": outputs, "probabilities": outputs}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"predictions of '{self.task}': {name} are {getattr(self, name).shape}, not {shape}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sources(self) -> npt.NDArray[np.int64]:
        """[N], see `number_sources`."""
        return number_sources(self.streams, self.groups)

    def subset(self, index: npt.NDArray[Any]) -> "TaskPredictions":
        """The samples at `index` (numbers, repeats allowed, or booleans)."""
        columns = ("ids", "streams", "groups", "labels", "logits", "probabilities", "losses")
        return replace(self, **{name: getattr(self, name)[index] for name in columns})

    @property
    def cut(self) -> float:
        """The threshold as a probability before calibration; of 0.5 it is 0.5, whatever the temperature."""
        odds = self.threshold / (1 - self.threshold)
        return 0.5 if odds == 1 else float(1 / (1 + odds ** -(self.temperature or 1.0)))

    @property
    def is_called(self) -> npt.NDArray[np.bool_]:
        """[N] or [N, C] of a binary or multilabel task: whose probability is above the threshold."""
        called: npt.NDArray[np.bool_] = np.asarray(self.probabilities, np.float64) > self.cut
        return called

    def refuse_nonfinite(self) -> None:
        """Errors: DataError naming the first sample whose prediction is NaN or Inf; argmax would call it class 0."""
        finite = np.isfinite(self.logits) & np.isfinite(self.probabilities)
        bad = np.flatnonzero(~(finite if finite.ndim == 1 else finite.all(axis=1)))
        if len(bad):
            raise DataError(
                f"task '{self.task}', sample '{self.ids[bad[0]]}' of stream '{self.streams[bad[0]]}': the prediction is "
                f"NaN or Inf ({len(bad)} of {len(self)} samples); it cannot be scored"
            )


def no_predictions(
    kind: TaskKind, *, classes: tuple[str, ...] = ("a", "b"), convention: str | None = None
) -> TaskPredictions:
    """Predictions of no sample, which have every metric of a kind, each NaN."""
    classes = classes if kind in ("multiclass", "multilabel") else ()
    outputs, blank = (0, len(classes)) if classes else (0,), np.zeros(0, np.str_)
    return TaskPredictions(
        task="none",
        kind=kind,
        classes=classes,
        ids=blank,
        streams=blank,
        groups=blank,
        labels=np.zeros(outputs if kind == "multilabel" else 0),
        logits=np.zeros(outputs),
        probabilities=np.zeros(outputs),
        losses=np.zeros(0),
        convention=convention,
    )


@dataclass(frozen=True, kw_only=True)
class PretextPredictions:
    """One pretext task over the N samples of a split that it speaks for, each sample once.

    `losses`: NaN where a sample could not be compared, as one that is alone in its class; see `with_losses`.
    `ranks`, `candidates`: of retrieval, by direction, [N] with NaN where a sample has no such pair; empty where it was not
    asked for. `scores`: the task's own numbers a sample, [N], by name. `distances`, `potentials`: of embeddings, by pair and
    by modality, as `geometry` makes them; empty like ranks.
    """

    task: str
    ids: Strings  # [N]
    streams: Strings  # [N] names
    groups: Strings  # [N]
    losses: Floats  # [N]
    ranks: Mapping[str, Floats] = field(default_factory=dict)
    candidates: Mapping[str, Floats] = field(default_factory=dict)
    scores: Mapping[str, Floats] = field(default_factory=dict)
    distances: Mapping[str, Floats] = field(default_factory=dict)
    potentials: Mapping[str, Floats] = field(default_factory=dict)
    kind: Literal["pretext"] = "pretext"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("ids", "streams", "groups"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.str_))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sources(self) -> npt.NDArray[np.int64]:
        """[N], see `number_sources`."""
        return number_sources(self.streams, self.groups)

    def subset(self, index: npt.NDArray[Any]) -> "PretextPredictions":
        """The samples at `index`; their ranks stay those among all."""

        def taken(values: Mapping[str, Floats]) -> dict[str, Floats]:
            return {name: column[index] for name, column in values.items()}

        return PretextPredictions(
            task=self.task,
            ids=self.ids[index],
            streams=self.streams[index],
            groups=self.groups[index],
            losses=self.losses[index],
            ranks=taken(self.ranks),
            candidates=taken(self.candidates),
            scores=taken(self.scores),
            distances=taken(self.distances),
            potentials=taken(self.potentials),
        )


Predictions = TaskPredictions | PretextPredictions


def with_losses(item: Predictions) -> Predictions:
    """Without the samples of a pretext task that have no loss."""
    return item if isinstance(item, TaskPredictions) else item.subset(~np.isnan(item.losses))


def joined(one: Predictions, other: Predictions) -> Predictions:
    """The samples of one run and behind them those of another, by each one's own threshold.

    Of a binary or multilabel task, where logits rank and probabilities decide, the probabilities become the decisions.
    """
    names = ["ids", "streams", "groups", "losses"]
    if isinstance(one, TaskPredictions) and isinstance(other, TaskPredictions):
        names += ["labels", "logits", "probabilities"]
        if one.kind in ("binary", "multilabel"):
            one, other = (
                replace(item, probabilities=item.is_called.astype(np.float64), threshold=0.5) for item in (one, other)
            )
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return replace(one, **columns)


def number_sources(streams: Strings, groups: Strings) -> npt.NDArray[np.int64]:
    """[N] a number for each group, told apart by stream: streams of one task read different stores, and a group's name is
    its store's own.
    """
    first, second = (np.unique(names, return_inverse=True)[1] for names in (streams, groups))
    return first.astype(np.int64) * len(streams) + second
