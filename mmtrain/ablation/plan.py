"""A matrix as the runs that it means: every variant with every seed, read and checked before the first of them trains."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmtrain.ablation.matrix import Matrix, Values, read_matrix, undoes
from mmtrain.ablation.stage_chain import SHARED, Link, chain_of, digest_of, words_of
from mmtrain.compatibility import common_tasks, open_stores, stores_key
from mmtrain.config import Experiment, Staged, load
from mmtrain.config_yaml import COMMAND_LINE
from mmtrain.data.store import FeatureStore
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError, UserError
from mmtrain.run_checks import check_run
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
    """A variant with a seed: an ordinary run, which `words` on the command line make of the matrix's experiment file.

    Where that file has stages, it is the last of them; without a variant it is an earlier one, which may be of several.
    `needs`: labels of the shared ones that have to be finished before it begins.
    """

    variant: Variant | None
    seed: int
    experiment: Experiment = field(compare=False)  # what the words say, and no key of a mapping
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.experiment.folder)

    @property
    def label(self) -> str:
        """What it is called, and where its log lies."""
        return f"{self.variant.id}/seed-{self.seed}" if self.variant else self.experiment.name.partition("/")[2]


@dataclass(frozen=True)
class Plan:
    """All runs of a matrix, variant by variant, the baseline's first.

    `shared`: the stages that they begin with, each once, those before that others begin with.
    """

    file: Path
    matrix: Matrix
    experiment_file: Path
    folder: Path
    variants: tuple[Variant, ...]
    runs: tuple[PlannedRun, ...]
    shared: tuple[PlannedRun, ...] = ()

    def of(self, variant: Variant) -> list[PlannedRun]:
        """A variant's runs, in the order of the seeds."""
        return [run for run in self.runs if run.variant == variant]


def read_plan(file: Path, overrides: Sequence[str] = ()) -> Plan:
    """Errors: ConfigError where the file, an override or a variant is wrong, or two variants are one experiment."""
    matrix = read_matrix(file)
    _check_overrides(file, matrix, overrides)
    reader = _Reader(file, file.parent / matrix.experiment, matrix)
    variants: list[Variant] = []
    runs: list[PlannedRun] = []
    shared: dict[str, PlannedRun] = {}
    for values in combinations_of(matrix):
        words = [*overrides_of(matrix.overrides), *overrides, *_words(matrix, values)]
        variants.append(variant := reader.variant(values, words))
        for seed in matrix.seeds:
            runs.append(reader.run(variant, seed, [*words, f"seed={seed}"], shared))
    _refuse_equal(file, variants)
    folder = Path(runs[0].experiment.runs) / matrix.name
    return Plan(file, matrix, reader.base, folder, tuple(variants), tuple(runs), tuple(shared.values()))


