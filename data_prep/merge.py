"""Several stores to one: what they share has to mean the same in each."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from data_prep.rewriting import (
    add_sample,
    further_columns,
    open_source,
    origin,
    read_cells,
    spec_of,
    statistics_note,
    stored_features,
)
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

_SHOWN = 3


def merge(
    paths: Sequence[Path], *, out: Path, name: str | None = None, prefix_ids: bool = False, overwrite: bool = False
) -> list[str]:
    """Write the samples of all stores, in the order given; returns what a person should know of the result.

    A modality, task or column that a store lacks is missing in its samples. `prefix_ids`: every id and group begins with its
    store's name and a dash. Errors: DataError where two stores mean different things by one name, or an id stands in both.
    """
    if len(paths) < 2:
        raise DataError(f"merge {' '.join(map(str, paths))}: write two stores or more")
    stores = [open_source(path, out=out, overwrite=overwrite) for path in paths]
    modalities, tasks, columns = _common_modalities(stores), _common_tasks(stores), _common_columns(stores)
    prefixes = _prefixes(stores) if prefix_ids else [""] * len(stores)
    _refuse_clashes(stores, prefixes)
    licences = dict.fromkeys(store.schema.licence for store in stores if store.schema.licence)
    sides = _Sides()
    with StoreWriter(
        out,
        name=name or out.name,
        modalities=modalities,
        tasks=tasks,
        columns=columns,
        licence=" AND ".join(licences),
        provenance={
            "made_by": "python -m data_prep merge",
            "prefix_ids": prefix_ids,
            "sources": [origin(store) for store in stores],
        },
        overwrite=overwrite,
    ) as writer:
        for store, prefix in zip(stores, prefixes, strict=True):
            for index, cells in read_cells(store):
                group = f"{prefix}{cells['group']}" if cells["group"] else ""
                sides.see(group, cells["split"])
                add_sample(writer, cells, stored_features(store, index), id=f"{prefix}{cells['id']}", group=group)
    return [*sides.notes(), *(note for store in stores for note in statistics_note(store))]


class _Sides:
    """Which split each group was seen in first, and the groups that were seen in another too."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._straddling: dict[str, None] = {}

    def see(self, group: str, split: str) -> None:
        if group and self._first.setdefault(group, split) != split:
            self._straddling[group] = None

    def notes(self) -> Iterator[str]:
        if self._straddling:
            first = next(iter(self._straddling))
            yield (
                f"warning: {len(self._straddling)} groups stand in more than one split (such as '{first}'): divide the new "
                "store by `split`, or merge with --prefix-ids where equal names are different groups"
            )


def _common_modalities(stores: Sequence[FeatureStore]) -> dict[str, FeatureSpec]:
    found: dict[str, tuple[FeatureStore, FeatureSpec]] = {}
    for store in stores:
        for name, modality in store.schema.modalities.items():
            spec = spec_of(modality)
            other, known = found.setdefault(name, (store, spec))
            if spec != known:
                here, there = spec.model_dump(), known.model_dump()
                names = [key for key in dict.fromkeys([*here, *there]) if here.get(key) != there.get(key)]
                raise DataError(
                    f"modality '{name}' has {_values(there, names)} in {other.path} and {_values(here, names)} in "
                    f"{store.path}: one model cannot read both. "
                    + ("Make them alike by `cast`" if names == ["dtype"] else "Extract both alike")
                )
    return {name: spec for name, (_, spec) in found.items()}


def _values(fields: Mapping[str, object], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {fields.get(name)}" for name in names)


def _common_tasks(stores: Sequence[FeatureStore]) -> dict[str, TaskSchema]:
    found: dict[str, tuple[FeatureStore, TaskSchema]] = {}
    for store in stores:
        for name, task in store.schema.tasks.items():
            other, known = found.setdefault(name, (store, task))
            if task != known:
                raise DataError(
                    f"task '{name}' is {_describe(known)} in {other.path} and {_describe(task)} in {store.path}: rename it "
                    "in one of them"
                )
    return {name: task for name, (_, task) in found.items()}


def _describe(task: TaskSchema) -> str:
    return task.kind + (f" of {', '.join(task.classes)}" if task.classes else "") + (f" in {task.unit}" if task.unit else "")


def _common_columns(stores: Sequence[FeatureStore]) -> dict[str, pa.DataType]:
    found: dict[str, tuple[FeatureStore, object]] = {}
    tasks = {name: store for store in stores for name in store.schema.tasks}
    for store in stores:
        for name, kind in further_columns(store).items():
            other, known = found.setdefault(name, (store, kind))
            if name in tasks:
                raise DataError(f"'{name}' is a task in {tasks[name].path} and a column in {store.path}: rename one of them")
            if known != kind:
                raise DataError(f"column '{name}' holds {known} in {other.path} and {kind} in {store.path}: write it alike")
    return {name: kind for name, (_, kind) in found.items()}


def _prefixes(stores: Sequence[FeatureStore]) -> list[str]:
    known: dict[str, Path] = {}
    for store in stores:
        if store.name in known:
            raise DataError(
                f"--prefix-ids: {known[store.name]} and {store.path} are both named '{store.name}', so their ids would stay "
                "alike; merge stores of different names"
            )
        known[store.name] = store.path
    return [f"{store.name}-" for store in stores]


def _refuse_clashes(stores: Sequence[FeatureStore], prefixes: Sequence[str]) -> None:
    """Errors: DataError naming the first ids that stand twice."""
    known: dict[str, int] = {}
    clashes: list[tuple[str, int, int]] = []
    for number, store in enumerate(stores):
        for _, cells in read_cells(store, ["id"]):
            name = f"{prefixes[number]}{cells['id']}"
            if known.setdefault(name, number) != number:
                clashes.append((name, known[name], number))
    if clashes:
        name, first, second = clashes[0]
        others = ", ".join(f"'{clash[0]}'" for clash in clashes[1:_SHOWN])
        raise DataError(
            f"sample id '{name}' stands in {stores[first].path} and in {stores[second].path}"
            + (f"; {len(clashes)} ids clash ({others}, ...)" if others else "")
            + ". Leave one of them out by `filter`, or pass --prefix-ids, which sets the store's name before ids and groups"
        )
