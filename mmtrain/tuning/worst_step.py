"""The optimizer step that needs the most memory: micro-batches of a data set's longest samples."""

from collections.abc import Sequence, Sized
from itertools import cycle, islice

import numpy as np

from mmtrain.data.batch import Batch
from mmtrain.data.cached_texts import CachedTexts
from mmtrain.data.dataset import Stream
from mmtrain.data.tokenize import Tokenizer
from mmtrain.engine.loading import StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step

_TOKENIZED = 64  # texts of a stream, the longest in characters, whose tokens are counted
Place = tuple[int, int]  # number of the stream, position in it


def longest_samples(
    streams: Sequence[Stream], tokenizer: Tokenizer | CachedTexts | None, count: int
) -> dict[str, list[Place]]:
    """For each modality that is read, its `count` longest samples over all streams, the longest first."""
    lengths: dict[str, list[tuple[int, Place]]] = {}
    for number, stream in enumerate(streams):
        for modality in stream.modalities:
            rows = stream.store.lengths(modality)[stream.indices]
            for position in np.argsort(-rows, kind="stable")[:count].tolist():
                lengths.setdefault(modality, []).append((int(rows[position]), (number, position)))
        for column in stream.texts:
            assert tokenizer is not None, "a stream of texts is read with a tokenizer"
            characters = stream.store.characters(column)[stream.indices]
            candidates = np.argsort(-characters, kind="stable")[: max(count, _TOKENIZED)].tolist()
            tokens: Sequence[Sized] = tokenizer(
                [stream.store.text(int(stream.indices[position]), column) for position in candidates]
            )
            for position, ids in zip(candidates, tokens, strict=True):
                lengths.setdefault(column, []).append((len(ids), (number, position)))
    return {
        modality: [place for _, place in sorted(found, key=lambda item: -item[0])[:count]]
        for modality, found in lengths.items()
    }


def worst_batches(run: Run, size: int) -> list[Batch]:
    """Two micro-batches or more, each of `size` samples and each begun by another modality's longest; some stand twice.

    From as many samples on as there are modalities, every batch is as wide in all of them as a batch can be.
    """
    longest = list(longest_samples(run.train_streams, run.loader.collate.tokenizer, size).values())
    batches = []
    for number in range(max(len(longest), 2)):
        turned = longest[number % len(longest) :] + longest[: number % len(longest)]
        in_turn = [places[rank] for rank in range(size) for places in turned if rank < len(places)]
        places = list(islice(cycle(dict.fromkeys(in_turn)), size))
        samples = [run.train_streams[stream].sample(position) for stream, position in places]
        batches.append(run.loader.collate(samples, [stream for stream, _ in places]))
    return batches


def train_worst(run: Run, size: int) -> None:
    """Two optimizer steps on them: the second meets the optimizer's state, its later micro-batches the gradients."""
    batches = worst_batches(run, size)
    counts = {task: sum(int(batch.labelled[task].sum()) for batch in batches) for task in run.loader.collate.task_names}
    run.curriculum.next_window(0, 1)
    run.model.train()
    for _ in range(2):
        train_step(run, StepInput(0, batches, counts))
