"""A model over whole splits: every sample once, whatever the number of processes, its logits and loss kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from mmtrain.data.batch import Batch
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.objectives.losses.task_loss import TaskLoss
from mmtrain.objectives.objective import Objective

Arrays = dict[str, npt.NDArray[Any]]


def sample_values(batch: Batch, logits: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The columns kept of one batch: stream, index, and for each task its logits, plain loss and whether it counts."""
    columns = {"stream": batch.stream, "index": batch.index}
    for task, loss in losses.items():
        columns[f"{task}/loss"] = loss.detach()
        columns[f"{task}/logits"] = logits[task].detach().float()
        columns[f"{task}/labelled"] = batch.labelled[task]
    return columns


def to_arrays(parts: Sequence[Mapping[str, Tensor]]) -> Arrays:
    """Batches joined along the samples, one transfer from the device a column."""
    return {key: torch.cat([part[key] for part in parts]).cpu().numpy() for key in parts[0]} if parts else {}


def evaluate(
    model: nn.Module,
    streams: Sequence[Stream],
    *,
    objective: Objective,
    collate: Collator,
    accelerator: Accelerator,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[TaskPredictions]:
    """Predictions of every sample of `streams`, in their order, equal on every process.

    `batch_size`: samples of one forward pass; `progress(done, total)` counts this process's batches.
    """
    positions = {number: np.arange(len(stream)) for number, stream in enumerate(streams)}
    arrays = evaluate_samples(
        model,
        streams,
        positions,
        objective=objective,
        collate=collate,
        accelerator=accelerator,
        batch_size=batch_size,
        progress=progress,
    )
    return task_predictions(arrays, streams, objective.losses)


@torch.inference_mode()
def evaluate_samples(
    model: nn.Module,
    streams: Sequence[Stream],
    positions: Mapping[int, npt.NDArray[np.int64]],
    *,
    objective: Objective,
    collate: Collator,
    accelerator: Accelerator,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Arrays:
    """What `sample_values` keeps of the samples at `positions` (stream number -> [n]), by stream, then by position."""
    batches = _batches(streams, positions, batch_size)[accelerator.process_index :: accelerator.num_processes]
    was_training = model.training
    model.eval()
    parts = []
    for done, (number, chosen) in enumerate(batches, start=1):
        batch = collate([streams[number].sample(int(position)) for position in chosen], [number] * len(chosen))
        batch = batch.to(accelerator.device)
        outputs = model(batch.inputs, batch.labelled)
        parts.append(sample_values(batch, outputs.logits, objective(outputs.logits, batch).reported))
        if progress is not None:
            progress(done, len(batches))
    model.train(was_training)
    mine = to_arrays(parts)
    gathered = gather_object([mine]) if accelerator.num_processes > 1 else [mine]
    whole = [part for part in gathered if part]
    arrays = {key: np.concatenate([part[key] for part in whole]) for key in whole[0]}
    in_order = np.lexsort((arrays["index"], arrays["stream"]))
    return {key: column[in_order] for key, column in arrays.items()}


def task_predictions(arrays: Arrays, streams: Sequence[Stream], losses: Mapping[str, TaskLoss]) -> list[TaskPredictions]:
    """Per-sample arrays as predictions by task, with ids, groups and labels from the stores."""
    return [_one_task(task, loss, arrays, streams) for task, loss in losses.items() if arrays[f"{task}/labelled"].any()]


def _one_task(task: str, loss: TaskLoss, arrays: Arrays, streams: Sequence[Stream]) -> TaskPredictions:
    rows = arrays[f"{task}/labelled"]
    numbers, indices = arrays["stream"][rows], arrays["index"][rows]
    logits = arrays[f"{task}/logits"][rows]
    ids = np.empty(len(indices), object)
    groups = np.empty(len(indices), object)
    labels: npt.NDArray[np.float64] | None = None
    for number in np.unique(numbers):
        store = streams[number].store
        chosen = numbers == number
        ids[chosen] = store.column("id").take(indices[chosen]).to_pylist()
        groups[chosen] = store.column("group").take(indices[chosen]).to_pylist()
        values = streams[number].store_labels(task)[indices[chosen]]
        labels = np.zeros((len(indices), *values.shape[1:])) if labels is None else labels
        labels[chosen] = values
    assert labels is not None
    schema = next(stream.tasks[task] for stream in streams if task in stream.tasks)
    return TaskPredictions(
        task=task,
        kind=schema.kind,
        classes=schema.classes,
        ids=ids.astype(np.str_),
        streams=np.array([stream.name for stream in streams], np.str_)[numbers],
        groups=groups.astype(np.str_),
        labels=labels,
        logits=logits,
        probabilities=loss.prediction(torch.from_numpy(logits)).numpy(),
        losses=arrays[f"{task}/loss"][rows],
    )


def _batches(
    streams: Sequence[Stream], positions: Mapping[int, npt.NDArray[np.int64]], batch_size: int
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """(stream, positions) of every forward pass: like lengths together, longest first, each sample once."""
    batches = []
    for number, chosen in positions.items():
        by_length = chosen[np.argsort(-streams[number].lengths()[chosen], kind="stable")]
        borders = range(batch_size, len(by_length), batch_size)
        batches += [(number, part) for part in np.split(by_length, list(borders))]
    return batches
