"""Samples to a Batch: right-padded with zeros to the longest of the batch, masks boolean."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.data.cached_texts import CachedTexts
from mmtrain.data.dataset import Sample
from mmtrain.data.schema import SECOND_TEXT, TEXT, FrameShape, TaskSchema
from mmtrain.data.tokenize import Tokenizer


class Collator:
    """Makes batches for one model and its tasks.

    `dims`: width D of each feature modality; `frames`: shape (3, H, W) of each modality of pixels, which stay uint8;
    `tokenizer`: None where the model reads no text, CachedTexts where it is given what an encoder made of them;
    `reads_pairs`: whether it reads the second text of each sample too; `pretext`: names of the pretext tasks, whose targets
    are zeros.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        tasks: Mapping[str, TaskSchema],
        tokenizer: Tokenizer | CachedTexts | None,
        frames: Mapping[str, FrameShape] | None = None,
        reads_pairs: bool = False,
        pretext: Sequence[str] = (),
    ) -> None:
        self.dims, self.frames, self.tasks = dict(dims), dict(frames or {}), dict(tasks)
        self.tokenizer = tokenizer
        self.reads_pairs, self.pretext = reads_pairs, tuple(pretext)

    @property
    def features(self) -> tuple[str, ...]:
        """Every modality that is no text."""
        return (*self.dims, *self.frames)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Every task that a batch tells of."""
        return (*self.tasks, *self.pretext)

    def __call__(self, samples: Sequence[Sample], streams: Sequence[int]) -> Batch:
        """Collate B samples; `streams` gives each one's stream number."""
        inputs = {}
        if self.tokenizer is not None:
            inputs[TEXT] = _tokens(self.tokenizer, [sample.text for sample in samples])
            if self.reads_pairs:
                inputs[SECOND_TEXT] = _tokens(self.tokenizer, [sample.second_text for sample in samples])
        shapes: dict[str, tuple[int, ...]] = {**{modality: (dim,) for modality, dim in self.dims.items()}, **self.frames}
        for modality, shape in shapes.items():
            kind: np.dtype[np.number] = np.dtype(np.uint8 if modality in self.frames else np.float32)
            blank = np.empty((0, *shape), kind)
            rows = [sample.features.get(modality, blank) for sample in samples]
            inputs[modality] = pad_rows(rows, shape, kind, 0)
        targets, labelled = {}, {}
        for name, task in self.tasks.items():
            blank_label = np.zeros((task.num_outputs,) if task.kind == "multilabel" else ())
            values = np.stack([sample.labels.get(name, blank_label) for sample in samples])
            dtype = torch.int64 if task.kind == "multiclass" else torch.float32
            targets[name] = torch.from_numpy(values).to(dtype)
            labelled[name] = torch.tensor([name in sample.labels for sample in samples])
        for name in self.pretext:
            targets[name] = torch.zeros(len(samples))
            labelled[name] = torch.tensor([name in sample.pretext for sample in samples])
        return Batch(
            ids=tuple(sample.id for sample in samples),
            stream=torch.tensor(streams, dtype=torch.int64),
            index=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
            inputs=inputs,
            targets=targets,
            labelled=labelled,
            group=torch.tensor([sample.group for sample in samples], dtype=torch.int64),
            text_key=torch.tensor([sample.text_key for sample in samples], dtype=torch.int64),
        )


def _tokens(tokenizer: Tokenizer | CachedTexts, texts: Sequence[str]) -> MaskedSequence:
    rows = [np.asarray(found, tokenizer.dtype) for found in tokenizer(texts)]
    return pad_rows(rows, tokenizer.row_shape, tokenizer.dtype, tokenizer.pad_id)


def pad_rows(
    sequences: Sequence[npt.NDArray[np.generic]], shape: tuple[int, ...], dtype: np.dtype[np.generic], fill: int
) -> MaskedSequence:
    """Sequences [t, ...] on the left of [B, T, ...], of the longest's T, or 1 where all are empty."""
    lengths = [len(sequence) for sequence in sequences]
    longest = max(*lengths, 1)  # a modality that all samples lack still has one (masked) row
    values = np.zeros((len(sequences), longest, *shape), dtype)
    if fill:
        values.fill(fill)
    for target, length, sequence in zip(values, lengths, sequences, strict=True):
        target[:length] = sequence
    mask = np.arange(longest) < np.array(lengths)[:, None]
    return MaskedSequence(torch.from_numpy(values), torch.from_numpy(mask))
