"""`mmtrain data info`: how many samples and labels a store has, how they are balanced, how long its sequences are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmtrain.data.schema import SPLITS, TEXT, FeatureSpec, Statistics, TaskSchema
from mmtrain.data.store import FeatureStore

PERCENTILES = (5, 50, 95, 100)


@dataclass(frozen=True)
class LabelInfo:
    """One task in one split: samples with a label, and their balance (class -> count, or mean, std, min, max)."""

    labelled: int
    balance: Mapping[str, float]


@dataclass(frozen=True)
class LengthInfo:
    """One modality: samples that lack it, and percentiles of the others' lengths (rows; characters of text)."""

    missing: int
    unit: str
    percentiles: Mapping[int, float]


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds, in numbers."""

    name: str
    samples: int
    licence: str
    splits: Mapping[str, int]
    groups: Mapping[str, int]
    tasks: Mapping[str, Mapping[str, LabelInfo]]  # task -> split -> labels
    lengths: Mapping[str, LengthInfo]  # modality -> lengths
    statistics: Mapping[str, Statistics]  # modality -> those of its rows in train; without the modalities that have none


def describe_store(path: Path) -> StoreInfo:
    """Count everything; reads the table and the offsets, no rows. Errors: DataError for a store that cannot be read."""
    store = FeatureStore(path)
    members = {split: store.split(split) for split in SPLITS}
    tasks = {}
    for task, schema in store.schema.tasks.items():
        values, labelled = store.labels(task)
        tasks[task] = {split: _labels(schema, values[own][labelled[own]]) for split, own in members.items()}
    lengths = {TEXT: _lengths(store.text_lengths, "characters")}
    lengths |= {name: _lengths(store.lengths(name), _unit(spec)) for name, spec in store.schema.modalities.items()}
    groups = store.column("group")
    return StoreInfo(
        name=store.name,
        samples=len(store),
        licence=store.schema.licence,
        splits={split: len(own) for split, own in members.items()},
        groups={split: int(pc.count_distinct(groups.take(own)).as_py()) for split, own in members.items()},
        tasks=tasks,
        lengths=lengths,
        statistics={name: spec.statistics for name, spec in store.schema.modalities.items() if spec.statistics},
    )


def _labels(schema: TaskSchema, values: npt.NDArray[np.float64]) -> LabelInfo:
    if schema.kind == "regression":
        if not len(values):
            return LabelInfo(0, {})
        numbers = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
        return LabelInfo(len(values), {key: float(number) for key, number in numbers.items()})
    if schema.kind == "multilabel":
        counts = values.sum(axis=0)
        return LabelInfo(len(values), {name: int(count) for name, count in zip(schema.classes, counts, strict=True)})
    names = schema.classes or ("0", "1")
    return LabelInfo(len(values), {name: int((values == place).sum()) for place, name in enumerate(names)})


def _unit(spec: FeatureSpec) -> str:
    return "rows" if spec.shape is None else f"pictures of {' x '.join(map(str, spec.shape))}"


def _lengths(lengths: npt.NDArray[np.int64], unit: str) -> LengthInfo:
    real = lengths[lengths > 0]
    points = np.percentile(real, PERCENTILES) if len(real) else np.zeros(len(PERCENTILES))
    return LengthInfo(int(len(lengths) - len(real)), unit, dict(zip(PERCENTILES, map(float, points), strict=True)))


def print_info(path: Path, console: Console) -> None:
    """Show a store as three tables: samples, labels, lengths."""
    info = describe_store(path)
    console.print(
        f"{info.name}: {info.samples} samples" + (f", licence {info.licence}" if info.licence else ""), markup=False
    )
    splits = Table("split", "samples", "groups")
    for split, count in info.splits.items():
        splits.add_row(split, str(count), str(info.groups[split]))
    console.print(splits)
    if info.tasks:
        console.print(_task_table(info))
    lengths = Table("modality", "missing", "unit", *(f"{point} %" for point in PERCENTILES))
    for modality, item in info.lengths.items():
        rate = f"{item.missing} ({item.missing / max(info.samples, 1):.1%})"
        lengths.add_row(modality, rate, item.unit, *(f"{value:.0f}" for value in item.percentiles.values()))
    console.print(lengths)
    for modality, statistics in info.statistics.items():
        done = "normalized when read" if statistics.normalize else "statistics recorded, not applied"
        console.print(f"{modality}: {done} ({statistics.rows} rows of train)", markup=False, highlight=False, soft_wrap=True)


def _task_table(info: StoreInfo) -> Table:
    table = Table("task", "split", "labelled", "balance")
    for task, splits in info.tasks.items():
        for split, item in splits.items():
            shares = [f"{name} {_number(value, item.labelled)}" for name, value in item.balance.items()]
            table.add_row(escape(task), split, f"{item.labelled} of {info.splits[split]}", escape(", ".join(shares)))
    return table


def _number(value: float, labelled: int) -> str:
    """A count with its share of the labels, or a plain number."""
    return f"{value} ({value / labelled:.0%})" if isinstance(value, int) and labelled else f"{value:.4g}"
