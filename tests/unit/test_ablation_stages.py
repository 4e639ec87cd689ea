"""A matrix over an experiment with stages: which stages are one run, what their commands say, and in what order they go."""

import functools
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmtrain.ablation import ablate as module
from mmtrain.ablation import processes, status
from mmtrain.ablation.ablate import ablate
from mmtrain.ablation.plan import Plan, PlannedRun, read_plan
from mmtrain.compatibility import stores_key
from mmtrain.config import load_experiment
from mmtrain.engine.code_version import code_now
from mmtrain.errors import CheckpointError, ConfigError

EXPERIMENT = {
    "name": "base",
    "runs": "runs",
    "datasets": {"a": {"store": "a"}},
    "model": {"dim": 8, "sequences": {"audio": {"name": "linear"}}},
    "training": {"epochs": 4},
    "stages": {
        "first": {"streams": {"a": {"dataset": "a", "tasks": ["s"]}}, "training": {"epochs": 1}},
        "last": {"streams": {"a": {"dataset": "a", "tasks": ["t"]}}},
    },
}
NOW = functools.cache(code_now)  # git is slow
RATES = {name: {"stages.last.training.optimizer.lr": lr} for name, lr in (("high", 1e-2), ("low", 1e-4))}
SOURCES = {
    "same": {},
    "wide": {"stages.first.model.dim": 16, "stages.last.model.dim": 16},
    "none": {"stages.last.initial": None},
}


class Files:
    """An experiment and a matrix over it, in the folder where the test runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.matrix = root, root / "trial.yaml"
        self.experiment()
        self.write()

    def experiment(self, **changes: Any) -> None:
        (self.root / "base.yaml").write_text(yaml.safe_dump(EXPERIMENT | changes, sort_keys=False))

    def write(self, **changes: Any) -> Path:
        values: dict[str, Any] = {"name": "trial", "experiment": "base.yaml", "axes": {"lr": RATES}, "seeds": [0, 1]}
        values |= {"baseline": {"lr": "high"}, "metric": "val/t/mae"} | changes
        self.matrix.write_text(yaml.safe_dump(values, sort_keys=False))
        return self.matrix


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    return Files(tmp_path)


def of(plan: Plan, name: str, seed: int = 0) -> PlannedRun:
    return next(run for run in plan.runs if run.variant and (run.variant.name, run.seed) == (name, seed))


def test_variants_that_differ_in_the_last_stage_share_the_first(files: Files) -> None:
    plan = read_plan(files.matrix)
    assert len(plan.runs) == 4
    assert len(plan.shared) == 2, "one for each seed"
    for run in plan.runs:
        source = next(stage for stage in plan.shared if stage.seed == run.seed)
        assert run.needs == (source.label,)
        assert run.experiment.initial is not None
        assert run.experiment.initial.run == str(source.folder.path)
        assert (run.experiment.initial.checkpoint, run.experiment.initial.match) == ("best", "shapes")
        assert run.folder.path == Path("runs/trial") / run.label / "last"
        assert source.folder.path == Path("runs/trial") / source.label
        assert source.label.startswith("shared/")
        assert source.label.endswith("/first")
        assert source.needs == ()


def test_the_words_make_the_run_by_hand(files: Files) -> None:
    plan = read_plan(files.matrix)
    for run in (*plan.shared, *plan.runs):
        assert load_experiment("base.yaml", list(run.words)) == run.experiment


def test_each_pretraining_has_its_own_run_and_none_has_none(files: Files) -> None:
    axes = {"source": SOURCES, "lr": RATES}
    plan = read_plan(files.write(axes=axes, baseline={"source": "none", "lr": "high"}))
    assert len({run.variant for run in plan.runs}) == 6
    assert len(plan.shared) == 4, "two pretrainings with two seeds each"
    assert of(plan, "none-high").needs == ()
    assert of(plan, "none-high").experiment.initial is None
    assert of(plan, "same-high").needs == of(plan, "same-low").needs
    assert of(plan, "same-high").needs != of(plan, "wide-high").needs


def test_a_seed_of_its_own_makes_one_pretraining_for_all_seeds(files: Files) -> None:
    plan = read_plan(files.write(overrides={"stages.first.seed": 7}))
    assert [stage.experiment.seed for stage in plan.shared] == [7]
    assert {run.experiment.seed for run in plan.runs} == {0, 1}
    with pytest.raises(ConfigError, match="seed: changes nothing: set again by first and last"):
        read_plan(files.write(overrides={"stages.first.seed": 7, "stages.last.seed": 7}))


def test_what_a_stage_sets_by_itself_is_no_word_of_its_command(files: Files) -> None:
    """`training` of the matrix is read by the last stage; of the first one, epochs are its own."""
    plan = read_plan(files.write(overrides={"training": {"epochs": 9, "eval_every": 50}}))
    first, last = plan.shared[0], plan.runs[0]
    assert (first.experiment.training.epochs, last.experiment.training.epochs) == (1, 9)
    assert first.experiment.training.eval_every == 50
    assert 'training={"eval_every": 50}' in first.words
    assert 'training={"epochs": 9, "eval_every": 50}' in last.words


def test_ids_hold_neither_seed_nor_name_and_hang_on_the_first_stage(files: Files) -> None:
    def ids() -> list[str]:
        plan = read_plan(files.matrix)
        return [*(variant.id for variant in plan.variants), *(stage.label for stage in plan.shared)]

    known = ids()
    files.experiment(name="other", runs="elsewhere")
    assert ids() == known
    files.write(seeds=[1], name="another")
    assert ids() == [known[0], known[1], known[3]]
    files.write(overrides={"stages.first.training.epochs": 2})
    assert not set(ids()) & set(known), "runs that begin with other weights are other runs"


def test_other_files_of_an_earlier_stage_are_those_of_the_shared_run(files: Files) -> None:
    """A sampler that refers to the first stage's run; a third stage needs both."""
    sampler = {"name": "doremi", "reference": "runs/${name}/first"}
    third = EXPERIMENT["stages"]["last"] | {"curriculum": {"sampler": sampler}}
    files.experiment(stages=EXPERIMENT["stages"] | {"third": third})
    plan = read_plan(files.write(axes={"lr": {"high": {"stages.third.training.optimizer.lr": 1e-2}, "usual": {}}}))
    assert [stage.label.rpartition("/")[2] for stage in plan.shared] == ["first", "last"] * 2
    first, last = plan.shared[:2]
    run = of(plan, "high")
    assert run.experiment.curriculum.sampler.reference == str(first.folder.path)
    assert run.experiment.initial.run == str(last.folder.path)
    assert run.needs == (first.label, last.label)
    assert last.needs == (first.label,)


