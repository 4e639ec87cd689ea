"""`mmtrain evaluate RUN --robustness`: a run's model on a split whose samples lack modalities, or have worse ones."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from accelerate.utils import gather_object

from mmtrain.analysis.output import write_analysis
from mmtrain.config import Experiment
from mmtrain.data.augment.protocol import Kind
from mmtrain.data.dataset import Sample, Stream
from mmtrain.data.schema import TEXTS
from mmtrain.engine.progress import ProgressBar
from mmtrain.evaluation.perturbation import PERTURBATIONS
from mmtrain.evaluation.perturbation.protocol import has
from mmtrain.evaluation.primary import primary_statistic
from mmtrain.evaluation.robustness import SUBSET, Area, Look, Reading, Value, look_at, plan_looks, read_levels
from mmtrain.evaluation.table import TextTable, digits
from mmtrain.trained import Trained, load_trained

_NOTE = (
    "area: under the curve from level 0, by the trapezoid rule; relative: divided by the clean value times the highest "
    "level, 1 where nothing is lost. A sample that loses its only modality stays in the metric, answered from nothing."
)


def measure_robustness(
    folder: Path,
    *,
    split: str,
    checkpoint: str = "best",
    weights: str = "trained",
    levels: Sequence[str] = (),
    repeats: int = 1,
) -> tuple[list[Reading], list[Area]]:
    """Write evaluation/<split>-robustness.{json,md}. `levels`: such as `drop=0.5,1`; `repeats`: draws of each random level.

    Errors: those of `load_trained`; ConfigError for levels that there are not, and for too many modalities.
    """
    asked = read_levels(levels)
    trained = load_trained(folder, split=split, checkpoint=checkpoint, weights=weights)
    kinds = modality_kinds(trained.experiment)
    looks = plan_looks(kinds, asked, repeats=repeats, seed=trained.experiment.seed)
    total = len({look.same for look in looks})
    done = 0

    def evaluate(look: Look) -> tuple[Mapping[str, Value], int]:
        nonlocal done
        found = _evaluate(
            trained, look, kinds, progress=lambda batch, batches: bar.count(done * batches + batch, total * batches)
        )
        done += 1
        return found

    with ProgressBar(trained.console, f"{split}, robustness", total=total) as bar:
        readings, areas = look_at(looks, evaluate)
    if trained.console is not None:
        name = f"{trained.name}-robustness"
        values = {
            "split": split,
            "weights": weights,
            "checkpoint": trained.checkpoint,
            "step": trained.step,
            "rows": [asdict(row) for row in readings],
            "areas": [asdict(row) for row in areas],
        }
        tables = [_subset_table(readings), *_curve_tables(readings, areas)]
        write_analysis(folder, name, values, tables=tables, notes=[_NOTE], console=trained.console)
    return readings, areas


def _evaluate(
    trained: Trained, look: Look, modalities: Collection[str], *, progress: Callable[[int, int], None]
) -> tuple[Mapping[str, Value], int]:
    """Each task's metric of a look, and how many of its samples have none of the modalities."""
    empty = 0

    def alter(sample: Sample, stream: Stream) -> Sample:
        nonlocal empty
        altered = sample if look.alter is None else look.alter(sample, stream)
        empty += not any(has(altered, modality) for modality in modalities)
        return altered

    values = {}
    for item in trained.predict(alter=alter, progress=progress):
        metric, statistic = primary_statistic(item)
        values[item.task] = (metric, statistic(np.arange(len(item))))
    return values, sum(gather_object([empty])) if trained.accelerator.num_processes > 1 else empty


def modality_kinds(experiment: Experiment) -> dict[str, Kind]:
    """What the model reads, and what each of them is made of."""
    images = experiment.model.images
    return {
        name: "text" if name in TEXTS else "images" if name in images else "features"
        for name in experiment.model.fused_modalities
    }


def _subset_table(readings: Sequence[Reading]) -> TextTable:
    rows = [row for row in readings if row.perturbation == SUBSET]
    whole: dict[str, float] = {}
    for row in rows:
        whole.setdefault(row.task, row.value)  # the first subset is the whole
    drawn = tuple(
        (
            row.task,
            row.metric,
            row.modality.replace("+", " + "),
            digits(row.value),
            digits(row.value - whole[row.task]),
            str(row.num_without_any),
        )
        for row in sorted(rows, key=lambda row: list(whole).index(row.task))
    )
    header = ("task", "metric", "modalities present", "value", "difference", "samples without any")
    return TextTable("Every subset of the modalities", header, drawn, 3)


def _curve_tables(readings: Sequence[Reading], areas: Sequence[Area]) -> Iterator[TextTable]:
    for perturbation in PERTURBATIONS:
        own = [area for area in areas if area.perturbation == perturbation.name]
        rows = {(row.modality, row.task, row.level): row for row in readings if row.perturbation == perturbation.name}
        levels = sorted({level for _, _, level in rows if level is not None})
        drawn = tuple(
            (
                area.modality,
                area.task,
                area.metric,
                *(digits(rows[area.modality, area.task, level].value) for level in levels),
                digits(area.area),
                digits(area.relative_area),
            )
            for area in own
        )
        header = ("modality", "task", "metric", *(f"{level:g}" for level in levels), "area", "relative")
        if drawn:
            yield TextTable(f"{perturbation.name}, by {perturbation.unit}", header, drawn, 3)
