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
from mmtrain.data.dataset import Sample, Stream
from mmtrain.evaluation.geometry import pair_distances, potentials
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, Strings, TaskPredictions
from mmtrain.evaluation.retrieval import retrieval_ranks
from mmtrain.objectives.losses.task_loss import TaskLoss
from mmtrain.objectives.objective import LossTerms, Objective, Predicted
from mmtrain.objectives.pretext.protocol import PretextLoss
from mmtrain.sharded import is_sharded, put_back_parts

Arrays = dict[str, npt.NDArray[Any]]
Index = npt.NDArray[np.int64]
Alter = Callable[[Sample, Stream], Sample]  # what a sample of a stream goes through on its way from the store to a batch


def sample_values(batch: Batch, logits: Mapping[str, Tensor], terms: LossTerms) -> dict[str, Tensor]:
    """The columns kept of one batch: stream, index, and for each task its plain loss, whether it counts, and any logits.

    Of more rows than the batch has, as R-Drop's two views, the first are kept.
    """
    columns = {"stream": batch.stream, "index": batch.index}
    for task, loss in terms.reported.items():
        columns[f"{task}/loss"] = loss[: len(batch)].detach()
        columns[f"{task}/labelled"] = terms.defined[task][: len(batch)]
        if task in logits:
            columns[f"{task}/logits"] = logits[task][: len(batch)].detach().float()
    return columns