def test_stages_that_only_other_stages_need_are_not_trained(files: Files) -> None:
    """The third begins anew, so that neither the second nor the first, which that one begins with, is of any use."""
    files.experiment(stages=EXPERIMENT["stages"] | {"third": EXPERIMENT["stages"]["last"] | {"initial": None}})
    plan = read_plan(files.write(axes={"lr": {"high": {"stages.third.training.optimizer.lr": 1e-2}, "usual": {}}}))
    assert plan.shared == ()


RUN = """
import json, pathlib, sys
folder, how = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
if how["fails"]: sys.exit("first\\nlast words")
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").touch()
(folder / "environment.json").write_text(json.dumps([how["environment"]]))
evaluation = {"kind": "evaluation", "best": True, "metrics": {"val/t/mae": 1.0}}
(folder / "metrics.jsonl").write_text(json.dumps(evaluation) + "\\n")
(folder / "initial.json").write_text(json.dumps({"source": {"manifest": how["manifest"]}}))
best = folder / "checkpoints" / "best"
best.mkdir(parents=True, exist_ok=True)
(best / "manifest.json").write_text(how["weights"])
(folder / "how").write_text(sys.argv[3])
"""


class Bench(Files):
    """Runs of a few lines of Python. `fails`: stages that do; `weights`: what a run of a stage leaves."""

    fails: frozenset[str] = frozenset()
    weights = "old"

    def command(self, _: Plan, run: PlannedRun, *, overwrite: bool) -> tuple[str, ...]:
        how = {
            "fails": run.folder.path.name in self.fails,
            "environment": NOW(),
            "weights": self.weights,
            "manifest": hashlib.sha256(self.weights.encode()).hexdigest(),
        }
        return (
            sys.executable, "-S", "-c", RUN, str(run.folder.path), json.dumps(how), "anew" if overwrite else "on"
        )  # fmt: skip

    def json(self) -> dict[str, Any]:
        return json.loads((self.root / "runs" / "trial" / "ablation.json").read_text())

    def states(self, kind: str = "runs") -> list[str]:
        return [run["state"] for run in self.json()[kind]]


def finished(experiment: Any) -> bool:
    if (experiment.folder / "misfit").exists():
        raise CheckpointError(
            "cannot resume, the run was made with other settings:\n  stores.a: was 7, is 32\nPut them back"
        )
    return (experiment.folder / "how").exists()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    made = Bench(tmp_path)
    monkeypatch.setattr(module, "command_of", made.command)
    monkeypatch.setattr(module, "check_plan", lambda *_: None)
    monkeypatch.setattr(status, "is_finished", finished)
    monkeypatch.setattr(status, "code_now", NOW)
    monkeypatch.setattr(processes, "_POLL", 0.005)
    return made


def begun(text: str) -> list[str]:
    """The beginnings of what began: `shared`, `high`, `low`, in order."""
    return [line.split("/")[0].split("-")[0] for line in text.splitlines() if ": begins, log " in line]


