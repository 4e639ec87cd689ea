"""`mmtrain tune search`: trials of an experiment with other values for some keys, each an ordinary run, by optuna."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from rich.console import Console

from mmtrain.config import Experiment, load_experiment
from mmtrain.engine.console import main_console
from mmtrain.engine.jsonl import plain, read_jsonl
from mmtrain.engine.run_folder import RunFolder, write_whole
from mmtrain.engine.state import RunState
from mmtrain.errors import ConfigError, Interrupted, UserError
from mmtrain.evaluation.table import TextTable
from mmtrain.training import build_accelerator, train_loaded
from mmtrain.tuning.search_space import Space, overrides_of, read_space
from mmtrain.tuning.study import Candidate, Study, require_optuna

Load = Callable[[Sequence[str]], Experiment]
_FREE = ("runs", "cache", "tracking")  # no trial's result depends on them


def search(file: Path, space_file: Path, overrides: Sequence[str] = (), *, num_trials: int = 20, startup: int = 5) -> None:
    """Train runs/<name>/trial-0001 .. until the study has `num_trials`, and print the best one's overrides.

    The study goes on where it was left, and several processes work on it together. A trial whose metric falls below the
    median of the others' at the same evaluation is stopped, once `startup` are complete. Errors: ConfigError where the
    experiment or the search file is wrong, optuna is missing, or the study was made from others; a trial that is refused
    or does not fit in memory counts as failed.
    """
    require_optuna()
    space = read_space(space_file)

    def load(words: Sequence[str] = ()) -> Experiment:
        return load_experiment(file, [*overrides, *words])

    experiment = load()
    load(overrides_of({key: entry.first for key, entry in space.items()}))  # a key that no experiment has
    accelerator = build_accelerator(experiment, trains=True)
    if PartialState().num_processes > 1:
        raise ConfigError("tune search trains in one process; start the command several times to have trials side by side")
    console = main_console(accelerator)
    assert console is not None
    RunFolder(experiment.folder / "trial-0001").check(resume=True, overwrite=False)  # not inside a run
    study = Study(
        experiment.folder,
        origin=_origin(experiment, space),
        mode=experiment.selection.mode,
        startup=startup,
        seed=experiment.seed,
    )
    while True:
        with study.next(space, num_trials) as candidate:
            if candidate is None:
                break
            _run(study, candidate, load, experiment, console)
        _write(study, experiment)
    _conclude(study, space, experiment, console)


def _run(study: Study, candidate: Candidate, load: Load, base: Experiment, console: Console) -> None:
    words = overrides_of(candidate.values)
    console.print(f"{candidate.name}: {' '.join(words)}", markup=False, highlight=False)
    folder = RunFolder(base.folder / candidate.name)
    pruned: list[bool] = []

    def prunes(_: RunState) -> bool:
        values = [record["metrics"][base.selection.metric] for record in _evaluations(folder)]
        if values[-1] is not None and candidate.prunes(len(values), values[-1]):
            pruned.append(True)
        return bool(pruned)

    def train() -> None:
        trial = Experiment.model_validate(load(words).resolved() | {"name": f"{base.name}/{candidate.name}"})
        train_loaded(trial, build_accelerator(trial, trains=True), resume=candidate.begun, overwrite=False, prunes=prunes)

    if (complaint := _complaint(train)) is not None:
        clear_device_cache(garbage_collection=True)  # of what did not fit, which the next trial needs
        console.print(f"{candidate.name} failed: {complaint}", markup=False, highlight=False)
        study.finish(candidate, None)
        return
    if pruned:
        console.print(f"{candidate.name}: stopped, below the median of the others", markup=False, highlight=False)
    study.finish(candidate, _evaluations(folder)[-1]["selection"]["best"], pruned=bool(pruned))


def _complaint(train: Callable[[], None]) -> str | None:
    """Why a trial failed, by its settings or for want of memory; None where it did not. Any other error passes."""
    try:
        train()
    except Interrupted:
        raise
    except (UserError, RuntimeError) as error:
        if not isinstance(error, UserError) and not should_reduce_batch_size(error):
            raise
        return str(error)
    return None


def _evaluations(folder: RunFolder) -> list[dict[str, Any]]:
    return [record for record in read_jsonl(folder.metrics) if record["kind"] == "evaluation"]


def _origin(experiment: Experiment, space: Space) -> dict[str, Any]:
    config = {key: value for key, value in experiment.resolved().items() if key not in _FREE}
    return {"config": config, "space": {key: entry.model_dump(mode="json") for key, entry in space.items()}}


def _write(study: Study, experiment: Experiment) -> None:
    """search.{md,json}: every trial of the study so far."""
    rows = []
    for trial in study.trials():
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        rows.append((f"trial-{trial.number + 1:04d}", trial.state.name.lower(), value, *map(str, trial.params.values())))
    keys = next((tuple(trial.params) for trial in study.trials()), ())
    table = TextTable(experiment.name, ("trial", "state", experiment.selection.metric, *keys), tuple(rows), 2)
    write_whole(experiment.folder / "search.md", table.markdown())
    values = [
        {"trial": trial.number + 1, "state": trial.state.name.lower(), "value": trial.value, "values": trial.params}
        for trial in study.trials()
    ]
    write_whole(experiment.folder / "search.json", json.dumps(plain(values), indent=1))


def _conclude(study: Study, space: Space, experiment: Experiment, console: Console) -> None:
    best = study.best()
    if best is None:
        console.print("no trial is complete yet: another process is at work on one, or all of them failed", highlight=False)
        return
    name = f"trial-{best.number + 1:04d}"
    console.print(f"best of {len(study.trials())}: {name}, {experiment.selection.metric} {best.value:.4f}", highlight=False)
    fixed = {key: entry.suggest(_Chosen(best.params), key) for key, entry in space.items()}
    console.print(" ".join(map(shlex.quote, overrides_of(fixed))), markup=False, highlight=False, soft_wrap=True)


class _Chosen:
    """A finished trial that answers with the values it had."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def suggest_int(self, key: str, *_: Any, **__: Any) -> Any:
        return self._values[key]

    suggest_float = suggest_categorical = suggest_int
