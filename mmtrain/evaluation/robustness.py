"""What a model withstands: which altered splits it is evaluated on, and the areas under the curves that they give.

The areas are MultiBench's (Liang et al. 2021, "MultiBench: Multiscale Benchmarks for Multimodal Representation Learning",
robustness): its relative robustness is the area under performance by level, by the trapezoid rule. Here that area is
reported as it is, and divided by what a model that loses nothing would have, its clean performance times the range of
levels; there it is scaled between the least and the most robust of the methods compared. Its effective robustness, the
sum over levels of f - (g + f(0) - g(0)) against a late-fusion model g, takes two runs, and can be had from their rows.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from mmtrain.data.augment.protocol import Kind
from mmtrain.data.dataset import Sample, Stream
from mmtrain.errors import ConfigError
from mmtrain.evaluation.evaluate import Alter
from mmtrain.evaluation.perturbation import PERTURBATIONS
from mmtrain.evaluation.perturbation.drop import Drop
from mmtrain.evaluation.perturbation.protocol import Perturbation, without

SUBSET = "subset"
MOST_MODALITIES = 6
Levels = Mapping[str, Sequence[float]]  # by perturbation, ascending, none of them 0
Value = tuple[str, float]  # a task's metric


@dataclass(frozen=True, kw_only=True)
class Look:
    """One evaluation of the split. Looks of equal `same` see the same samples; `alter` None: those of the stores."""

    perturbation: str
    modality: str  # of a subset: what is present, joined by +
    level: float | None
    same: Hashable
    alter: Alter | None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A task's main metric under a perturbation: the mean over `repeats` draws, and their deviation where there are more."""

    perturbation: str
    modality: str
    level: float | None
    task: str
    metric: str
    value: float
    deviation: float
    repeats: int
    num_without_any: int  # samples that are left with no modality at all, of the first draw


@dataclass(frozen=True, kw_only=True)
class Area:
    """The area under a curve of readings from level 0, and its part of the clean value times the range of levels."""

    perturbation: str
    modality: str
    task: str
    metric: str
    area: float
    relative_area: float


def default_levels() -> dict[str, tuple[float, ...]]:
    """The levels of every perturbation, by its name."""
    return {row.name: row.levels for row in PERTURBATIONS}


def read_levels(words: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Levels with those of `drop=0.5,1` and the like in place of the defaults; nothing behind the sign: none of it.

    Errors: ConfigError for what is no perturbation, no number, or out of its range.
    """
    levels, rows = default_levels(), {row.name: row for row in PERTURBATIONS}
    for word in words:
        name, sign, values = word.partition("=")
        if name not in rows or not sign:
            raise ConfigError(f"--levels {word}: write NAME=LEVEL,LEVEL with a name of {', '.join(rows)}")
        try:
            found = sorted({float(value) for value in values.split(",") if value.strip()})
        except ValueError:
            raise ConfigError(f"--levels {word}: '{values}' is not a list of numbers such as 0.25,0.5") from None
        wrong = [level for level in found if not 0 < level <= rows[name].most or not np.isfinite(level)]
        if wrong:
            most = f" and at most {rows[name].most:g}" if np.isfinite(rows[name].most) else ""
            raise ConfigError(f"--levels {word}: {wrong[0]:g} is no level of {name}, which are above 0{most}")
        levels[name] = tuple(found)
    return levels


def plan_looks(modalities: Mapping[str, Kind], levels: Levels, *, repeats: int, seed: int) -> list[Look]:
    """Every subset of the modalities, the whole first; then every curve from level 0, random ones `repeats` times a level.

    Errors: ConfigError where there are too many subsets.
    """
    if len(modalities) > MOST_MODALITIES:
        raise ConfigError(
            f"--robustness: the model reads {len(modalities)} modalities, which have {2 ** len(modalities) - 1} subsets; it "
            f"is for at most {MOST_MODALITIES} modalities ({2**MOST_MODALITIES - 1} subsets)"
        )
    whole = tuple(modalities)
    looks = [
        _present(SUBSET, "+".join(kept), None, kept=kept, whole=whole)
        for size in range(len(whole), 0, -1)
        for kept in combinations(whole, size)
    ]
    for row in PERTURBATIONS:
        for modality, kind in modalities.items():
            if kind in row.reads and levels[row.name]:
                looks += _curve(row, modality, whole, levels[row.name], repeats=repeats, seed=seed)
    return looks


def _curve(
    row: type[Perturbation], modality: str, whole: Sequence[str], levels: Sequence[float], *, repeats: int, seed: int
) -> Iterator[Look]:
    perturb = row(modality=modality, seed=seed)
    yield _present(row.name, modality, 0.0, kept=whole, whole=whole)
    for level in levels:
        if row is Drop and level == 1:
            others = tuple(name for name in whole if name != modality)
            yield _present(row.name, modality, level, kept=others, whole=whole)
            continue
        for repeat in range(repeats if row.is_random else 1):
            yield Look(
                perturbation=row.name,
                modality=modality,
                level=level,
                same=(row.name, modality, level, repeat),
                alter=partial(perturb, level=level, repeat=repeat),
            )


def _present(perturbation: str, modality: str, level: float | None, *, kept: Sequence[str], whole: Sequence[str]) -> Look:
    """A look at samples that have no other modalities than these."""
    lost = [name for name in whole if name not in kept]

    def alter(sample: Sample, stream: Stream) -> Sample:  # noqa: ARG001 (whatever the stream)
        return without(sample, lost)

    return Look(
        perturbation=perturbation, modality=modality, level=level, same=frozenset(kept), alter=alter if lost else None
    )


def look_at(
    looks: Sequence[Look], evaluate: Callable[[Look], tuple[Mapping[str, Value], int]]
) -> tuple[list[Reading], list[Area]]:
    """Readings and areas from `evaluate`, which gives each task's metric and the number of samples without any modality.

    It is called once for looks that see the same samples.
    """
    known: dict[Hashable, tuple[Mapping[str, Value], int]] = {}
    curves: dict[tuple[str, str, float | None], list[tuple[Mapping[str, Value], int]]] = {}
    for look in looks:
        if look.same not in known:
            known[look.same] = evaluate(look)
        curves.setdefault((look.perturbation, look.modality, look.level), []).append(known[look.same])
    readings = [
        _reading(place, task, metric, draws) for place, draws in curves.items() for task, (metric, _) in draws[0][0].items()
    ]
    return readings, list(areas(readings))


def _reading(
    place: tuple[str, str, float | None], task: str, metric: str, draws: Sequence[tuple[Mapping[str, Value], int]]
) -> Reading:
    values = np.array([found[task][1] for found, _ in draws])
    return Reading(
        perturbation=place[0],
        modality=place[1],
        level=place[2],
        task=task,
        metric=metric,
        value=float(values.mean()),
        deviation=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        repeats=len(values),
        num_without_any=draws[0][1],
    )


def areas(readings: Sequence[Reading]) -> Iterator[Area]:
    """Of every curve. NaN where one of its values is; the relative one also where the clean value is not above 0."""
    curves: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for row in readings:
        if row.level is not None:
            curves.setdefault((row.perturbation, row.modality, row.task, row.metric), []).append((row.level, row.value))
    for (perturbation, modality, task, metric), points in curves.items():
        levels, values = np.array(sorted(points)).T
        area = float(np.sum(np.diff(levels) * (values[1:] + values[:-1]) / 2))
        full = float(values[0] * levels[-1])
        yield Area(
            perturbation=perturbation,
            modality=modality,
            task=task,
            metric=metric,
            area=area,
            relative_area=area / full if full > 0 else float("nan"),
        )
