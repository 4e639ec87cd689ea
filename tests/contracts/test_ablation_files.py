"""The matrices that are shipped: each is a plan whose runs load, and no fusion and no clipping is forgotten."""

from pathlib import Path

import pytest

from mmtrain.ablation.plan import Plan, read_plan
from mmtrain.config import Experiment
from mmtrain.engine.clipping import CLIPPINGS
from mmtrain.models.fusion import FUSIONS

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "ablations").glob("*.yaml"))
# the table that a matrix goes through, and where its rows stand in an experiment
COVERED = {
    "fusions": (FUSIONS, lambda experiment: experiment.model.fusion),
    "clipping": (CLIPPINGS, lambda experiment: experiment.training.clipping),
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_matrix_is_a_plan(file: Path) -> None:
    plan = read_plan(file)
    assert plan.matrix.name == file.stem
    assert plan.folder == Path("runs") / file.stem
    assert len(plan.variants) > 2


@pytest.mark.parametrize("name", COVERED)
def test_every_row_of_the_table_is_in_it(name: str) -> None:
    rows, of = COVERED[name]
    plan = read_plan(ROOT / "configs" / "ablations" / f"{name}.yaml")
    assert {of(run.experiment).name for run in plan.runs} == {row.model_fields["name"].default for row in rows}


def test_every_fusion_reads_the_three_modalities_and_each_stands_alone() -> None:
    plan = read_plan(ROOT / "configs" / "ablations" / "fusions.yaml")
    experiments = [_of(plan, number) for number in range(len(plan.variants))]
    pairs = {"pair", "pair_cosine"}
    whole = [experiment for experiment in experiments if experiment.model.fusion.name not in pairs]
    assert {experiment.model.modalities for experiment in whole} == {("text", "audio", "video")}
    alone = [experiment.model.fusion for experiment in experiments if experiment.model.fusion.name == "only"]
    assert {fusion.modality for fusion in alone} == {"text", "audio", "video"}


def _of(plan: Plan, number: int) -> Experiment:
    return plan.of(plan.variants[number])[0].experiment


def test_all_are_found() -> None:
    assert {"fusions", "clipping", "samplers", "weightings", "optimizers"} <= {file.stem for file in FILES}
