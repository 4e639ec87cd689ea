"""Tasks without labels, which `train` refuses: a finding for each, and what can be examined without them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from mmtrain.compatibility import common_tasks, open_stores
from mmtrain.config import Experiment
from mmtrain.data.dataset import Stream
from mmtrain.data.store import FeatureStore
from mmtrain.doctor.finding import Finding
from mmtrain.errors import ConfigError
from mmtrain.parts import build_streams
from mmtrain.watched_metrics import watched_metrics

CHECK = "label_balance"
Stores = Mapping[str, FeatureStore]


@dataclass(frozen=True)
class Labelled:
    """What is left where the tasks without labels are taken out, as they are by `findings`."""

    findings: list[Finding]
    experiment: Experiment | None  # None where no stream is left, or what is left does not fit together
    val_streams: list[Stream]  # those with a label


def find_unlabelled(experiment: Experiment) -> Labelled:
    """Errors: DataError where the stores do not have what is asked of them."""
    stores = open_stores(experiment)
    tasks = tuple(common_tasks(experiment, stores))
    findings: list[Finding] = []
    bare = [task for task in tasks if not _owners(experiment, stores, task, "train")]
    for task in bare:
        listed = ", ".join(
            f"streams.{name} ({stores[stream.dataset].path})"
            for name, stream in experiment.streams.items()
            if task in stream.tasks
        )
        found = f"{task}: no training sample carries a label in {listed}, so `train` refuses it; the checks go on without it"
        findings.append(Finding(CHECK, "problem", found, _fix(experiment, stores, task, "streams.<name>.tasks")))
    idle = {split: list(_idle(experiment, stores, split, bare)) for split in ("train", "val")}
    for split, names in idle.items():
        for name in names:
            if split == "val" and name in idle["train"]:
                continue
            findings.append(_of_stream(experiment, stores, name, split))
    findings += _unmeasured(experiment, stores, tasks)
    try:
        rest = _without(experiment, tasks=bare, streams=idle["train"])
    except ConfigError as error:
        note = Finding(CHECK, "note", f"no other check is made: {error}", "mend what stands above")
        return Labelled([*findings, note] if findings else [], None, [])
    return Labelled(findings, rest, _val_streams(rest, stores, idle["val"]))


def _val_streams(experiment: Experiment, stores: Stores, idle: Collection[str]) -> list[Stream]:
    kept = {name: stream for name, stream in experiment.streams.items() if name not in idle}
    return build_streams(
        experiment.model_copy(update={"streams": kept}), stores, "val"
    )  # not checked: it may name the others


def _owners(experiment: Experiment, stores: Stores, task: str, split: str) -> list[str]:
    """Streams with a label of the task in a split."""
    return [
        name
        for name, stream in experiment.streams.items()
        if task in stream.tasks and _has_label(stores[stream.dataset], task, split)
    ]


def _has_label(store: FeatureStore, task: str, split: str) -> bool:
    return bool(store.labels(task)[1][store.split(split)].any())


def _idle(experiment: Experiment, stores: Stores, split: str, bare: Collection[str]) -> Iterator[str]:
    """Streams of labelled tasks alone, one of them not `bare` at least, without a label in a split."""
    for name, stream in experiment.streams.items():
        if set(stream.tasks) & set(experiment.pretext) or set(stream.tasks) <= set(bare):
            continue
        if not any(_has_label(stores[stream.dataset], task, split) for task in stream.tasks):
            yield name


def _of_stream(experiment: Experiment, stores: Stores, name: str, split: str) -> Finding:
    stream = experiment.streams[name]
    found = (
        f"streams.{name}: no sample of split '{split}' of store {stores[stream.dataset].path} carries a label of "
        f"{', '.join(stream.tasks)}, so `train` refuses it; the checks go on without "
        f"{'it' if split == 'train' else 'its validation'}"
    )
    return Finding(CHECK, "problem", found, _fix(experiment, stores, stream.tasks[0], "streams", only=name))


def _fix(experiment: Experiment, stores: Stores, task: str, where: str, *, only: str | None = None) -> str:
    """Divide anew where a split has what another one lacks, else label."""
    fixes = []
    for name, stream in experiment.streams.items():
        store = stores[stream.dataset]
        if task in stream.tasks and only in (None, name) and store.labels(task)[1].any():
            fixes.append(f"divide anew: python -m data_prep split {store.path} --out NEW --stratify {task}")
    out = f"take '{task}' out of {where}" if only is None else f"take '{only}' out of {where}"
    return f"{' and '.join(dict.fromkeys(fixes)) or 'label samples of it'}, or {out}"


def _unmeasured(experiment: Experiment, stores: Stores, tasks: Collection[str]) -> Iterator[Finding]:
    """Metrics that the run reads of its evaluations, of tasks that no validation sample is labelled for."""
    for where, metric in watched_metrics(experiment, experiment.task_names):
        task = _task_of(metric)
        if task in tasks and not _owners(experiment, stores, task, "val"):
            found = f"{where}: {metric}, but no validation sample carries a label of '{task}', so `train` refuses it"
            yield Finding(
                CHECK, "problem", found, f"{where}: val/loss (mode: min), or the metric of a task with validation labels"
            )


def _task_of(metric: str) -> str:
    return metric.removeprefix("val/").partition("/")[0].partition("@")[0]


def _without(experiment: Experiment, *, tasks: Collection[str], streams: Collection[str]) -> Experiment:
    """Errors: ConfigError where no stream is left, or the rest does not fit together."""
    values = experiment.resolved()
    for name, stream in list(values["streams"].items()):
        stream["tasks"] = [task for task in stream["tasks"] if task not in tasks]
        if name in streams or not stream["tasks"]:
            del values["streams"][name]
    learned = {task for stream in values["streams"].values() for task in stream["tasks"]}
    values["tasks"] = {task: settings for task, settings in values["tasks"].items() if task in learned}
    if _task_of(experiment.selection.metric) in set(experiment.task_names) - learned:
        values["selection"] |= {"metric": "val/loss", "mode": "min"}
    if not values["streams"]:
        raise ConfigError("without these no stream is left")
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        words = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"without these the rest does not fit together: {words}") from None
