"""A matrix as the runs that it means: every variant with every seed, read and checked before the first of them trains."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmtrain.ablation.matrix import Matrix, Values, read_matrix, undoes
from mmtrain.compatibility import common_tasks, open_stores, stores_key
from mmtrain.config import Experiment, load_experiment
from mmtrain.config_yaml import COMMAND_LINE
from mmtrain.crossval import check_run
from mmtrain.data.store import FeatureStore
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError, UserError
from mmtrain.run_files import identity
from mmtrain.tuning.search_space import overrides_of
from mmtrain.watched_metrics import check_metric

_READABLE = 60  # characters of an id that say which variant it is


@dataclass(frozen=True)
class Variant:
    """One combination of the axes' values. `id`: its name, and a hash of all that its runs have in common."""

    name: str
    id: str
    values: Values
    is_baseline: bool


@dataclass(frozen=True)
class PlannedRun:
    """A variant with a seed: an ordinary run, which `words` on the command line make of the matrix's experiment file."""

    variant: Variant
    seed: int
    experiment: Experiment = field(compare=False)  # what the words say, and no key of a mapping
    words: tuple[str, ...]

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.experiment.folder)

    @property
    def label(self) -> str:
        return f"{self.variant.id}/seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of a matrix, variant by variant, the baseline's first."""

    matrix: Matrix
    experiment_file: Path
    folder: Path
    variants: tuple[Variant, ...]
    runs: tuple[PlannedRun, ...]

    def of(self, variant: Variant) -> list[PlannedRun]:
        """A variant's runs, in the order of the seeds."""
        return [run for run in self.runs if run.variant == variant]


def read_plan(file: Path, overrides: Sequence[str] = ()) -> Plan:
    """Errors: ConfigError where the file, an override or a variant is wrong, or two variants are one experiment."""
    matrix = read_matrix(file)
    _check_overrides(file, matrix, overrides)
    base = file.parent / matrix.experiment
    variants, runs = [], []
    for values in combinations_of(matrix):
        words = [*overrides_of(matrix.overrides), *overrides, *_words(matrix, values)]
        experiment = _load(file, base, values, words)
        variant = _variant(matrix, values, experiment)
        variants.append(variant)
        for seed in matrix.seeds:
            own = (
                *words,
                f"seed={seed}",
                f"name={matrix.name}/{variant.id}/seed-{seed}",
                *_tracking(matrix, values, experiment),
            )
            runs.append(PlannedRun(variant, seed, _load(file, base, values, own), own))
    _refuse_equal(file, variants)
    folder = Path(runs[0].experiment.runs) / matrix.name
    return Plan(matrix, base, folder, tuple(variants), tuple(runs))


def combinations_of(matrix: Matrix) -> list[Values]:
    """The values of every variant, each combination once, the baseline first."""
    baseline = matrix.baseline_values
    found: list[Values] = [baseline]
    if matrix.design == "grid":
        found += itertools.product(*matrix.axes.values())
    elif matrix.design == "one_factor":
        for place, values in enumerate(matrix.axes.values()):
            found += [(*baseline[:place], value, *baseline[place + 1 :]) for value in values]
    else:
        found += matrix.design
    return list(dict.fromkeys(found))


def _words(matrix: Matrix, values: Values) -> list[str]:
    settings = [matrix.axes[axis][value] for axis, value in zip(matrix.axes, values, strict=True)]
    return [word for keys in settings for word in overrides_of(keys)]


def _tracking(matrix: Matrix, values: Values, experiment: Experiment) -> list[str]:
    """Where a run is tracked: the matrix as its group, unless it has one, and the axes' values among its tags."""
    tracking = experiment.tracking
    if tracking.wandb == "disabled" and not tracking.tensorboard:
        return []
    tags = [*tracking.tags, *(f"{axis}={value}" for axis, value in zip(matrix.axes, values, strict=True))]
    return overrides_of({"tracking.group": tracking.group or matrix.name, "tracking.tags": tags})


def _check_overrides(file: Path, matrix: Matrix, overrides: Sequence[str]) -> None:
    """What a matrix decides cannot be said on the command line: it would be ignored. Errors: ConfigError."""
    for key in (word.partition("=")[0] for word in overrides):
        if key in ("name", "seed"):
            raise ConfigError(f"{COMMAND_LINE}: {key}: {file} says it; write another matrix file")
        for axis, keys in matrix.axis_keys().items():
            if any(undoes(later, key) for later in keys):
                raise ConfigError(f"{COMMAND_LINE}: {key}: the axis '{axis}' of {file} sets it in each variant")


def _load(file: Path, base: Path, values: Values, words: Sequence[str]) -> Experiment:
    try:
        return load_experiment(base, list(words))
    except ConfigError as error:
        complaints = re.sub(f"^{COMMAND_LINE}: ", "", str(error), flags=re.MULTILINE)
        raise ConfigError(f"{file}: variant {_name(values)}: {complaints}") from None


def _variant(matrix: Matrix, values: Values, experiment: Experiment) -> Variant:
    config = identity(experiment, {})["config"]
    assert isinstance(config, dict)
    shared = {key: value for key, value in config.items() if key not in ("name", "seed")}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]
    name = _name(values)
    return Variant(name, f"{name[:_READABLE]}-{digest}", values, values == matrix.baseline_values)


def _name(values: Values) -> str:
    return "-".join(values)


def _refuse_equal(file: Path, variants: Sequence[Variant]) -> None:
    known: dict[str, Variant] = {}
    for variant in variants:
        other = known.setdefault(variant.id.rpartition("-")[2], variant)
        if other is not variant:
            raise ConfigError(
                f"{file}: the variants {other.name} and {variant.name} are the same experiment: leave one of them out, "
                "or let it change something"
            )


def check_plan(file: Path, plan: Plan) -> None:
    """Refuse, for every variant, what a run of it would refuse of its stores, labels and metrics. Errors: UserError."""
    opened: dict[str, Mapping[str, FeatureStore]] = {}
    for variant in plan.variants:
        experiment = plan.of(variant)[0].experiment
        try:
            if (key := stores_key(experiment)) not in opened:
                opened[key] = open_stores(experiment)
            tasks = common_tasks(experiment, opened[key])
            _, val, objective = check_run(experiment, opened[key])
            for where, metric in (("metric", plan.matrix.metric), *(("also", name) for name in plan.matrix.also)):
                check_metric(where, metric, tasks, objective, val)
        except UserError as error:
            raise type(error)(f"{file}: variant {variant.name}: {error}") from None
