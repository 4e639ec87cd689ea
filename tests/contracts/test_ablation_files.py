"""The matrices that are shipped: each is a plan that fits stores of the demo's shape, and forgets no row of its table."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from data_prep.synth import synthesize
from mmtrain.ablation.ablate import ablate
from mmtrain.ablation.plan import Plan, check_plan, read_plan
from mmtrain.config import Experiment
from mmtrain.curriculum.pacing import PACINGS
from mmtrain.curriculum.samplers import SAMPLERS
from mmtrain.curriculum.schedules import SCHEDULES
from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.engine.clipping import CLIPPINGS
from mmtrain.engine.optimizers import OPTIMIZERS
from mmtrain.models.fusion import FUSIONS
from mmtrain.objectives.pretext import PRETEXTS
from mmtrain.objectives.regularizers import REGULARIZERS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "ablations"
FILES = sorted(FOLDER.glob("*.yaml"))
Names = Callable[[Experiment], list[str]]
# the table that a matrix goes through, and the names of its rows in an experiment
COVERED: dict[str, tuple[tuple[type, ...], Names]] = {
    "fusions": (FUSIONS, lambda run: [run.model.fusion.name]),
    "clipping": (CLIPPINGS, lambda run: [run.training.clipping.name]),
    "samplers": (SAMPLERS, lambda run: [run.curriculum.sampler.name]),
    "schedules": (SCHEDULES, lambda run: [run.curriculum.schedule.name]),
    "pacing": (PACINGS, lambda run: [run.curriculum.pacing.name]),
    "weightings": (WEIGHTINGS, lambda run: [run.curriculum.weighting.name]),
    "regularizers": (REGULARIZERS, lambda run: [row.name for row in run.regularizers.values()]),
    "optimizers": (OPTIMIZERS, lambda run: [run.training.optimizer.name]),
    "pretraining": (PRETEXTS, lambda run: [row.name for row in run.pretext.values()]),
}
LEFT_OUT = {"samplers": {"doremi"}}  # it asks for a run to refer to


@cache
def plan_of(file: Path) -> Plan:
    return read_plan(file)


@pytest.fixture(scope="module")
def demo_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stores of the demo's tasks and modalities, and of the other shipped experiments'."""
    root = tmp_path_factory.mktemp("shipped")

    def store(name: str, modalities: dict[str, int], tasks: dict[str, str]) -> None:
        synthesize(root / "stores" / name, name=name, samples=60, modalities=modalities, tasks=tasks, seed=1)

    kinds = {"speaker": "multiclass", "question": "binary", "exclamation": "binary"}
    store("fillets", {"audio": 64, "video": 1280}, kinds)
    for name in ("tweets", "movies", "amazon", "nyt"):
        store(name, {}, {"sentiment": "regression"})
    store("hiccap", {"audio": 128, "video": 1024}, {"binary": "binary"})
    store("imdb", {}, {"positive": "binary"})
    return root


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_matrix_is_a_plan_that_fits_its_stores(
    file: Path, demo_stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo_stores)
    plan = plan_of(file)
    assert plan.matrix.name == file.stem
    assert plan.folder == Path("runs") / file.stem
    assert plan.matrix.seeds == (0, 1, 2)
    assert len(plan.variants) > 2
    check_plan(file, plan)


def test_a_dry_run_of_a_shipped_matrix(
    demo_stores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo_stores)
    assert ablate(FOLDER / "hiccap.yaml", dry_run=True)
    assert capsys.readouterr().out.count("mmtrain.train --config") == 12
    assert not (demo_stores / "runs").exists()


@pytest.mark.parametrize("name", COVERED)
def test_every_row_of_the_table_is_in_it(name: str) -> None:
    rows, names = COVERED[name]
    plan = plan_of(FOLDER / f"{name}.yaml")
    found = {row for run in (*plan.shared, *plan.runs) for row in names(run.experiment)}
    assert found == {row.model_fields["name"].default for row in rows} - LEFT_OUT.get(name, set())


def test_every_fusion_reads_the_three_modalities_and_each_stands_alone() -> None:
    plan = plan_of(FOLDER / "fusions.yaml")
    experiments = [_of(plan, number) for number in range(len(plan.variants))]
    pairs = {"pair", "pair_cosine"}
    whole = [experiment for experiment in experiments if experiment.model.fusion.name not in pairs]
    assert {experiment.model.modalities for experiment in whole} == {("text", "audio", "video")}
    alone = [experiment.model.fusion for experiment in experiments if experiment.model.fusion.name == "only"]
    assert {fusion.modality for fusion in alone} == {"text", "audio", "video"}


def test_every_subset_of_the_modalities_is_trained() -> None:
    plan = plan_of(FOLDER / "modalities.yaml")
    found = {variant.name: _of(plan, number).model.modalities for number, variant in enumerate(plan.variants)}
    assert found == {name: tuple(name.split("-")) for name in found}
    assert len(set(found.values())) == 7


def test_a_pretraining_and_a_seed_are_one_run_whatever_begins_with_it() -> None:
    plan = plan_of(FOLDER / "pretraining.yaml")
    assert len(plan.shared) == 9 * 3
    users = [sum(stage.label in run.needs for run in plan.runs) for stage in plan.shared]
    assert set(users) == {2}


def _of(plan: Plan, number: int) -> Experiment:
    return plan.of(plan.variants[number])[0].experiment


def test_all_are_found() -> None:
    more = {"fusion_x_sampler", "modalities", "hiccap"}
    assert set(COVERED) | more <= {file.stem for file in FILES}