@dataclass(frozen=True)
class _Reader:
    """The experiment file of a matrix, as its variants read it."""

    file: Path
    base: Path
    matrix: Matrix

    def load(self, values: Values, words: Sequence[str]) -> Experiment | Staged:
        try:
            return load(self.base, list(words))
        except ConfigError as error:
            complaints = re.sub(f"^{COMMAND_LINE}: ", "", str(error), flags=re.MULTILINE)
            raise ConfigError(f"{self.file}: variant {_name(values)}: {complaints}") from None

    def variant(self, values: Values, words: Sequence[str]) -> Variant:
        found, name = self.load(values, words), _name(values)
        if isinstance(found, Staged):
            found = self.load(values, [*words, "seed=0"])  # a stage's own seed stays, the seed of the run must not
            assert isinstance(found, Staged)
            digest = chain_of(found)[-1].digest
        else:
            config = identity(found, {})["config"]
            assert isinstance(config, dict)
            digest = digest_of({key: value for key, value in config.items() if key not in ("name", "seed")})
        return Variant(name, f"{name[:_READABLE]}-{digest}", values, values == self.matrix.baseline_values)

    def run(self, variant: Variant, seed: int, words: Sequence[str], shared: dict[str, PlannedRun]) -> PlannedRun:
        """The variant's run with a seed; the stages that it begins with are in `shared`, by label, from now on."""
        own = f"{self.matrix.name}/{variant.id}/seed-{seed}"
        found = self.load(variant.values, words)
        if not isinstance(found, Staged):
            return self._planned(variant, variant.values, seed, [*words, f"name={own}"])
        *before, last = chain_of(found)
        labels = {link.stage: link.folder for link in before}

        def planned(link: Link, name: str, who: Variant | None, seed: int) -> PlannedRun:
            folder = Path(found.stages[link.stage].runs) / self.matrix.name
            made = words_of(self.base, words, link, found.stages[link.stage], folder=folder)
            needs = tuple(labels[stage] for stage in link.needs)
            return self._planned(who, variant.values, seed, [*made, f"name={name}"], needs)

        for link in before:
            if link.folder not in shared:
                name = f"{self.matrix.name}/{SHARED}/{link.digest}"
                shared[link.folder] = planned(link, name, None, found.stages[link.stage].seed)
        return planned(last, own, variant, seed)

    def _planned(
        self, variant: Variant | None, values: Values, seed: int, words: Sequence[str], needs: tuple[str, ...] = ()
    ) -> PlannedRun:
        experiment = self.load(values, words)
        assert isinstance(experiment, Experiment)  # one stage is named where there are several
        if tracked := _tracking(self.matrix, values if variant is not None else (), experiment):
            words = [*words, *tracked]
            experiment = self.load(values, words)
            assert isinstance(experiment, Experiment)
        return PlannedRun(variant, seed, experiment, tuple(words), needs)


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
    """Where a run is tracked: the matrix as its group, unless it has one, and the axes' values among its tags (of a shared
    stage none).
    """
    tracking = experiment.tracking
    if tracking.wandb == "disabled" and not tracking.tensorboard:
        return []
    tags = [*tracking.tags, *(f"{axis}={value}" for axis, value in zip(matrix.axes, values, strict=bool(values)))]
    return overrides_of({"tracking.group": tracking.group or matrix.name, "tracking.tags": tags})


def _check_overrides(file: Path, matrix: Matrix, overrides: Sequence[str]) -> None:
    """What a matrix decides cannot be said on the command line: it would be ignored. Errors: ConfigError."""
    for key in (word.partition("=")[0] for word in overrides):
        if key in ("name", "seed"):
            raise ConfigError(f"{COMMAND_LINE}: {key}: {file} says it; write another matrix file")
        for axis, keys in matrix.axis_keys().items():
            if any(undoes(later, key) for later in keys):
                raise ConfigError(f"{COMMAND_LINE}: {key}: the axis '{axis}' of {file} sets it in each variant")


def _name(values: Values) -> str:
    return "-".join(values)


def _refuse_equal(file: Path, variants: Sequence[Variant]) -> None:
    known: dict[str, Variant] = {}
    named: dict[str, Variant] = {}
    for variant in variants:
        other = named.setdefault(variant.name, variant)
        if other is not variant:
            raise ConfigError(
                f"{file}: two variants are called {variant.name}: {' + '.join(other.values)} and "
                f"{' + '.join(variant.values)}; write one of these values otherwise"
            )
        other = known.setdefault(variant.id.rpartition("-")[2], variant)
        if other is not variant:
            raise ConfigError(
                f"{file}: the variants {other.name} and {variant.name} are the same experiment: leave one of them out, "
                "or let it change something"
            )


def check_plan(file: Path, plan: Plan) -> None:
    """Refuse, for every variant, what a run of it would refuse of its stores, labels and metrics. Errors: UserError."""
    opened: dict[str, Mapping[str, FeatureStore]] = {}
    for run in plan.shared:
        try:
            check_run(run.experiment, _open_once(run.experiment, opened))
        except UserError as error:
            raise type(error)(f"{file}: {run.label}: {error}") from None
    for variant in plan.variants:
        experiment = plan.of(variant)[0].experiment
        try:
            stores = _open_once(experiment, opened)
            tasks = common_tasks(experiment, stores)
            _, val, objective = check_run(experiment, stores)
            for where, metric in (("metric", plan.matrix.metric), *(("also", name) for name in plan.matrix.also)):
                check_metric(where, metric, tasks, objective, val)
        except UserError as error:
            raise type(error)(f"{file}: variant {variant.name}: {error}") from None


def _open_once(experiment: Experiment, opened: dict[str, Mapping[str, FeatureStore]]) -> Mapping[str, FeatureStore]:
    if (key := stores_key(experiment)) not in opened:
        opened[key] = open_stores(experiment)
    return opened[key]
