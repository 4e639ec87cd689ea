"""What a curriculum asks of an earlier run's files, turned into the numbers that it is built from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmtrain.config import Experiment
from mmtrain.curriculum.reports import round_significant
from mmtrain.curriculum.samplers.doremi import DoremiConfig
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError, DataError
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.predictions import Predictions, with_losses

_WHERE = "curriculum.sampler.reference"


def with_references(experiment: Experiment, streams: Sequence[StreamSpec]) -> Experiment:
    """The experiment with the numbers of its reference run in the run's place; itself where it names none.

    A checkpoint belongs to these numbers: they decide, not where they came from.
    Errors: ConfigError or DataError where the run, its predictions, or a loss of a task of `streams` is not there.
    """
    sampler = experiment.curriculum.sampler
    if not isinstance(sampler, DoremiConfig) or sampler.reference is None:
        return experiment
    file = _predictions_of(Path(sampler.reference), sampler.reference_epoch, own=experiment.folder)
    losses = _mean_losses(read_predictions(file), streams, file)
    curriculum = experiment.curriculum.model_copy(update={"sampler": sampler.with_losses(losses)})
    return experiment.model_copy(update={"curriculum": curriculum})


def reference_note(experiment: Experiment, resolved: Experiment) -> str:
    """What was read, in words that can stand in the config instead."""
    before, now = experiment.curriculum.sampler, resolved.curriculum.sampler
    assert isinstance(before, DoremiConfig)
    assert isinstance(now, DoremiConfig)
    assert now.reference_losses is not None
    streams = (f"{name}: {_flow(tasks)}" for name, tasks in now.reference_losses.items())
    return f"{_WHERE}: {before.reference} gives reference_losses: {{{', '.join(streams)}}}"


def _flow(tasks: Mapping[str, float]) -> str:
    return f"{{{', '.join(f'{task}: {loss}' for task, loss in tasks.items())}}}"


def _predictions_of(path: Path, epoch: int | None, *, own: Path) -> Path:
    """The predictions of all training samples after an epoch of the run at `path`; None = the newest there are."""
    run = RunFolder(path)
    if path.resolve() == own.resolve():
        raise ConfigError(f"{_WHERE}: {path} is this run itself; name an earlier one")
    if not run.is_run():
        raise ConfigError(
            f"{_WHERE}: {path} is not a run folder (no config.yaml with an environment.json); train that run first, with "
            "training.train_predictions: true, or write reference_losses"
        )
    known = run.epochs_predicted()
    if not known:
        raise ConfigError(
            f"{_WHERE}: {path} has no predictions/train-epoch-*.parquet; train it with training.train_predictions: true, or "
            "write reference_losses"
        )
    if epoch is not None and epoch not in known:
        raise ConfigError(
            f"{_WHERE}_epoch: {path} has no {run.train_predictions(epoch).name}; it has those of epoch "
            f"{', '.join(map(str, known))}"
        )
    return run.train_predictions(known[-1] if epoch is None else epoch)


def _mean_losses(
    predictions: Mapping[str, Predictions], streams: Sequence[StreamSpec], file: Path
) -> dict[str, dict[str, float]]:
    """Stream -> task -> mean loss, to six digits as in a window's report, of the streams and tasks that are trained now."""
    losses: dict[str, dict[str, float]] = {}
    for stream in streams:
        losses[stream.name] = {}
        for task in stream.tasks:
            item = with_losses(predictions[task]) if task in predictions else None
            found = item.losses[item.streams == stream.name] if item is not None else np.empty(0)
            if not len(found):
                known = sorted({f"{name}/{key}" for key, other in predictions.items() for name in np.unique(other.streams)})
                raise DataError(
                    f"{_WHERE}: {file} has no sample of stream '{stream.name}' with task '{task}'; it has "
                    f"{', '.join(known)}. Name a run that was trained on them, or write reference_losses"
                )
            mean = float(found.mean(dtype=np.float64))
            if not np.isfinite(mean):
                raise DataError(f"{_WHERE}: {file}: the mean loss of task '{task}' in stream '{stream.name}' is {mean}")
            losses[stream.name][task] = round_significant(mean)
    return losses
