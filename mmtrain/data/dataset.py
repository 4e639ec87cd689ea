"""A stream: one split of one store seen through one or several of its tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import TEXT, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError


@dataclass(frozen=True)
class Sample:
    """One clip, as read from its store."""

    id: str
    index: int
    text: str
    features: Mapping[str, npt.NDArray[np.floating]]  # modality -> [T, D]; left out where missing
    labels: Mapping[str, npt.NDArray[np.float64]]  # task -> scalar or [C]; left out where missing


class Stream:
    """The samples of a split that carry a label of at least one of `tasks`, addressed by position 0 .. len - 1.

    Errors: DataError where the store lacks a task, the split is empty, or a label is out of range.
    """

    def __init__(
        self, name: str, store: FeatureStore, *, split: str, tasks: Sequence[str], modalities: Sequence[str]
    ) -> None:
        self.name, self.store, self.split = name, store, split
        self.tasks: dict[str, TaskSchema] = {task: store.task(task) for task in tasks}
        self.modalities = tuple(modality for modality in modalities if modality in store.schema.modalities)
        self._has_text = TEXT in modalities
        self._labels = {task: store.labels(task) for task in tasks}
        members = store.split(split)
        any_label = np.zeros(len(store), bool)
        for _, labelled in self._labels.values():
            any_label |= labelled
        self.indices: npt.NDArray[np.int64] = members[any_label[members]]
        if not len(self.indices):
            raise DataError(
                f"stream '{name}': split '{split}' of store '{store.name}' ({store.path}) has no sample with a label for "
                f"{', '.join(tasks)} ({len(members)} samples in the split"
                + (f", without {len(store.left_out)} bad ones of the store)" if store.left_out else ")")
            )

    def __len__(self) -> int:
        return len(self.indices)

    def labels(self, task: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Labels of this stream's samples by position, [N] or [N, C], and where there is one, [N]."""
        values, labelled = self._labels[task]
        return values[self.indices], labelled[self.indices]

    def store_labels(self, task: str) -> npt.NDArray[np.float64]:
        """Labels of the whole store by sample index, [N] or [N, C]."""
        return self._labels[task][0]

    def lengths(self) -> npt.NDArray[np.int64]:
        """A measure of each sample's cost by position, [N]: characters of text, or the longest modality's rows."""
        if self._has_text:
            return self.store.text_lengths[self.indices]
        parts = [self.store.lengths(modality)[self.indices] for modality in self.modalities]
        return np.max(parts, axis=0) if parts else np.zeros(len(self), np.int64)

    def sample(self, position: int) -> Sample:
        """Read one sample. Errors: DataError naming sample and modality where a row holds NaN or Inf."""
        index = int(self.indices[position])
        features = {}
        for modality in self.modalities:
            rows = self.store.rows(modality, index)
            if len(rows) and not np.isfinite(rows).all():
                raise DataError(
                    f"store '{self.store.name}', sample '{self.store.sample_id(index)}': NaN or Inf in {modality}. "
                    f"Run `mmtrain data check {self.store.path}`, or leave such samples out with batch.on_bad_sample: skip"
                )
            if len(rows):
                features[modality] = rows
        labels = {task: values[index] for task, (values, labelled) in self._labels.items() if labelled[index]}
        text = self.store.text(index) if self._has_text else ""
        return Sample(self.store.sample_id(index), index, text, features, labels)
