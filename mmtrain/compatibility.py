"""Whether the stores of an experiment fit together, and what they have in common."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pyarrow.compute as pc

from mmtrain.config import Experiment
from mmtrain.config_errors import nearest
from mmtrain.data.bad_samples import find_bad_samples
from mmtrain.data.folds import fold_splits, read_folds
from mmtrain.data.schema import TEXT, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.engine.processes import from_first_process
from mmtrain.errors import DataError


def open_stores(experiment: Experiment) -> dict[str, FeatureStore]:
    """The store of every dataset, seen through its fold where it has one, and without bad samples if they are to be skipped.

    Errors: DataError.
    """
    stores = {}
    for name, dataset in experiment.datasets.items():
        store = FeatureStore(dataset.store)
        left_out = _bad_samples(experiment, name, store) if experiment.batch.on_bad_sample == "skip" else {}
        splits = None
        if dataset.fold is not None:
            splits = fold_splits(store, read_folds(Path(dataset.fold.file), store), dataset.fold.number)
        stores[name] = FeatureStore(dataset.store, splits=splits, left_out=left_out) if splits or left_out else store
    return stores


def _bad_samples(experiment: Experiment, dataset: str, store: FeatureStore) -> dict[int, str]:
    """Those of one store in what its streams read; the same on all processes, of which the first one looks, file by file."""
    streams = [stream for stream in experiment.streams.values() if stream.dataset == dataset]
    read = {name for stream in streams for name in stream.modalities or experiment.model.modalities}
    found: dict[int, str] = {}
    for name, modality in store.schema.modalities.items():
        for shard in modality.shards if name in read else ():
            found |= from_first_process(partial(find_bad_samples, store, name, modality, shard))
    return found


def common_tasks(experiment: Experiment, stores: Mapping[str, FeatureStore]) -> dict[str, TaskSchema]:
    """Every task of the streams. Errors: DataError where a store lacks it, or two stores mean different things by it."""
    tasks: dict[str, tuple[str, TaskSchema]] = {}
    for name, stream in experiment.streams.items():
        store = stores[stream.dataset]
        for task in stream.tasks:
            other, known = tasks.setdefault(task, (store.name, store.task(task)))
            if known != store.task(task):
                here, there = _describe(store.task(task)), _describe(known)
                raise DataError(
                    f"streams.{name}: task '{task}' is {here} in store '{store.name}' and {there} in '{other}': one head "
                    "cannot serve both. Rename the task in one of them"
                )
    return {task: schema for task, (_, schema) in tasks.items()}


def _describe(task: TaskSchema) -> str:
    classes = f" of {', '.join(task.classes)}" if task.classes else ""
    return f"{task.kind}{classes}{f' in {task.unit}' if task.unit else ''}"


def common_dims(experiment: Experiment, stores: Mapping[str, FeatureStore]) -> dict[str, int]:
    """Row width of every modality in the streams' stores. Errors: DataError where two stores differ in one that is read."""
    dims: dict[str, tuple[str, int]] = {}
    read = experiment.model.modalities
    for name, stream in experiment.streams.items():
        store = stores[stream.dataset]
        for modality in stream.modalities or ():
            if modality != TEXT and modality not in store.schema.modalities:
                known = nearest(modality, [TEXT, *store.schema.modalities])
                raise DataError(f"streams.{name}.modalities: store '{store.name}' has no '{modality}'{known}")
        for modality, schema in store.schema.modalities.items():
            other, dim = dims.setdefault(modality, (store.name, schema.dim))
            if dim != schema.dim and modality in read:
                raise DataError(
                    f"modality '{modality}' is {schema.dim} wide in store '{store.name}' ({schema.extractor}) and {dim} in "
                    f"'{other}': extract both with one extractor, or leave it out of model.sequences"
                )
        wanted = stream.modalities or read
        has_text = TEXT in wanted and bool(store.text_lengths.any())
        if not has_text and not any(modality in store.schema.modalities for modality in wanted):
            raise DataError(f"streams.{name}: store '{store.name}' has nothing that is read of it ({', '.join(wanted)})")
    return {modality: dim for modality, (_, dim) in dims.items()}


def group_warnings(stores: Mapping[str, FeatureStore]) -> list[str]:
    """A sentence for each store that has a group on two sides of its split: its scores would be too good."""
    warnings = []
    for name, store in stores.items():
        sides = store.table.select(["group", "split"]).group_by(["group", "split"]).aggregate([])
        counts = sides.group_by("group").aggregate([("split", "count")])
        straddling = counts.filter(pc.greater(counts["split_count"], 1))["group"]
        if len(straddling):
            warnings.append(
                f"warning: dataset '{name}': {len(straddling)} groups stand in more than one split (such as "
                f"'{straddling[0]}'), so scores will be too good. `mmtrain data check {store.path}` names them"
            )
    return warnings
