"""A run's model made smaller or faster, held against what it was on the validation split, and written as a package."""

import copy
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmtrain.data.batch import Keys, MaskedSequence
from mmtrain.data.dataset import Sample
from mmtrain.errors import ConfigError
from mmtrain.evaluation.evaluate import evaluate
from mmtrain.evaluation.predictions import Predictions, TaskPredictions
from mmtrain.evaluation.split_metrics import split_metrics
from mmtrain.inference.compression import method_named
from mmtrain.inference.compression.protocol import Method
from mmtrain.inference.compression.record import Comparison, Compression, Pace
from mmtrain.inference.compression.table import comparison_table, pace_note
from mmtrain.inference.load import WEIGHTS, autocast_of, identity_of, load
from mmtrain.inference.pack import check_folder, write_package
from mmtrain.inference.trained_model import TrainedModel
from mmtrain.models.outputs import Outputs
from mmtrain.objectives.objective import Objective
from mmtrain.trained import Trained, load_trained
from mmtrain.training import join_processes

ROUNDS = 7  # in which both take turns
SAMPLES = 128  # of a round, at most
EXACT = 1e-3  # of logits, whatever their size; on logits near 1 a fold rounds by less than 1e-5


def compress_run(
    run: Path,
    out: Path,
    *,
    method: str,
    split: str = "val",
    checkpoint: str = "best",
    weights: str = "trained",
    overwrite: bool = False,
) -> Compression:
    """Write the package OUT, whole or not at all, and print what it gains and loses.

    Errors: ConfigError for a method that there is not, or that does not fit the model; UserError of loading a run.
    """
    row = method_named(method)
    row.check()
    check_folder(out, overwrite=overwrite)
    if (run / WEIGHTS).is_file():
        raise ConfigError(f"{run} is a package, and what it lost is measured over a run's stores; write the run folder")
    if join_processes().num_processes > 1:
        raise ConfigError("compress: speed is measured by one process; start it without a launcher")
    trained = load_trained(run, split=split, checkpoint=checkpoint, weights=weights)
    before = load(run, checkpoint=checkpoint, weights=weights, device=trained.accelerator.device)
    after = compressed(before, row)
    assert after.compression is not None
    comparison = _compare(before, after, trained)
    check_exact(row, comparison)
    after.compression = after.compression.model_copy(update={"compared": comparison})
    write_package(after, out, overwrite=overwrite)
    if trained.console is not None:
        trained.console.print(comparison_table(row.name, comparison).rich())
        for note in (*after.compression.notes, pace_note(comparison.pace)):
            trained.console.print(note, markup=False, highlight=False, soft_wrap=True)
    return after.compression


def compressed(model: TrainedModel, method: Method) -> TrainedModel:
    """A copy with other weights. Errors: ConfigError where it is compressed already, or the method does not fit it."""
    if model.compression is not None:
        raise ConfigError(f"{model.source} is compressed already ({model.compression.method})")
    own = copy.deepcopy(model.model)
    applied = method.apply(own)
    found = TrainedModel(
        model=own,
        experiment=model.experiment,
        signature=model.signature,
        collate=model.collate,
        decisions=model.decisions,
        source=model.source,
        identity="",
        measured=model.measured,
        autocast=model.autocast if method.precision is None else autocast_of(method.precision, model.device),
        compression=Compression(method=method.name, layers=applied.layers, notes=applied.notes),
    )
    found.identity = identity_of(found.stored())
    return found


def check_exact(method: Method, comparison: Comparison) -> None:
    """Errors: ConfigError where a method that promises the same answers in float32 gives others."""
    difference = comparison.largest_difference
    if method.is_exact and comparison.products_after == "float32" and difference > EXACT:
        raise ConfigError(
            f"{method.name}: a logit differs by {difference:.2g} from the model's own, which is more than rounding: a "
            "module uses a layer of another in a way that this method does not see; nothing was written"
        )


def _compare(before: TrainedModel, after: TrainedModel, trained: Trained) -> Comparison:
    predictions = [_predictions(model, trained) for model in (before, after)]
    metrics = [
        {name: value if math.isfinite(value) else None for name, value in split_metrics(trained.split, found).items()}
        for found in predictions
    ]
    share = -(-SAMPLES // len(trained.streams))
    samples = [sample for stream in trained.streams for sample in stream.samples(np.arange(min(len(stream), share)))]
    return Comparison(
        split=trained.split,
        bytes_before=_bytes(before),
        bytes_after=_bytes(after),
        products_before=before.products,
        products_after=after.products,
        pace=pace(before, after, samples, batch_size=trained.experiment.batch.evaluation),
        metrics_before=metrics[0],
        metrics_after=metrics[1],
        largest_difference=_largest_difference(*predictions),
    )


class _Answering(nn.Module):
    """A loaded model as an evaluation calls it."""

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, inputs: Mapping[str, MaskedSequence], _labelled: Mapping[str, Tensor], _keys: Keys | None) -> Outputs:
        return self.trained.answer(inputs)


def _predictions(model: TrainedModel, trained: Trained) -> list[Predictions]:
    """Of tasks with labels."""
    objective = trained.parts.objective
    return evaluate(
        _Answering(model).eval(),  # so that it is left in this mode
        trained.streams,
        objective=Objective(losses=objective.losses, conventions=objective.conventions),
        collate=trained.parts.collate,
        accelerator=trained.accelerator,
        batch_size=trained.experiment.batch.evaluation,
    )


def _largest_difference(before: Sequence[Predictions], after: Sequence[Predictions]) -> float:
    found = [
        float(np.abs(one.logits - other.logits).max(initial=0.0))
        for one, other in zip(before, after, strict=True)
        if isinstance(one, TaskPredictions) and isinstance(other, TaskPredictions)
    ]
    return max(found, default=0.0)


def _bytes(model: TrainedModel) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.stored().values())


def pace(before: TrainedModel, after: TrainedModel, samples: Sequence[Sample], *, batch_size: int) -> Pace:
    """Seconds of the clock for the same samples, from what a store holds to logits; the first of a pair takes turns."""
    for model in (before, after):
        model.logits(samples[:batch_size], batch_size=batch_size)  # what is made once
    rates: dict[int, list[float]] = {0: [], 1: []}
    for number in range(ROUNDS):
        for side in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            (before, after)[side].logits(samples, batch_size=batch_size)
            rates[side].append(len(samples) / (time.perf_counter() - started))
    ratios = [new / old for old, new in zip(*rates.values(), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Pace(
        device=before.device.type,
        threads=torch.get_num_threads(),
        batch_size=batch_size,
        samples=len(samples),
        rounds=ROUNDS,
        before=statistics.median(rates[0]),
        after=statistics.median(rates[1]),
        ratio=middle,
        low=low,
        high=high,
    )
