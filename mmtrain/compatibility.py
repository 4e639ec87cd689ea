"""Whether the stores of an experiment fit together, and what they have in common."""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from mmtrain.config import Experiment
from mmtrain.config_errors import nearest
from mmtrain.data.bad_samples import find_bad_samples
from mmtrain.data.columns import codes
from mmtrain.data.folds import fold_splits, read_folds
from mmtrain.data.origin import describe_origin
from mmtrain.data.schema import SECOND_TEXT, TEXT, FrameShape, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.engine.processes import from_first_process
from mmtrain.errors import DataError

_MOST_COMPARED = 10_000_000  # samples of a store whose groups are compared at the start of a run
_MUCH_TABLE = 1 << 30  # bytes of a sample table that several processes had better share


def open_stores(experiment: Experiment) -> dict[str, FeatureStore]:
    """The store of every dataset, seen through its fold where it has one, and without bad samples if they are to be skipped.

    Errors: DataError.
    """
    stores = {}
    used = {stream.dataset for stream in experiment.streams.values()}
    for name, dataset in experiment.datasets.items():
        if name not in used:
            continue  # of another stage, say
        store = FeatureStore(dataset.store, cache=Path(experiment.cache))
        left_out = _bad_samples(experiment, name, store) if experiment.batch.on_bad_sample == "skip" else {}
        splits = None
        if dataset.fold is not None:
            splits = fold_splits(store, read_folds(Path(dataset.fold.file), store), dataset.fold.number)
        if splits or left_out:
            store = FeatureStore(dataset.store, splits=splits, left_out=left_out, cache=Path(experiment.cache))
        stores[name] = store
    return stores


def stores_key(experiment: Experiment) -> str:
    """All of an experiment that what its opened stores hold depends on: two with one key may share them."""
    skips = experiment.batch.on_bad_sample == "skip"
    used = {stream.dataset for stream in experiment.streams.values()}
    opened = {name: dataset for name, dataset in experiment.resolved()["datasets"].items() if name in used}
    return json.dumps([opened, {name: sorted(_modalities_read(experiment, name)) for name in opened} if skips else None])


def _modalities_read(experiment: Experiment, dataset: str) -> set[str]:
    streams = [stream for stream in experiment.streams.values() if stream.dataset == dataset]
    return {name for stream in streams for name in stream.modalities or experiment.model.modalities}


def _bad_samples(experiment: Experiment, dataset: str, store: FeatureStore) -> dict[int, str]:
    """Those of one store in what its streams read; the same on all processes, of which the first one looks, file by file."""
    read = _modalities_read(experiment, dataset)
    found: dict[int, str] = {}
    for name, modality in store.schema.modalities.items():
        for shard in modality.shards if name in read else ():
            found |= from_first_process(partial(find_bad_samples, store, name, modality, shard))
    return found


def common_tasks(experiment: Experiment, stores: Mapping[str, FeatureStore]) -> dict[str, TaskSchema]:
    """Every task of the streams that the stores have labels of.

    Errors: DataError where a store lacks it, two stores mean different things by it, or a pretext task bears its name.
    """
    tasks: dict[str, tuple[str, TaskSchema]] = {}
    for name, stream in experiment.streams.items():
        store = stores[stream.dataset]
        for task in stream.tasks:
            if task in experiment.pretext:
                if task in store.schema.tasks:
                    raise DataError(
                        f"streams.{name}.tasks: '{task}' is a task of store '{store.name}', and one under `pretext`; give "
                        "the pretext task another name"
                    )
                continue
            if task not in store.schema.tasks:
                near = nearest(task, [*store.schema.tasks, *experiment.pretext])
                raise DataError(f"streams.{name}.tasks: store '{store.name}' ({store.path}) has no task '{task}'{near}")
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
    dims: dict[str, tuple[str, tuple[int, ...]]] = {}
    read = experiment.model.modalities
    for name, stream in experiment.streams.items():
        store = stores[stream.dataset]
        kept = [TEXT, *((SECOND_TEXT,) if store.has_column(SECOND_TEXT) else ()), *store.schema.modalities]
        for modality in stream.modalities or ():
            if modality not in kept:
                known = nearest(modality, kept)
                raise DataError(f"streams.{name}.modalities: store '{store.name}' has no '{modality}'{known}")
        for modality, schema in store.schema.modalities.items():
            other, shape = dims.setdefault(modality, (store.name, schema.row_shape))
            if shape != schema.row_shape and modality in read:
                here, there = _describe_rows(schema.row_shape), _describe_rows(shape)
                raise DataError(
                    f"modality '{modality}' is {here} in store '{store.name}' ({schema.extractor}) and {there} in '{other}'"
                    ": extract both with one extractor, or leave it out of the model"
                )
        wanted = stream.modalities or read
        has_text = TEXT in wanted and bool(store.text_lengths.any())
        if not has_text and not any(modality in store.schema.modalities for modality in wanted):
            raise DataError(f"streams.{name}: store '{store.name}' has nothing that is read of it ({', '.join(wanted)})")
    if experiment.model.second_text and not any(store.has_column(SECOND_TEXT) for store in stores.values()):
        raise DataError("model.second_text: no store has a column 'second_text'; keep one in the table it is made from")
    return {modality: math.prod(shape) for modality, (_, shape) in dims.items()}


