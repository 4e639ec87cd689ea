"""The matrices that are shipped: each is a plan whose runs load, and each covers the table that it is about."""

from pathlib import Path

import pytest

from mmtrain.ablation.plan import Plan, read_plan
from mmtrain.curriculum.samplers import SAMPLERS
from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.engine.clipping import CLIPPINGS
from mmtrain.engine.optimizers import OPTIMIZERS
from mmtrain.models.fusion import FUSIONS

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "ablations").glob("*.yaml"))
# file: the table, where its rows stand in an experiment, and those that are left out
COVERED = {
    "fusions": (FUSIONS, lambda experiment: experiment.model.fusion, set()),
    "clipping": (CLIPPINGS, lambda experiment: experiment.training.clipping, set()),
    "samplers": (SAMPLERS, lambda experiment: experiment.curriculum.sampler, {"doremi"}),  # needs a run to refer to
    "weightings": (WEIGHTINGS, lambda experiment: experiment.curriculum.weighting, set()),
    "optimizers": (OPTIMIZERS, lambda experiment: experiment.training.optimizer, set()),
}


@pytest.fixture(params=FILES, ids=lambda file: file.stem, scope="module")
def plan(request: pytest.FixtureRequest) -> Plan:
    return read_plan(request.param)


def test_the_file_is_named_as_its_matrix(plan: Plan) -> None:
    assert plan.matrix.name in COVERED
    assert plan.folder == Path("runs") / plan.matrix.name


def test_every_row_of_the_table_is_in_it(plan: Plan) -> None:
    rows, of, left_out = COVERED[plan.matrix.name]
    known = [row.model_fields["name"].default for row in rows]
    found = [of(run.experiment).name for run in plan.runs]
    assert set(found) == set(known) - left_out


def test_every_fusion_reads_the_three_modalities_and_each_stands_alone() -> None:
    plan = read_plan(ROOT / "configs" / "ablations" / "fusions.yaml")
    experiments = [plan.of(variant)[0].experiment for variant in plan.variants]
    assert {experiment.model.modalities for experiment in experiments} == {("text", "audio", "video")}
    alone = [experiment.model.fusion for experiment in experiments if experiment.model.fusion.name == "only"]
    assert {fusion.modality for fusion in alone} == {"text", "audio", "video"}


def test_all_are_shipped() -> None:
    assert {file.stem for file in FILES} == set(COVERED)
