"""A stream: one split of one store seen through one or several of its tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmtrain.data.batch import Mask
from mmtrain.data.columns import integers, pieces
from mmtrain.data.keys import group_key, text_key
from mmtrain.data.ragged import Ragged
from mmtrain.data.schema import SECOND_TEXT, TEXT, TEXTS, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError

# (which samples have each modality, which carry a label of each task) -> those that a pretext task speaks for, [N] each
Speaks = Callable[[Mapping[str, Mask], Mapping[str, Mask]], Mask]


@dataclass(frozen=True)
class Sample:
    """One clip, as read from its store."""

    id: str
    index: int
    text: str
    features: Mapping[str, npt.NDArray[np.number]]  # modality -> [T, D] or pixels [T, 3, H, W]; left out where missing
    labels: Mapping[str, npt.NDArray[np.float64]]  # task -> scalar or [C]; left out where missing
    pretext: frozenset[str] = frozenset()  # the pretext tasks that speak for it
    group: int = 0  # see Keys; where no pretext task reads them, 0
    text_key: int = 0
    second_text: str = ""


class Stream:
    """The samples of a split that carry a label of at least one of `tasks`, or that one of `pretext` speaks for.

    They are addressed by position 0 .. len - 1. What pretext tasks speak for is known without reading a feature.
    Errors: DataError where the store lacks a task, the split is empty, or a label is out of range.
    """

    def __init__(
        self,
        name: str,
        store: FeatureStore,
        *,
        split: str,
        tasks: Sequence[str],
        modalities: Sequence[str],
        pretext: Mapping[str, Speaks] | None = None,
    ) -> None:
        self.name, self.store, self.split = name, store, split
        self.tasks: dict[str, TaskSchema] = {task: store.task(task) for task in tasks}
        self.modalities = tuple(modality for modality in modalities if modality in store.schema.modalities)
        self.texts = tuple(column for column in TEXTS if column in modalities and store.has_column(column))
        self._labels = {task: store.labels(task) for task in tasks}
        labelled = {task: mask for task, (_, mask) in self._labels.items()}
        present = self._present() if pretext else {}
        self._spoken = {task: speaks(present, labelled) for task, speaks in (pretext or {}).items()}
        members = store.split(split)
        belongs = np.zeros(len(store), bool)
        for mask in (*labelled.values(), *self._spoken.values()):
            belongs |= mask
        self.indices: npt.NDArray[np.int64] = members[belongs[members]]
        if not len(self.indices):
            wanted = [f"a label for {', '.join(tasks)}"] if tasks else []
            wanted += [f"the modalities that {', '.join(self._spoken)} needs"] if pretext else []
            raise DataError(
                f"stream '{name}': split '{split}' of store '{store.name}' ({store.path}) has no sample with "
                f"{' or '.join(wanted)} ({len(members)} samples in the split"
                + (f", without {len(store.left_out)} bad ones of the store)" if store.left_out else ")")
            )

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def pretext(self) -> tuple[str, ...]:
        """The pretext tasks that are learned from it."""
        return tuple(self._spoken)

    @property
    def task_names(self) -> tuple[str, ...]:
        """All that is learned from it."""
        return (*self.tasks, *self._spoken)

    def labelled(self, task: str) -> Mask:
        """[N] the samples with a label of a task, or those that a pretext task speaks for, by position."""
        return (self._spoken[task] if task in self._spoken else self._labels[task][1])[self.indices]

    def present(self) -> dict[str, Mask]:
        """Which samples have each modality that is read, [N] each, by position; a blank text is none."""
        return {modality: mask[self.indices] for modality, mask in self._present().items()}

    def has(self, modality: str) -> bool:
        """Whether any of its samples has the modality, which it reads."""
        if modality in self.texts:
            return bool(self._written(modality)[self.indices].any())
        return modality in self.modalities and bool(self.store.lengths_of(modality, self.indices).any())

    def _present(self) -> dict[str, Mask]:
        """[N] each, of the whole store."""
        found = {modality: self.store.lengths(modality) > 0 for modality in self.modalities}
        return {column: self._written(column) for column in self.texts} | found

    def _written(self, column: str) -> Mask:
        texts = pieces(self.store.column(column).cast(pa.string()))  # one by one: trimming copies
        return np.concatenate([integers(pc.utf8_length(pc.utf8_trim_whitespace(piece))) > 0 for piece in texts])

    def labels(self, task: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Labels of this stream's samples by position, [N] or [N, C], and where there is one, [N]."""
        values, labelled = self._labels[task]
        return values[self.indices], labelled[self.indices]

    def store_labels(self, task: str) -> npt.NDArray[np.float64]:
        """Labels of the whole store by sample index, [N] or [N, C]."""
        return self._labels[task][0]

    def lengths(self) -> npt.NDArray[np.int64]:
        """A measure of each sample's cost by position, [N]: characters of its texts, or the longest modality's rows."""
        if self.texts:
            written = [self.store.characters(column)[self.indices] for column in self.texts]
            total: npt.NDArray[np.int64] = np.sum(written, axis=0, dtype=np.int64)
            return total
        parts = [self.store.lengths(modality)[self.indices] for modality in self.modalities]
        return np.max(parts, axis=0) if parts else np.zeros(len(self), np.int64)

    def rows(self, modality: str, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of samples [n] in a modality, [n]; 0 where it is missing, or this stream does not read it."""
        if modality not in self.modalities:
            return np.zeros(len(positions), np.int64)
        return self.store.lengths_of(modality, self.indices[positions])

    def sample(self, position: int) -> Sample:
        """Read one sample. Errors: as of `samples`."""
        return self.samples([position])[0]

    def samples(self, positions: Sequence[int] | npt.NDArray[np.integer]) -> list[Sample]:
        """Read several, faster than one after the other.

        Errors: DataError naming sample and modality where a row holds NaN or Inf.
        """
        indices = self.indices[np.asarray(positions, np.int64)]
        read = self.store.read(self.modalities, indices)
        for modality, rows in read.items():
            self._check_finite(modality, rows, indices)
        features = {modality: rows.split() for modality, rows in read.items()}
        return [
            self._sample(index, {modality: rows[place] for modality, rows in features.items() if len(rows[place])})
            for place, index in enumerate(indices.tolist())
        ]

    def without_rows(self, positions: npt.NDArray[np.integer]) -> list[Sample]:
        """The same samples without any feature; no file of rows is read."""
        return [self._sample(index, {}) for index in self.indices[positions].tolist()]

    def _check_finite(self, modality: str, rows: Ragged, indices: npt.NDArray[np.int64]) -> None:
        if rows.values.dtype == np.uint8 or np.isfinite(rows.values).all():
            return
        bad = next(index for index, own in zip(indices.tolist(), rows.split(), strict=True) if not np.isfinite(own).all())
        raise DataError(
            f"store '{self.store.name}', sample '{self.store.sample_id(bad)}': NaN or Inf in {modality}. "
            f"Run `mmtrain data check {self.store.path}`, or leave such samples out with batch.on_bad_sample: skip"
        )

    def _sample(self, index: int, features: Mapping[str, npt.NDArray[np.number]]) -> Sample:
        labels = {task: values[index] for task, (values, labelled) in self._labels.items() if labelled[index]}
        name = self.store.sample_id(index)
        written = self.store.text(index) if TEXT in self.texts or self._spoken else ""
        return Sample(
            id=name,
            index=index,
            text=written if TEXT in self.texts else "",
            features=features,
            labels=labels,
            pretext=frozenset(task for task, spoken in self._spoken.items() if spoken[index]),
            group=group_key(self.store.name, name, self.store.group(index)) if self._spoken else 0,
            text_key=text_key(self.store.name, name, written) if self._spoken else 0,
            second_text=self.store.text(index, SECOND_TEXT) if SECOND_TEXT in self.texts else "",
        )
