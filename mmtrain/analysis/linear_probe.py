"""`mmtrain evaluate RUN --probe`: what a linear classifier reads in the fused vectors of a run's model."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mmtrain.analysis.output import write_analysis
from mmtrain.data.dataset import Stream
from mmtrain.engine.progress import ProgressBar
from mmtrain.errors import ConfigError, DataError
from mmtrain.evaluation.counting import class_moments
from mmtrain.evaluation.probe import Rows, fitted_classes
from mmtrain.evaluation.standards import FEW_GROUPS
from mmtrain.evaluation.statistics import grouped_bootstrap
from mmtrain.evaluation.table import TextTable, digits
from mmtrain.trained import Trained, load_trained

_NOTE = (
    "Logistic regression on the fused vectors of the model, which stays as it is: learned from train, for every task of the "
    "stores with one class a sample, also those that the run did not learn. Majority: the most frequent class of train. The "
    "interval is a bootstrap over groups."
)


@dataclass(frozen=True, kw_only=True)
class Probed:
    """Accuracy over the labelled samples of a stream, with its 95 % interval, and the training majority's."""

    task: str
    stream: str
    accuracy: float
    low: float
    high: float
    majority: float
    num_train: int
    num_samples: int
    num_groups: int


def probe_run(folder: Path, *, split: str, checkpoint: str = "best", weights: str = "trained") -> list[Probed]:
    """Write evaluation/<split>-probe.{json,md}.

    Tasks that have one class only in train, or no label in the split, are left out. Errors: those of `load_trained`;
    ConfigError for the split train; DataError where no stream has a binary or multiclass task in its store.
    """
    if split == "train":
        raise ConfigError("--probe: it learns from train, and is scored on another split; write --split val or --split test")
    trained = load_trained(folder, split=split, checkpoint=checkpoint, weights=weights)
    pairs = list(_pairs(trained.streams, split))
    if not pairs:
        raise DataError(f"--probe: no store of {folder} has a binary or multiclass task with labels in train and {split}")
    found: list[Probed] = []
    total = sum(len(stream) for pair in pairs for stream in pair)
    with ProgressBar(trained.console, f"{split}, probe", total=total) as bar:
        done = 0
        for pair in pairs:
            vectors = []
            for stream in pair:
                vectors.append(fused_vectors(trained, stream))
                done += len(stream)
                bar.count(done, total)
            found += _probed(pair, vectors, seed=trained.experiment.seed)
    if trained.console is not None:
        values = {"split": split, "weights": weights, "checkpoint": trained.checkpoint, "step": trained.step}
        values |= {"rows": [asdict(row) for row in found]}
        few = [f"few: an interval over fewer than {FEW_GROUPS} groups"] if any(map(_is_few, found)) else []
        name, notes = f"{trained.name}-probe", [_NOTE, *few]
        write_analysis(folder, name, values, tables=[_table(found)], notes=notes, console=trained.console)
    return found


def _pairs(streams: Sequence[Stream], split: str) -> Iterator[tuple[Stream, Stream]]:
    """For each store and what is read of it: the samples of train and of the split with a label that a probe reads."""
    seen = set()
    for stream in streams:
        store, read, parts = stream.store, (*stream.texts, *stream.modalities), ("train", split)
        of_classes = [task for task, schema in store.schema.tasks.items() if schema.kind in ("binary", "multiclass")]
        tasks = [task for task in of_classes if all(store.labels(task)[1][store.split(part)].any() for part in parts)]
        if tasks and (store.path, read) not in seen:
            seen.add((store.path, read))
            train, scored = (Stream(stream.name, store, split=part, tasks=tasks, modalities=read) for part in parts)
            yield train, scored


@torch.inference_mode()
def fused_vectors(trained: Trained, stream: Stream) -> Rows:
    """The joint vectors [N, J] of a stream's samples, by position, in eval mode."""
    model, collate, device = trained.model.eval(), trained.parts.collate, trained.accelerator.device
    order = np.argsort(-stream.lengths(), kind="stable")
    parts = []
    for chosen in np.array_split(order, max(-(-len(order) // trained.experiment.batch.evaluation), 1)):
        batch = collate(stream.samples(chosen), [0] * len(chosen)).to(device)
        parts.append(model(batch.inputs).joint.double().cpu().numpy())
    vectors: Rows = np.concatenate(parts)[np.argsort(order, kind="stable")]
    return vectors


def _probed(pair: Sequence[Stream], vectors: Sequence[Rows], *, seed: int) -> Iterator[Probed]:
    train, scored = pair
    groups = np.array(scored.store.column("group").take(scored.indices).to_pylist(), np.str_)
    for task, schema in scored.tasks.items():
        (known, is_known), (truth, is_labelled) = train.labels(task), scored.labels(task)
        labels: npt.NDArray[np.int64] = known[is_known].astype(np.int64)
        actual: npt.NDArray[np.int64] = truth[is_labelled].astype(np.int64)
        if len(np.unique(labels)) < 2 or not len(actual):
            continue
        called = fitted_classes(vectors[0][is_known], labels, vectors[1][is_labelled])
        moments = class_moments("accuracy", actual, called, max(schema.num_outputs, 2))
        interval = grouped_bootstrap(moments, groups[is_labelled], seed=seed)
        yield Probed(
            task=task,
            stream=scored.name,
            accuracy=float(np.mean(called == actual)),
            low=interval.low,
            high=interval.high,
            majority=float(np.mean(actual == np.bincount(labels).argmax())),
            num_train=len(labels),
            num_samples=len(actual),
            num_groups=interval.num_groups,
        )


def _is_few(row: Probed) -> bool:
    return row.num_groups < FEW_GROUPS


def _table(rows: Sequence[Probed]) -> TextTable:
    header = ("task", "stream", "accuracy", "95 % interval", "majority", "trained on", "samples", "groups")
    drawn = tuple(
        (
            row.task,
            row.stream,
            digits(row.accuracy),
            f"[{digits(row.low)}, {digits(row.high)}]",
            digits(row.majority),
            str(row.num_train),
            str(row.num_samples),
            f"few: {row.num_groups}" if _is_few(row) else str(row.num_groups),
        )
        for row in rows
    )
    return TextTable("Linear probe of the fused vectors", header, drawn, 2)
