"""`mmtrain crossval`: one run per fold over the train and val samples of an experiment's stores, and a table over them."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from mmtrain.compatibility import common_tasks, group_warnings, open_stores
from mmtrain.config import Experiment, load_experiment
from mmtrain.data.dataset import Stream
from mmtrain.data.folds import Folds, assign_folds, fold_splits, read_folds, read_origin, write_folds
from mmtrain.data.schema import TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.engine.console import main_console
from mmtrain.engine.jsonl import plain, read_jsonl
from mmtrain.engine.look_once import look_once
from mmtrain.engine.run_folder import RunFolder, write_whole
from mmtrain.errors import ConfigError, UserError
from mmtrain.evaluation.fold_table import FoldRow, fold_rows, fold_table
from mmtrain.run_checks import check_run, is_finished
from mmtrain.training import build_accelerator, train_loaded

Choice = Literal["best", "last"]
Stores = dict[str, FeatureStore]


def cross_validate(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    num_folds: int = 5,
    choice: Choice = "best",
    resume: bool = False,
    overwrite: bool = False,
) -> list[FoldRow]:
    """Train runs/<name>/fold-1 .. fold-K and write runs/<name>/crossval.{md,json}; returns the table's rows.

    A finished fold is passed over, an unfinished one resumed, if `resume`. `choice`: the evaluation that stands for a fold.
    Errors: UserError of every kind, before any fold is trained where it can be known.
    """
    if num_folds < 2:
        raise ConfigError(f"--folds {num_folds}: cross-validation has at least 2 folds")
    experiment = load_experiment(file, list(overrides))
    accelerator = build_accelerator(experiment, trains=True)
    console = main_console(accelerator)
    stores = _open(experiment)
    folds = {name: _folds(experiment, name, store, num_folds, resume=resume) for name, store in stores.items()}
    runs = [fold_experiment(experiment, number) for number in range(1, num_folds + 1)]
    notes = _notes(experiment)
    kept = open_stores(experiment)  # folds are of all samples, runs of those that are not left out
    notes += [line for number, run in enumerate(runs, start=1) for line in check_fold(run, kept, folds, number)]
    look_once(accelerator, lambda: [RunFolder(run.folder).check(resume=resume, overwrite=overwrite) for run in runs])
    accelerator.wait_for_everyone()  # all have looked into the folder
    if console is not None:
        for line in dict.fromkeys(notes):
            console.print(line, markup=False, highlight=False)
        _begin(experiment, stores, folds)
    accelerator.wait_for_everyone()
    for run in runs:
        if resume and is_finished(run):
            if console is not None:
                console.print(f"{run.name}: finished already", markup=False, highlight=False)
            continue
        train_loaded(run, build_accelerator(run, trains=True), resume=resume, overwrite=overwrite)
    rows = fold_rows([fold_metrics(run, choice) for run in runs], _owners(experiment))
    if console is not None:
        _write(experiment, console, rows, choice=choice)
    accelerator.end_training()
    return rows


def fold_experiment(experiment: Experiment, number: int) -> Experiment:
    """The experiment of one fold: its name, and for every dataset the file of folds with the fold's number."""
    values = experiment.resolved()
    values["name"] = f"{experiment.name}/fold-{number}"
    for name in _first_tasks(experiment):
        values["datasets"][name]["fold"] = {"file": str(folds_file(experiment, name)), "number": number}
    return Experiment.model_validate(values)


def folds_file(experiment: Experiment, dataset: str) -> Path:
    """Which fold each sample of a dataset is in."""
    return experiment.folder / "folds" / f"{dataset}.parquet"


def _notes(experiment: Experiment) -> list[str]:
    """A sentence where the weights that every fold begins with may come from the samples that it validates."""
    initial = experiment.initial
    if initial is None:
        return []
    return [
        f"warning: initial: if {initial.run or initial.file} was trained on samples of these stores, it has seen those that "
        "a fold validates, and the scores are too good"
    ]


def fold_metrics(experiment: Experiment, choice: Choice) -> dict[str, float]:
    """Every metric of a run at its best or last evaluation; none where no evaluation could be the best."""
    found: dict[str, float] = {}
    for record in read_jsonl(RunFolder(experiment.folder).metrics):
        if record["kind"] == "evaluation" and (choice == "last" or record["best"]):
            found = {name: float("nan") if value is None else value for name, value in record["metrics"].items()}
    return found


def _open(experiment: Experiment) -> Stores:
    stores = {}
    for name in _first_tasks(experiment):
        if experiment.datasets[name].fold is not None:
            raise ConfigError(f"datasets.{name}.fold: crossval makes the folds itself; leave this key out")
        stores[name] = FeatureStore(experiment.datasets[name].store, cache=Path(experiment.cache))
    common_tasks(experiment, stores)  # refuses a task that a store lacks
    return stores