def test_stages_go_first_and_once(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(bench.matrix, jobs=3)
    out = capsys.readouterr().out
    assert sorted(begun(out)) == ["high", "high", "low", "low", "shared", "shared"]
    assert begun(out)[0] == "shared"
    labels = [line.split(":")[0] for line in out.splitlines() if ": begins, log " in line]
    ends = [line.split(":")[0] for line in out.splitlines() if ": finished; " in line]
    for run in read_plan(bench.matrix).runs:
        assert out.index(f"{run.needs[0]}: finished") < out.index(f"{run.label}: begins")
    assert set(labels) == set(ends)
    assert bench.states("shared") == ["finished"] * 2
    assert sorted(bench.json()["shared"][0]["used_by"])[0].startswith("high-")
    assert "## Stages that runs begin with" in (bench.root / "runs/trial/ablation.md").read_text()
    assert ablate(bench.matrix)
    assert begun(capsys.readouterr().out) == []
    bench.write(axes={"lr": RATES | {"usual": {}}})
    assert ablate(bench.matrix)
    assert begun(capsys.readouterr().out) == ["usual", "usual"], "a new variant begins with what is there"


def test_what_needs_a_stage_that_fails_waits_and_says_for_what(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.fails = frozenset({"first"})
    bench.write(axes={"source": {"same": {}, "none": SOURCES["none"]}}, baseline={"source": "none"})
    assert not ablate(bench.matrix)
    out = capsys.readouterr().out
    plan = read_plan(bench.matrix)
    label, stage = of(plan, "same").label, plan.shared[0].label
    assert begun(out) == ["shared", "shared", "none", "none"], "what does not need it goes on"
    said = f"{label}: waiting: for {stage}, which is failed: last words"
    assert f"{label}: passed over, waiting: for {stage}, which is failed: last words" in out
    assert said in bench.json()["open"]
    assert f"{stage}: failed: last words" in bench.json()["open"]
    assert bench.states() == ["finished"] * 2 + ["waiting"] * 2
    bench.fails = frozenset()
    assert ablate(bench.matrix)
    assert begun(capsys.readouterr().out) == ["shared", "shared", "same", "same"]
    assert bench.json()["open"] == []


def test_a_stage_is_not_trained_for_runs_that_have_begun(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.fails = frozenset({"last"})
    assert not ablate(bench.matrix)
    for run in read_plan(bench.matrix).runs:  # begun, and not finished
        run.folder.path.mkdir(parents=True)
        run.folder.config.touch()
        run.folder.environment.write_text(json.dumps([NOW()]))
    shutil.rmtree(bench.root / "runs" / "trial" / "shared")
    bench.fails = frozenset()
    capsys.readouterr()
    assert ablate(bench.matrix)
    assert "shared" not in begun(capsys.readouterr().out)
    assert not any("shared" in line for line in bench.json()["open"])


def test_a_stage_of_other_settings_holds_up_what_has_not_begun(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(bench.matrix)
    plan = read_plan(bench.matrix)
    (plan.shared[0].folder.path / "misfit").touch()
    shutil.rmtree(of(plan, "low").folder.path.parent)
    capsys.readouterr()
    assert not ablate(bench.matrix)
    assert begun(capsys.readouterr().out) == []
    assert (
        f"{of(plan, 'low').label}: waiting: for {plan.shared[0].label}, which is of other settings: stores.a: was 7, is 32"
        in bench.json()["open"]
    )
    (plan.shared[0].folder.path / "misfit").unlink()


def test_other_weights_of_a_stage_make_what_began_with_it_old(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(bench.matrix)
    plan = read_plan(bench.matrix)
    stage, *_ = plan.shared
    (stage.folder.checkpoints / "best" / "manifest.json").write_text("new")
    capsys.readouterr()
    assert ablate(bench.matrix)
    said = f"{stage.label} has other weights than it began with (--rerun-stale trains anew): "
    assert said + ", ".join(of(plan, name).label for name in ("high", "low")) in bench.json()["open"]
    bench.weights = "new"
    assert ablate(bench.matrix, rerun_stale=True)
    assert begun(capsys.readouterr().out) == ["high", "low"]
    assert (of(plan, "low").folder.path / "how").read_text() == "anew"
    assert bench.json()["open"] == []


def test_a_stage_that_is_remade_takes_its_runs_along(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(bench.matrix)
    plan = read_plan(bench.matrix)
    environment = plan.shared[0].folder.environment
    environment.write_text(environment.read_text().replace('"mmtrain": "', '"mmtrain": "0.'))
    capsys.readouterr()
    assert ablate(bench.matrix, rerun_stale=True)
    assert begun(capsys.readouterr().out) == ["shared", "high", "low"]
    assert {(of(plan, name).folder.path / "how").read_text() for name in ("high", "low")} == {"anew"}


def test_a_dry_run_shows_the_stages_first(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(bench.matrix, dry_run=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    assert [line.split("/")[0] for line in lines[:2]] == ["# shared", "# shared"]
    assert lines[2].endswith("/first, which is not begun")
    assert ": waiting: for shared/" in lines[2]


def test_opened_stores_are_of_the_datasets_that_a_stage_reads(files: Files) -> None:
    """Two stages with the same datasets, of which each reads one, open different stores."""
    other = {"streams": {"b": {"dataset": "b", "tasks": ["s"]}}}
    files.experiment(datasets={"a": {"store": "a"}, "b": {"store": "b"}}, stages={**EXPERIMENT["stages"], "first": other})
    plan = read_plan(files.matrix)
    keys = [stores_key(run.experiment) for run in (plan.shared[0], *plan.runs[:2])]
    assert keys[0] != keys[1] == keys[2]