def _describe_rows(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} wide" if len(shape) == 1 else f"pixels of {' x '.join(map(str, shape))}"


def check_origins(experiment: Experiment, stores: Mapping[str, FeatureStore]) -> None:
    """Errors: DataError where a modality that is read comes from different extractors, or is normalized in one store alone.

    What a store does not say cannot differ; a dataset with `allow_other_extractor` is not looked at.
    """
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for stream in experiment.streams.values():
        schema = stores[stream.dataset].schema
        if experiment.datasets[stream.dataset].allow_other_extractor:
            continue
        for modality in stream.modalities or experiment.model.modalities:
            facts = describe_origin(schema, modality) if modality in schema.modalities else {}
            for fact, value in facts.items():
                other, known = seen.setdefault((modality, fact), (stream.dataset, value))
                if known != value:
                    raise DataError(
                        f"modality '{modality}', {fact}: {value} in dataset '{stream.dataset}', {known} in '{other}'; the "
                        "model would take both for the same measurements. Make both stores alike, or write "
                        f"datasets.{stream.dataset}.allow_other_extractor: true where that is meant"
                    )


def common_frames(experiment: Experiment, stores: Mapping[str, FeatureStore]) -> dict[str, FrameShape]:
    """(3, H, W) of every modality of pixels in the streams' stores, which `common_dims` has seen to agree."""
    used = [stores[stream.dataset] for stream in experiment.streams.values()]
    specs = [item for store in used for item in store.schema.modalities.items()]
    return {name: spec.shape for name, spec in specs if spec.shape is not None}


def common_rates(experiment: Experiment, stores: Mapping[str, FeatureStore]) -> dict[str, float]:
    """Rows per second of every modality that has any. Errors: DataError where the model needs them and two stores differ."""
    rates: dict[str, tuple[str, float | None]] = {}
    for stream in experiment.streams.values():
        store = stores[stream.dataset]
        for modality, schema in store.schema.modalities.items():
            if modality not in (stream.modalities or experiment.model.modalities):
                continue
            rate = schema.rows_per_second
            other, known = rates.setdefault(modality, (store.name, rate))
            if rate != known and experiment.model.needs_times:
                raise DataError(
                    f"modality '{modality}' has {_rate(rate)} in store '{store.name}' and {_rate(known)} in '{other}': "
                    "times need one rate. Extract both alike, or write model.time_positions: null and no relative_time"
                )
    return {modality: rate for modality, (_, rate) in rates.items() if rate is not None}


def _rate(rate: float | None) -> str:
    return "no rows per second" if rate is None else f"{rate:g} rows per second"


def group_warnings(stores: Mapping[str, FeatureStore]) -> list[str]:
    """A sentence for each store that has a group on two sides of its split: its scores would be too good.

    And one for each that is too large to be looked through at every start: looking takes 160 bytes a sample for a while.
    """
    warnings = []
    for name, store in stores.items():
        if len(store) > _MOST_COMPARED:
            warnings.append(
                f"dataset '{name}': with {len(store):,} samples it was not looked whether a group stands in more than one "
                f"split; `mmtrain data check {store.path}` does"
            )
            continue
        (group, names), (split, splits) = codes(store.table["group"]), codes(store.table["split"])
        is_in = np.zeros((len(splits), len(names)), bool)
        is_in[split, group] = True
        straddling = np.flatnonzero(is_in.sum(0) > 1)
        if len(straddling):
            warnings.append(
                f"warning: dataset '{name}': {len(straddling)} groups stand in more than one split (such as "
                f"'{names[int(straddling[0])]}'), so scores will be too good. `mmtrain data check {store.path}` names them"
            )
    return warnings


def table_notes(stores: Mapping[str, FeatureStore]) -> list[str]:
    """A sentence for each store whose sample table is mapped, or takes much memory in every process."""
    held = {name: store.table.nbytes for name, store in stores.items() if not store.is_mapped}
    return [f"dataset '{name}': its sample table is mapped" for name, store in stores.items() if store.is_mapped] + [
        f"dataset '{name}': its sample table takes {size / 2**30:.1f} GiB in each process; `mmtrain data map "
        f"{stores[name].path}` makes a file that all of a machine share"
        for name, size in held.items()
        if size > _MUCH_TABLE
    ]