def pretext_values(batch: Batch, outputs: Predicted, objective: Objective) -> dict[str, Tensor]:
    """What an evaluation keeps of a batch besides: of each pretext task its scores and embeddings, and the texts' keys."""
    columns = {"text_key": batch.text_key} if objective.pretext else {}
    for task, loss in objective.pretext.items():
        columns[f"{task}/spoken"] = batch.labelled[task]
        found = loss.score(outputs.pretext[task], batch)
        columns |= {f"{task}/score/{name}": found[name].detach().float() for name in loss.scores}
        embeddings = loss.embeddings(outputs.pretext[task])
        columns |= {f"{task}/embedding/{name}": values.detach().float() for name, values in embeddings.items()}
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
    retrieves: bool = True,
    alter: Alter | None = None,
) -> list[Predictions]:
    """Predictions of every sample of `streams`, in their order, equal on every process.

    `batch_size`: samples of one forward pass, which pretext tasks compare with each other; `progress(done, total)` counts
    this process's batches; `retrieves`: rank every sample's match among all, which takes time by the square of their number;
    `alter`: evaluate samples other than those of the stores.
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
        embeds=retrieves,
        alter=alter,
    )
    return task_predictions(arrays, streams, objective)


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
    embeds: bool = False,
    alter: Alter | None = None,
) -> Arrays:
    """What `sample_values` keeps of the samples at `positions` (stream number -> [n]), by stream, then by position.

    `embeds`: keep `pretext_values` too.
    """
    every = _batches(streams, positions, batch_size)
    batches = every[accelerator.process_index :: accelerator.num_processes]
    in_parts = is_sharded(model)

    def values(number: int, chosen: Index) -> dict[str, Tensor]:
        samples = streams[number].samples(chosen)
        if alter is not None:
            samples = [alter(sample, streams[number]) for sample in samples]
        batch = collate(samples, [number] * len(chosen))
        batch = batch.to(accelerator.device)
        outputs = model(batch.inputs, batch.labelled, batch.keys)
        kept = sample_values(batch, outputs.logits, objective(outputs, batch))
        return kept | (pretext_values(batch, outputs, objective) if embeds else {})

    was_training = model.training
    model.eval()
    parts = []
    with torch.no_grad() if in_parts else torch.inference_mode():  # the gathered weights are trained on later
        for done, (number, chosen) in enumerate(batches, start=1):
            parts.append(values(number, chosen))
            if progress is not None:
                progress(done, len(batches))
        if in_parts and len(batches) * accelerator.num_processes < len(every):
            values(*every[0])  # for the others, which gather their weights from this process too
    put_back_parts(model)
    model.train(was_training)
    mine = to_arrays(parts)
    gathered = gather_object([mine]) if accelerator.num_processes > 1 else [mine]
    whole = [part for part in gathered if part]
    arrays = {key: np.concatenate([part[key] for part in whole]) for key in whole[0]}
    in_order = np.lexsort((arrays["index"], arrays["stream"]))
    return {key: column[in_order] for key, column in arrays.items()}


def task_predictions(arrays: Arrays, streams: Sequence[Stream], objective: Objective) -> list[Predictions]:
    """Per-sample arrays as predictions by task, with ids, groups and labels from the stores."""
    found: list[Predictions] = [
        _one_task(task, loss, arrays, streams, objective.conventions.get(task))
        for task, loss in objective.losses.items()
        if arrays[f"{task}/labelled"].any()
    ]
    for task, pretext_loss in objective.pretext.items():
        if _listed(task, arrays).any():
            found.append(_one_pretext_task(task, pretext_loss, arrays, streams))
    return found


def _listed(task: str, arrays: Arrays) -> npt.NDArray[np.bool_]:
    """[n]: the samples with a loss; where embeddings are kept, all that the task speaks for, since they can be ranked."""
    return arrays.get(f"{task}/spoken", arrays[f"{task}/labelled"])


def _one_pretext_task(task: str, loss: PretextLoss, arrays: Arrays, streams: Sequence[Stream]) -> PretextPredictions:
    rows = _listed(task, arrays)
    numbers = arrays["stream"][rows]
    ids, groups = _names(numbers, arrays["index"][rows], streams)
    own = {key.removeprefix(f"{task}/"): column[rows] for key, column in arrays.items() if key.startswith(f"{task}/")}
    embeddings = {key.removeprefix("embedding/"): column for key, column in own.items() if key.startswith("embedding/")}
    ranks, candidates = retrieval_ranks(embeddings, arrays["text_key"][rows], loss.pairs) if embeddings else ({}, {})
    return PretextPredictions(
        task=task,
        ids=ids,
        streams=np.array([stream.name for stream in streams], np.str_)[numbers],
        groups=groups,
        # one that is no number counts as infinite, so that it is not taken for one that is not there
        losses=np.where(own["labelled"], np.nan_to_num(own["loss"], nan=np.inf, posinf=np.inf, neginf=-np.inf), np.nan),
        ranks=ranks,
        candidates=candidates,
        scores={name: own[f"score/{name}"] for name in loss.scores if f"score/{name}" in own},
        distances=pair_distances(embeddings, loss.pairs) if embeddings else {},
        potentials=potentials(embeddings),
    )


def _names(numbers: Index, indices: Index, streams: Sequence[Stream]) -> tuple[Strings, Strings]:
    """Ids and groups [N] of samples by the number of their stream and their index in its store."""
    ids, groups = np.empty(len(indices), object), np.empty(len(indices), object)
    for number in np.unique(numbers):
        store, chosen = streams[number].store, numbers == number
        ids[chosen] = store.column("id").take(indices[chosen]).to_pylist()
        groups[chosen] = store.column("group").take(indices[chosen]).to_pylist()
    return ids.astype(np.str_), groups.astype(np.str_)


def _one_task(
    task: str, loss: TaskLoss, arrays: Arrays, streams: Sequence[Stream], convention: str | None
) -> TaskPredictions:
    rows = arrays[f"{task}/labelled"]
    numbers, indices = arrays["stream"][rows], arrays["index"][rows]
    logits = arrays[f"{task}/logits"][rows]
    ids, groups = _names(numbers, indices, streams)
    labels: npt.NDArray[np.float64] | None = None
    for number in np.unique(numbers):
        chosen = numbers == number
        values = streams[number].store_labels(task)[indices[chosen]]
        labels = np.zeros((len(indices), *values.shape[1:])) if labels is None else labels
        labels[chosen] = values
    assert labels is not None
    schema = next(stream.tasks[task] for stream in streams if task in stream.tasks)
    return TaskPredictions(
        task=task,
        kind=schema.kind,
        classes=schema.classes,
        ids=ids,
        streams=np.array([stream.name for stream in streams], np.str_)[numbers],
        groups=groups,
        labels=labels,
        logits=logits,
        probabilities=loss.prediction(torch.from_numpy(logits)).numpy(),
        losses=arrays[f"{task}/loss"][rows],
        convention=convention,
    )


def _batches(
    streams: Sequence[Stream], positions: Mapping[int, npt.NDArray[np.int64]], batch_size: int
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """(stream, positions) of every forward pass: like lengths together, longest first, each sample once.

    As few passes as can be, of nearly equal size: a last one of a single sample would have nothing to compare it with.
    """
    batches = []
    for number, chosen in positions.items():
        by_length = chosen[np.argsort(-streams[number].lengths()[chosen], kind="stable")]
        count = max(-(-len(by_length) // batch_size), 1)
        batches += [(number, part) for part in np.array_split(by_length, count)]
    return batches
