"""`mmtrain ablate` with real runs: killed in the middle and called again, a variant that fails, the test split."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from lives import live, weights

import mmtrain
from mmtrain.ablation.plan import check_plan, read_plan
from mmtrain.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
LONG = {"training.epochs": 2, "training.steps_per_epoch": 60, "training.checkpoint_every": 20}

LONG_STAGE = {"epochs": 2, "steps_per_epoch": 60, "checkpoint_every": 20}


@pytest.fixture
def matrix(fields: Path) -> Path:
    """Two fusions that train and one that cannot be built, with two seeds each."""
    values = {
        "name": "trial",
        "experiment": fields.name,
        "overrides": LONG,
        "axes": {
            "fusion": {
                "concat": {"model.fusion": {"name": "concat"}},
                "odd": {"model.fusion": {"name": "attention", "heads": 3}},
                "sum": {"model.fusion": {"name": "sum"}},
            }
        },
        "baseline": {"fusion": "concat"},
        "seeds": [3, 4],
        "metric": "val/funny/average_precision",
        "also": ["val/loss"],
    }
    file = fields.with_name("trial.yaml")
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def begin(matrix: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "mmtrain.cli", "ablate", str(matrix), *words]
    return subprocess.Popen(
        ["env", "--default-signal=INT", *command],  # which a shell takes from what it starts in the background
        cwd=matrix.parent,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def call(matrix: Path, *words: str) -> tuple[int, str]:
    """Exit code and output."""
    process = begin(matrix, *words)
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def wait_for(file: Path) -> None:
    end = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < end, f"{file} never came"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_ends_in_a_table(matrix: Path) -> None:
    plan = read_plan(matrix)
    folder = matrix.parent / "runs" / "trial"
    cut = next(run for run in plan.runs if (run.variant.name, run.seed) == ("concat", 4)).folder.path
    first = begin(matrix)
    wait_for(cut / "checkpoints" / "step-00000020")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    code, out = call(matrix)
    assert code == 1, out
    concat, odd, total = (variant.id for variant in plan.variants)
    assert f"{concat}/seed-3: begins" not in out, "what is finished stays"
    assert out.count(": begins") == 5
    log = (folder / "logs" / concat / "seed-4.log").read_text()
    assert "the run is saved. Continue with the same command" in log, "an orphan saves and ends"
    assert "resumed from" in log
    for seed in (3, 4):
        assert f"{odd}/seed-{seed}: failed: error: " in out
    found = json.loads((folder / "ablation.json").read_text())
    assert [run["state"] for run in found["runs"]] == ["finished"] * 2 + ["failed"] * 2 + ["finished"] * 2
    check_numbers(found, folder, (concat, total))
    check_alone(matrix, cut)
    code, out = call(matrix, "--final", "sum", "--jobs", "2")
    assert code == 0, out
    assert [json.loads(line)["run"] for line in (folder / "test_reads.jsonl").read_text().splitlines()] == [
        f"{total}/seed-3",
        f"{total}/seed-4",
    ]
    tested = json.loads((folder / "ablation.json").read_text())["test"]
    scored = json.loads((folder / total / "seed-3" / "evaluation" / "test.json").read_text())["metrics"]
    assert tested[0]["values"][0] == scored["test/funny/average_precision"]
    assert odd not in out.partition("test_reads")[0].partition("Test")[2]


def check_numbers(found: dict[str, object], folder: Path, ids: tuple[str, str]) -> None:
    """Values at the evaluation that selection.metric chose, parameters as counted, time as logged."""
    rows = {row["id"]: row for row in found["variants"]}
    values = {}
    for id_ in ids:
        logs = [mmtrain.history(folder / id_ / f"seed-{seed}").evaluations for seed in (3, 4)]
        values[id_] = [log["val/funny/average_precision"][log["val/loss"].argmax()] for log in logs]  # mode: max
        assert rows[id_]["values"] == pytest.approx(values[id_])
        assert rows[id_]["cost"]["parameters"] >= rows[id_]["cost"]["trained"] > 0
        assert rows[id_]["cost"]["samples_per_second"] > 0
    epochs = [mmtrain.history(folder / ids[1] / f"seed-{seed}").epochs for seed in (3, 4)]  # of runs that nothing cut
    assert rows[ids[1]]["cost"]["seconds"] == pytest.approx(sum(found["seconds"].sum() for found in epochs) / 2, abs=0.01)
    assert rows[ids[1]]["cost"]["peak_memory"] == pytest.approx(sum(found["peak_memory_mib"].max() for found in epochs) / 2)
    pairs = zip(*(values[id_] for id_ in reversed(ids)), strict=True)
    assert rows[ids[1]]["difference"]["mean"] == pytest.approx(sum(ours - theirs for ours, theirs in pairs) / 2)


def check_alone(matrix: Path, cut: Path) -> None:
    """The run that was cut ended as one that nothing cut."""
    run = next(run for run in read_plan(matrix).runs if run.folder.path == cut)
    words = ["train", "--config", str(matrix.with_name("experiment.yaml")), *run.words, "name=alone"]
    alone = live(words, cwd=matrix.parent)
    assert alone.code == 0, alone.err
    assert weights(matrix, "alone") == (cut / "checkpoints" / "last" / "model.safetensors").read_bytes()


def test_every_variant_is_checked_before_the_first_trains(matrix: Path) -> None:
    values = yaml.safe_load(matrix.read_text())
    check_plan(matrix, read_plan(matrix))
    for changes, kind, message in (
        ({"metric": "val/funny/acuracy"}, ConfigError, "metric: no metric 'val/funny/acuracy'; did you mean"),
        ({"also": ["val/los"]}, ConfigError, "also: no metric 'val/los'; did you mean 'val/loss'"),
        (
            {"axes": {"fusion": {"concat": {}, "far": {"datasets.clips.store": "nowhere"}}}},
            DataError,
            "trial.yaml: variant far: .*nowhere",
        ),
    ):
        matrix.write_text(yaml.safe_dump(values | changes, sort_keys=False))
        with pytest.raises(kind, match=message):
            check_plan(matrix, read_plan(matrix))


@pytest.mark.slow
def test_a_stage_is_trained_once_for_all_that_begin_with_it(fields: Path) -> None:
    """Killed in the stage and called again; both variants begin with its one best checkpoint, a third with none."""
    values = yaml.safe_load(fields.read_text())
    streams = values.pop("streams")
    stages = {
        "first": {"streams": {"calls": streams["calls"]}, "training": LONG_STAGE},
        "last": {"streams": {"clips": streams["clips"]}, "training": {"steps_per_epoch": 4, "eval_every": 4}},
    }
    fields.write_text(yaml.safe_dump(values | {"stages": stages}, sort_keys=False))
    matrix = fields.with_name("stages.yaml")
    rates = {name: {"stages.last.training.optimizer.lr": lr} for name, lr in (("high", 0.02), ("low", 0.001))}
    axes = {"rate": rates | {"alone": {"stages.last.initial": None}}}
    told = {"name": "stages", "experiment": fields.name, "axes": axes, "baseline": {"rate": "high"}, "seeds": [3]}
    matrix.write_text(yaml.safe_dump(told | {"metric": "val/funny/auroc"}, sort_keys=False))
    plan = read_plan(matrix)
    (stage,) = plan.shared
    root = matrix.parent
    first = begin(matrix)
    wait_for(root / stage.folder.checkpoints / "step-00000020")
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 130, out
    code, out = call(matrix, "--jobs", "2")
    assert code == 0, out
    assert out.count(f"{stage.label}: begins") == 1
    assert "resumed from" in (root / "runs" / "stages" / "logs" / f"{stage.label}.log").read_text()
    sources = [json.loads((root / run.folder.initial).read_text())["source"] for run in plan.runs[:2]]
    assert sources[0] == sources[1]
    assert not (root / plan.runs[2].folder.initial).exists()
    code, out = call(matrix)
    assert (code, out.count(": begins")) == (0, 0), out
    found = json.loads((root / "runs" / "stages" / "ablation.json").read_text())
    assert [run["state"] for run in found["shared"]] == ["finished"]
    assert len(found["shared"][0]["used_by"]) == 2
