"""A store divided anew over train, val and test: groups whole, shares and labels as near to what is asked as they allow."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.rewriting import (
    add_sample,
    open_source,
    read_cells,
    statistics_note,
    stored_features,
    table_schema,
    writer_like,
)
from mmtrain.data.folds import strata
from mmtrain.data.schema import SPLITS, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.errors import ConfigError, DataError

Ratios = tuple[float, float, float]
Counts = Mapping[str, int]  # samples, and samples of each stratum

SAMPLES = "samples"
_ROUNDS = 20


@dataclass(frozen=True)
class Balance:
    """What a split holds: samples, their share, groups, and by task the share of each label among the labelled ones."""

    samples: int
    share: float
    groups: int
    labels: Mapping[str, Mapping[str, float]]


def split_store(
    path: Path,
    *,
    out: Path,
    ratios: Ratios,
    by: str = "group",
    stratify: Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[dict[str, Balance], list[str]]:
    """Write the store with another column `split`; returns the balance of each split and what else should be known.

    `by`: the column whose equal values stay together; it becomes the store's `group`, and a sample without a value is alone.
    `stratify`: tasks whose labels every split should hold in the same proportion.
    Errors: ConfigError for ratios that are none, DataError where there are fewer groups than splits.
    """
    check_ratios(ratios)
    store = open_source(path, out=out, overwrite=overwrite)
    groups = _groups(store, by)
    fewest = math.ceil(1 / min(ratio for ratio in ratios if ratio))
    sides = divide(_counts(store, groups, stratify, fewest), ratios=ratios, seed=seed)
    splits = [sides[group] for group in groups]
    balance = balance_of(store, splits, groups)
    details = {
        "by": by,
        "stratify": list(stratify),
        "ratios": list(ratios),
        "seed": seed,
        "balance": {split: asdict(item) for split, item in balance.items()},
    }
    with writer_like(store, out, command="split", details=details, overwrite=overwrite) as writer:
        for index, cells in read_cells(store):
            group = "" if cells[by] is None else str(cells[by])
            add_sample(writer, cells, stored_features(store, index), split=splits[index], group=group)
    return balance, statistics_note(store)


def check_ratios(ratios: Sequence[float]) -> None:
    """Errors: ConfigError where they are not three shares of 1."""
    if not all(0 <= ratio <= 1 for ratio in ratios) or not math.isclose(sum(ratios), 1, abs_tol=1e-6):
        written = " ".join(f"{ratio:g}" for ratio in ratios)
        raise ConfigError(f"--ratios {written}: write three shares of 1 for train, val and test, such as 0.8 0.1 0.1")


def divide(groups: Mapping[str, Counts], *, ratios: Ratios, seed: int) -> dict[str, str]:
    """The split of each group, from its counts; the same for the same groups, whatever their order.

    Groups are placed from the largest to the smallest (those of like size in an order drawn by `seed`) where the sum over
    all counts of (held - wanted)^2 / wanted grows least, that of the samples weighing as much as all strata together; then
    each is moved as long as that makes the sum smaller. Every split whose ratio is not 0 has a group.
    """
    places = {key: place for place, key in enumerate(sorted({key for counts in groups.values() for key in counts}))}
    names = sorted(groups, key=lambda group: (-groups[group][SAMPLES].bit_length(), _hash(seed, group)))
    used = [place for place, ratio in enumerate(ratios) if ratio > 0]
    if len(names) < len(used):
        raise DataError(f"split: {len(names)} groups cannot fill {len(used)} splits; divide by a column with more values")
    sparse = [[(places[key], count) for key, count in sorted(groups[name].items()) if count] for name in names]
    totals = [0.0] * len(places)
    for counts in sparse:
        for key, count in counts:
            totals[key] += count
    wanted = [[ratio * total for total in totals] for ratio in ratios]
    weights = [float(len(places)) if key == SAMPLES else 1.0 for key in places]
    division = _Division(sparse, wanted, weights, used)
    division.fill()
    division.improve()
    return {name: SPLITS[side] for name, side in zip(names, division.sides, strict=True)}


class _Division:
    """Groups on their sides, and what each side holds."""

    def __init__(
        self, groups: list[list[tuple[int, int]]], wanted: list[list[float]], weights: list[float], used: list[int]
    ) -> None:
        self.groups, self.wanted, self.weights, self.used = groups, wanted, weights, used
        self.held = [[0] * len(side) for side in wanted]
        self.members = [0] * len(wanted)
        self.sides: list[int] = []

    def _growth(self, side: int, counts: list[tuple[int, int]]) -> float:
        """What the sum grows by when a group comes to a side."""
        held, wanted, weights = self.held[side], self.wanted[side], self.weights
        return sum(weights[key] * count * (2 * (held[key] - wanted[key]) + count) / wanted[key] for key, count in counts)

    def _put(self, side: int, counts: list[tuple[int, int]], sign: int) -> None:
        self.members[side] += sign
        for key, count in counts:
            self.held[side][key] += sign * count

    def fill(self) -> None:
        """Place every group once; as many as there are empty sides are kept for those."""
        for place, counts in enumerate(self.groups):
            empty = [side for side in self.used if not self.members[side]]
            sides = empty if len(self.groups) - place <= len(empty) else self.used
            side = min(sides, key=lambda side: self._growth(side, counts))
            self._put(side, counts, 1)
            self.sides.append(side)

    def improve(self) -> None:
        """Move single groups until no move helps, never the last of a side."""
        for _ in range(_ROUNDS):
            moved = False
            for place, counts in enumerate(self.groups):
                side = self.sides[place]
                if self.members[side] == 1:
                    continue
                self._put(side, counts, -1)
                best = min(self.used, key=lambda other: self._growth(other, counts))
                if self._growth(best, counts) < self._growth(side, counts) - 1e-9:
                    side, moved = best, True
                self._put(side, counts, 1)
                self.sides[place] = side
            if not moved:
                return


def _hash(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed} {group}".encode()).hexdigest()


def _groups(store: FeatureStore, by: str) -> list[str]:
    """What has to stay together, [N]; a sample without a group by its own number."""
    known = table_schema(store).names
    if by not in known:
        raise ConfigError(f"--by {by}: store '{store.name}' has no such column; it has {', '.join(known)}")
    kind = table_schema(store).field(by).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise ConfigError(f"--by {by}: it holds {kind}; a column of texts or whole numbers was expected")
    cells = (cells[by] for _, cells in read_cells(store, [by]))
    return [f"alone {index}" if cell in (None, "") else f"group {cell}" for index, cell in enumerate(cells)]


def _counts(store: FeatureStore, groups: Sequence[str], stratify: Sequence[str], fewest: int) -> dict[str, Counter[str]]:
    """Samples of each group, and how many of them have which label; labels of less than `fewest` samples count as one."""
    counts: dict[str, Counter[str]] = {}
    for group in groups:
        counts.setdefault(group, Counter())[SAMPLES] += 1
    for task in dict.fromkeys(stratify):
        if task not in store.schema.tasks:
            known = ", ".join(store.schema.tasks) or "none"
            raise ConfigError(f"--stratify {task}: store '{store.name}' has no such task; its tasks: {known}")
        codes = strata(store, task, len(SPLITS))
        rare = np.bincount(codes)[codes] < fewest
        for group, code in zip(groups, np.where(rare, -1, codes).tolist(), strict=True):
            counts[group][f"{task} {code}"] += 1
    return counts


def balance_of(store: FeatureStore, splits: Sequence[str], groups: Sequence[str]) -> dict[str, Balance]:
    """What each split holds."""
    sides, names = np.array(splits), np.array(groups)
    found = {}
    for split in SPLITS:
        own = np.flatnonzero(sides == split)
        labels = {}
        for task, schema in store.schema.tasks.items():
            values, labelled = store.labels(task)
            labels[task] = _shares(schema, values[own][labelled[own]])
        found[split] = Balance(len(own), len(own) / max(len(sides), 1), len(np.unique(names[own])), labels)
    return found


def _shares(task: TaskSchema, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> dict[str, float]:
    """The share of each class, or mean and deviation of a regression label; nothing where nothing is labelled."""
    if not len(values):
        return {}
    if task.kind == "regression":
        return {"mean": float(values.mean()), "deviation": float(values.std())}
    if task.kind == "multilabel":
        return dict(zip(task.classes, values.mean(axis=0).tolist(), strict=True))
    return {name: float((values == place).mean()) for place, name in enumerate(task.classes or ("0", "1"))}