def _folds(experiment: Experiment, dataset: str, store: FeatureStore, num_folds: int, *, resume: bool) -> Folds:
    """The folds of a dataset: those that a run to be resumed has kept, or new ones."""
    file = folds_file(experiment, dataset)
    if not (resume and file.is_file()):
        return assign_folds(store, task=_first_tasks(experiment)[dataset], num_folds=num_folds, seed=experiment.seed)
    before, now = json.loads(read_origin(file) or "{}"), _origin(experiment, dataset, store, num_folds)
    changes = [f"{key} was {before.get(key)!r}, is {value!r}" for key, value in now.items() if before.get(key) != value]
    if changes:
        raise ConfigError(
            f"cannot resume: {file} was made from other settings: {'; '.join(changes)}. Put them back, choose another "
            "name, or start anew with --overwrite"
        )
    return read_folds(file, store)


def _origin(experiment: Experiment, dataset: str, store: FeatureStore, num_folds: int) -> dict[str, object]:
    task = _first_tasks(experiment)[dataset]
    return {"folds": num_folds, "seed": experiment.seed, "task": task, "store": store.fingerprint}


def _first_tasks(experiment: Experiment) -> dict[str, str]:
    """The task that the folds of each dataset are stratified by: the first with labels of its first stream that has one.

    Errors: ConfigError where a dataset has none.
    """
    found: dict[str, str] = {}
    for stream in experiment.streams.values():
        labelled = [task for task in stream.tasks if task not in experiment.pretext]
        found |= {stream.dataset: labelled[0]} if labelled and stream.dataset not in found else {}
    for name, stream in experiment.streams.items():
        if stream.dataset not in found:
            raise ConfigError(
                f"streams.{name}.tasks: crossval spreads the labels of a task over the folds, and the streams of dataset "
                f"'{stream.dataset}' have pretext tasks alone; list a task of its store"
            )
    return found


def check_fold(run: Experiment, stores: Stores, folds: Mapping[str, Folds], number: int) -> list[str]:
    """What a person should know of a fold. Errors: ConfigError naming the fold, where its run would be refused."""
    views = {
        name: FeatureStore(
            store.path,
            splits=fold_splits(store, folds[name], number),
            left_out=store.left_out,
            cache=Path(run.cache),
        )
        for name, store in stores.items()
        if name in folds
    }
    try:
        train, val, _ = check_run(run, views)
    except UserError as error:
        raise ConfigError(f"{run.name}: {error}\nAnother seed, or fewer folds, divides the samples otherwise") from None
    notes = group_warnings(views)
    for own, other in zip(train, val, strict=True):
        for task, schema in own.tasks.items():
            everything = classes_in(own, task) | classes_in(other, task)
            for side, stream in (("training", own), ("validation", other)):
                if lacking := sorted(everything - classes_in(stream, task)):
                    names = ", ".join(_class_name(schema, number) for number in lacking)
                    notes.append(
                        f"warning: {run.name}: no {side} sample of stream '{own.name}' has {names} of task '{task}'"
                    )
    return notes


def classes_in(stream: Stream, task: str) -> set[int]:
    """The classes that the labels of a stream show; {0} of a regression task with labels."""
    values, labelled = stream.labels(task)
    found, kind = values[labelled], stream.tasks[task].kind
    if kind == "regression":
        return {0} if len(found) else set()
    return set(np.flatnonzero(found.any(axis=0)).tolist() if kind == "multilabel" else found.astype(int).tolist())


def _class_name(schema: TaskSchema, number: int) -> str:
    if schema.kind == "regression":
        return "a label"
    return f"class '{schema.classes[number]}'" if schema.classes else f"label {number}"


def _begin(experiment: Experiment, stores: Stores, folds: Mapping[str, Folds]) -> None:
    """Write the folds; runs of folds that an earlier call had and this one has not are deleted."""
    num_folds = int(max(values.max() for values in folds.values()))
    for path in experiment.folder.glob("fold-*"):
        if path.name not in {f"fold-{number}" for number in range(1, num_folds + 1)} and RunFolder(path).is_run():
            shutil.rmtree(path)
    for name, store in stores.items():
        origin = json.dumps(_origin(experiment, name, store, num_folds))
        write_folds(folds_file(experiment, name), store, folds[name], origin=origin)


def _owners(experiment: Experiment) -> dict[str, list[str]]:
    streams = experiment.streams.items()
    return {task: [name for name, stream in streams if task in stream.tasks] for task in experiment.task_names}


def _write(experiment: Experiment, console: Console, rows: Sequence[FoldRow], *, choice: Choice) -> None:
    num_folds = len(rows[0].values)
    table = fold_table(rows, title=f"{experiment.name}: {num_folds} folds, {choice} evaluation of each")
    legend = (
        f"95 % interval: mean -+ t s / sqrt(folds), t of {num_folds - 1} degrees of freedom (fewer where a value is not "
    )
    legend += "defined in all folds), cut at what the metric can be; the training sets overlap, so it is rather too narrow"
    if choice == "best":
        legend += f"\nThe best evaluation was chosen by {experiment.selection.metric} on the samples that it is scored on"
    write_whole(experiment.folder / "crossval.md", f"{table.markdown()}\n{legend}\n")
    values = {"folds": num_folds, "evaluation": choice, "rows": [asdict(row) for row in rows]}
    write_whole(experiment.folder / "crossval.json", json.dumps(plain(values), indent=1, allow_nan=False))
    console.print(table.rich())
    console.print(legend, markup=False, highlight=False)
    console.print(f"written: {experiment.folder}/crossval.md, crossval.json", markup=False, highlight=False)
