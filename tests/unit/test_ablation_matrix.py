"""A matrix file: its designs, its ids, and every message about one that is wrong."""

from pathlib import Path

import pytest
import yaml

from mmtrain.ablation.matrix import read_matrix
from mmtrain.ablation.plan import combinations_of, read_plan
from mmtrain.errors import ConfigError

EXPERIMENT = {
    "name": "base",
    "datasets": {"a": {"store": "stores/a"}},
    "streams": {"a": {"dataset": "a", "tasks": ["t"]}},
    "model": {"dim": 8, "sequences": {"audio": {"name": "linear"}}, "fusion": {"name": "concat", "dropout": 0.3}},
}
MATRIX = {
    "name": "trial",
    "experiment": "sub/base.yaml",
    "overrides": {"training.epochs": 2, "runs": "elsewhere"},
    "axes": {
        "fusion": {"concat": {"model.fusion": {"name": "concat"}}, "sum": {"model.fusion": {"name": "sum"}}},
        "lr": {"high": {"training.optimizer.lr": 0.01}, "low": {"training.optimizer.lr": 1e-4}, "usual": {}},
    },
    "baseline": {"fusion": "concat", "lr": "usual"},
    "seeds": [3, 5],
    "metric": "val/loss",
}


@pytest.fixture
def write(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.yaml").write_text(yaml.safe_dump(EXPERIMENT))

    def write(**changes: object) -> Path:
        file = tmp_path / "trial.yaml"
        values = {key: value for key, value in {**MATRIX, **changes}.items() if value is not None}
        file.write_text(yaml.safe_dump(values, sort_keys=False))
        return file

    return write


def names(plan) -> list[str]:
    return [variant.name for variant in plan.variants]


def test_a_grid_has_every_combination_the_baseline_first(write):
    plan = read_plan(write())
    assert names(plan) == ["concat-usual", "concat-high", "concat-low", "sum-high", "sum-low", "sum-usual"]
    assert [variant.is_baseline for variant in plan.variants] == [True] + [False] * 5
    assert len(plan.runs) == 12
    assert plan.folder == Path("elsewhere/trial")


def test_one_factor_changes_one_thing_at_a_time(write):
    plan = read_plan(write(design="one_factor"))
    assert names(plan) == ["concat-usual", "sum-usual", "concat-high", "concat-low"]


def test_chosen_combinations_and_the_baseline(write):
    assert names(read_plan(write(design=[["sum", "low"], ["sum", "low"]]))) == ["concat-usual", "sum-low"]
    assert combinations_of(read_matrix(write(design=[["sum", "low"], ["concat", "usual"]]))) == [
        ("concat", "usual"),
        ("sum", "low"),
    ]


def test_a_run_is_what_its_words_make_of_the_experiment(write):
    run = next(run for run in read_plan(write()).runs if run.label.startswith("sum-low") and run.seed == 5)
    assert run.experiment.name == f"trial/{run.variant.id}/seed-5"
    assert run.folder.path == Path("elsewhere/trial") / run.variant.id / "seed-5"
    assert (run.experiment.seed, run.experiment.training.epochs, run.experiment.training.optimizer.lr) == (5, 2, 1e-4)
    assert run.experiment.model.fusion.name == "sum"
    assert "training.optimizer.lr=0.0001" in run.words


def file_of_experiment(matrix: Path) -> Path:
    return matrix.parent / MATRIX["experiment"]


def ids(plan) -> dict[str, str]:
    return {variant.name: variant.id for variant in plan.variants}


def test_ids_stay_whatever_does_not_change_the_training(write):
    """Neither design, seeds, the matrix's name, order, nor free keys are in them; what is trained is."""
    known = ids(read_plan(write()))
    assert all(id_.startswith(f"{name}-") and len(id_) == len(name) + 9 for name, id_ in known.items())
    assert len({id_.rpartition("-")[2] for id_ in known.values()}) == len(known)
    fusions = MATRIX["axes"]["fusion"] | {"mean": {"model.fusion": {"name": "mean"}}}
    assert known.items() <= ids(read_plan(write(axes={"fusion": fusions, "lr": MATRIX["axes"]["lr"]}))).items()
    free = {"batch.prefetch": 0, "runs": "here", "training.keep_checkpoints": 5}
    for changes in (
        {"design": "one_factor"},
        {"seeds": [0], "name": "other", "also": ["val/t/mae"]},
        {"overrides": MATRIX["overrides"] | free},
    ):
        assert ids(read_plan(write(**changes))).items() <= known.items()
    base = file_of_experiment(write())
    base.write_text(yaml.safe_dump(EXPERIMENT | {"name": "another", "seed": 9}))
    assert ids(read_plan(write())) == known
    other = ids(read_plan(write(overrides={"training.epochs": 3})))
    assert not set(other.values()) & set(known.values())


def test_overrides_of_the_command_line_hold_for_all(write):
    plan = read_plan(write(), ["batch.size=4", "training.epochs=1"])
    assert {run.experiment.batch.size for run in plan.runs} == {4}
    assert {run.experiment.training.epochs for run in plan.runs} == {1}
    assert ids(plan) != ids(read_plan(write()))


WRONG = [
    ({"nam": "x"}, "trial.yaml:27: nam: unknown key; did you mean 'name'?"),
    (
        {"nothing": 1},
        "nothing: unknown key. Known: also, axes, baseline, design, experiment, metric, name, overrides, seeds",
    ),
    ({"also": ["val/t/mae", "val/t/mae"]}, "also: 'val/t/mae' is shown already; leave it out"),
    ({"metric": "val/t/mae", "also": ["val/t/mae"]}, "also: 'val/t/mae' is shown already; leave it out"),
    ({"name": None}, "name: is required and missing"),
    ({"axes": {}}, "axes: "),
    ({"baseline": {"fusio": "concat", "lr": "usual"}}, "baseline.fusio: no axis 'fusio'; did you mean 'fusion'?"),
    ({"baseline": {"fusion": "concat"}}, "baseline: names no value of the axis 'lr'; write one of high, low, usual"),
    ({"baseline": {"fusion": "conct", "lr": "low"}}, "baseline.fusion: the axis has no 'conct'; did you mean 'concat'?"),
    ({"design": "all"}, "design: should be grid, one_factor, or a list of combinations such as [[a, x], [b, y]]"),
    ({"design": []}, "design: should be grid, one_factor, or a list"),
    ({"design": ["sum"]}, "design: should be grid, one_factor, or a list"),
    ({"design": [["sum"]]}, "design: entry 1 names 1 values, there are 2 axes: write [fusion, lr]"),
    ({"design": [["sum", "lo"]]}, "design: entry 1: the axis 'lr' has no 'lo'; did you mean 'low'?"),
    ({"seeds": [1, 1]}, "seeds: 1 stands here twice"),
    ({"seeds": []}, "seeds: "),
    ({"overrides": {"seed": 3}}, "overrides: 'seed' cannot be set here: write the seeds under `seeds:`"),
    ({"overrides": {"name": "x"}}, "overrides: 'name' cannot be set here: runs are named by the matrix"),
    (
        {"axes": {"fusion": {"concat": {"runs": "x"}}, "lr": {"usual": {}}}},
        "axes.fusion.concat: 'runs' cannot be set here: all variants have one folder",
    ),
    (
        {"axes": {"fusion": {"concat": {"batch.size": 2}}, "lr": {"usual": {"batch.size": 3}}}},
        "axes.lr: sets 'batch.size', as the axis 'fusion' does: one of the two would be lost",
    ),
    (
        {"axes": {"fusion": {"concat": {"model.fusion.dropout": 0}}, "lr": {"usual": {"model.fusion": {"name": "sum"}}}}},
        "axes.lr: sets 'model.fusion' over 'model.fusion.dropout' of the axis 'fusion'; put this axis before that one",
    ),
    ({"datasets": {}}, "is an experiment, not a matrix; a matrix has the keys name, experiment, overrides"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_a_file_that_is_wrong(write, changes, message):
    with pytest.raises(ConfigError) as error:
        read_matrix(write(**changes))
    assert message in str(error.value)
    assert "stage" not in str(error.value), "which are keys of an experiment"


def test_a_later_axis_may_refine_an_earlier_one(write):
    axes = {"fusion": MATRIX["axes"]["fusion"], "lr": {"usual": {"model.fusion.dropout": 0.0}}}
    assert {run.experiment.model.fusion.dropout for run in read_plan(write(axes=axes)).runs} == {0.0}


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"matrix file .*none.yaml does not exist"):
        read_matrix(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match="a matrix is a mapping with the keys name, experiment"):
        read_matrix(tmp_path / "list.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 6\)"):
        read_matrix(tmp_path / "bytes.yaml")


def test_a_variant_that_is_no_experiment_is_named(write):
    axes = {"fusion": MATRIX["axes"]["fusion"] | {"conct": {"model.fusion": {"name": "conct"}}}, "lr": {"usual": {}}}
    with pytest.raises(ConfigError) as error:
        read_plan(write(axes=axes))
    assert "trial.yaml: variant conct-usual: model.fusion.name: unknown name 'conct'; did you mean 'concat'?" in str(
        error.value
    )
    assert "command line" not in str(error.value)


def test_two_variants_of_one_name_are_refused(write):
    axes = {
        "fusion": {"a": {"model.fusion": {"name": "sum"}}, "a-b": {"model.fusion": {"name": "mean"}}},
        "lr": {"b-c": {"training.optimizer.lr": 0.01}, "c": {"training.optimizer.lr": 0.02}},
    }
    with pytest.raises(ConfigError, match=r"two variants are called a-b-c: a \+ b-c and a-b \+ c; write one of these"):
        read_plan(write(axes=axes, baseline={"fusion": "a", "lr": "c"}))


def test_a_value_that_stands_twice_is_refused(write):
    file = write()
    file.write_text(file.read_text().replace("    sum:\n", "    concat:\n"))
    with pytest.raises(ConfigError, match="the key 'concat' stands here twice"):
        read_plan(file)


def test_two_variants_that_are_one_experiment_are_named(write):
    axes = {"fusion": MATRIX["axes"]["fusion"], "lr": {"usual": {}, "same": {"training.optimizer.lr": 1e-3}}}
    with pytest.raises(ConfigError, match="the variants concat-usual and concat-same are the same experiment"):
        read_plan(write(axes=axes))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "command line: seed: .*trial.yaml says it; write another matrix file"),
        ("name=x", "command line: name: "),
        ("model.fusion.dropout=0.1", "command line: model.fusion.dropout: the axis 'fusion' of .* sets it in each variant"),
    ],
)
def test_what_the_matrix_decides_is_not_for_the_command_line(write, override, message):
    with pytest.raises(ConfigError, match=message):
        read_plan(write(), [override])


def test_tracked_runs_share_a_group_and_have_their_values_as_tags_and_the_ids_of_untracked_ones(write):
    plain = read_plan(write())
    for more, group, tags in (
        ({"tracking.wandb": "offline"}, "trial", ()),
        ({"tracking.tensorboard": True, "tracking.group": "ours", "tracking.tags": ["mine"]}, "ours", ("mine",)),
    ):
        plan = read_plan(write(overrides=MATRIX["overrides"] | more))
        assert {run.experiment.tracking.group for run in plan.runs} == {group}
        assert plan.runs[2].experiment.tracking.tags == (*tags, "fusion=concat", "lr=high")
        assert [run.label for run in plan.runs] == [run.label for run in plain.runs]
    assert {run.experiment.tracking.group for run in plain.runs} == {None}
