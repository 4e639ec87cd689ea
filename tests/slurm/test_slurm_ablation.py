"""A matrix as array jobs of a real Slurm: preempted, failed, killed, out of memory, submitted again; and its table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import Project, last_weights, until

from mmtrain.ablation import ablate as module
from mmtrain.ablation import live, status
from mmtrain.ablation.ablate import ablate
from mmtrain.ablation.live import status_table
from mmtrain.ablation.plan import Plan, PlannedRun, read_plan
from mmtrain.ablation.slurm import SlurmOptions
from mmtrain.engine.code_version import code_now

# a run without a training: what its order says happens to it
RUN = """
import json, os, pathlib, sys, time
folder, order = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
with order.with_suffix(".starts").open("a") as file: file.write(".")
how = json.loads(order.read_text())
if how["end"] == "fails": sys.exit("first\\nlast words")
if how["end"] == "is killed": os.kill(os.getpid(), 9)
if how["end"] == "eats":
    hoard = bytearray(os.urandom(1) * (400 << 20))
    time.sleep(60)
folder.mkdir(parents=True)
(folder / "config.yaml").touch()
(folder / "environment.json").write_text(json.dumps([how["environment"]]))
record = {"kind": "evaluation", "step": 4, "best": True, "metrics": {"val/funny/auroc": 0.5, "val/loss": 1.0}}
(folder / "metrics.jsonl").write_text(json.dumps(record) + "\\n")
"""
SMALL = ("--mem=256M", "--cpus-per-task=1", "--gres=none")


def write_matrix(folder: Path, fusions: dict[str, Any], seeds: list[int]) -> Path:
    values = {
        "name": "trial",
        "experiment": "experiment.yaml",
        "axes": {"fusion": {name: {"model.fusion": fusion} for name, fusion in fusions.items()}},
        "baseline": {"fusion": "concat"},
        "seeds": seeds,
        "metric": "val/funny/auroc",
    }
    file = folder / "trial.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def states(plan: Plan) -> dict[str, tuple[str, ...]]:
    found = {status.run.label: status for status in live.statuses(plan)}
    return {row[0]: row for row in status_table(plan, found).rows}


@pytest.mark.slow
def test_only_what_is_not_finished_runs_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty runs: three fail, one is killed, one eats more memory than it asked for."""
    monkeypatch.chdir(project.folder)
    for key, value in project.environment.items():
        monkeypatch.setenv(key, value)
    fusions = {name: {"name": name} for name in ("concat", "sum", "mean", "gated")}
    file = write_matrix(project.folder, fusions, seeds=[0, 1, 2, 3, 4])
    plan = read_plan(file)
    ends = dict.fromkeys((run.label for run in plan.runs), "well")
    bad = dict(zip(list(ends)[3::4], ("fails", "is killed", "fails", "eats", "fails"), strict=True))

    def order(run: PlannedRun) -> Path:
        return project.folder / "orders" / run.label.replace("/", "-")

    def command(_: Plan, run: PlannedRun, *, overwrite: bool) -> tuple[str, ...]:
        order(run).parent.mkdir(exist_ok=True)
        order(run).write_text(json.dumps({"end": (ends | bad)[run.label], "environment": code_now() | {"parameters": {}}}))
        return (sys.executable, "-S", "-c", RUN, str(run.folder.path), str(order(run)), *["--overwrite"] * overwrite)

    monkeypatch.setattr(module, "command_of", command)
    monkeypatch.setattr(module, "check_plan", lambda *_: None)
    monkeypatch.setattr(module, "submit_table", lambda *_, **__: "none")
    monkeypatch.setattr(status, "is_finished", lambda experiment: (experiment.folder / "metrics.jsonl").is_file())
    options = SlurmOptions(throttle=4, words=SMALL)
    assert ablate(file, slurm=options)
    assert "submitted 20 runs" in capsys.readouterr().out
    assert ablate(file, slurm=options)
    assert "nothing to submit" in capsys.readouterr().out
    until(lambda: not project.call("squeue", "--noheader"), seconds=120, what=lambda: project.call("squeue"))
    rows = states(plan)
    assert {label for label, row in rows.items() if row[1] == "done"} == set(ends) - set(bad), rows
    notes = {"fails": "last words", "is killed": "killed by signal 9 after: ", "eats": "killed for memory, at "}
    for label, end in bad.items():
        assert rows[label][1] == "failed", rows[label]
        assert rows[label][6].startswith(notes[end]), rows[label]
    bad = {}
    assert ablate(file, slurm=options)
    assert "submitted 5 runs" in capsys.readouterr().out
    until(lambda: not project.call("squeue", "--noheader"), seconds=120, what=lambda: project.call("squeue"))
    assert {row[1] for row in states(plan).values()} == {"done"}
    again = {run.label: order(run).with_suffix(".starts").read_text() for run in plan.runs}
    assert sorted(label for label, starts in again.items() if starts == "..") == sorted(list(ends)[3::4])
    assert {len(starts) for starts in again.values()} == {1, 2}


@pytest.mark.slow
def test_an_array_is_preempted_goes_on_and_ends_in_a_table(project: Project, whole: Path) -> None:
    fusions = {"concat": {"name": "concat", "dropout": 0.0}, "odd": {"name": "attention", "heads": 3}}
    file = write_matrix(project.folder, fusions, seeds=[0])
    plan = read_plan(file)
    words = ("mmtrain.cli", "ablate", "trial.yaml", "--slurm", "--throttle", "2", "--sbatch-args")
    more = "--mem=4G --cpus-per-task=1 --partition=low"
    said = project.call(sys.executable, "-m", *words, more, STEP_SECONDS="1.5")
    array, table = (line.split()[-1] for line in said.split("\n")[0].replace(",", "").partition(" and ")[::2])
    run = plan.runs[0].folder.path.relative_to(project.folder / "runs")
    project.reaches(str(run), 4)
    found = project.call(sys.executable, "-m", "mmtrain.cli", "ablate", "status", "trial.yaml")
    assert "running" in found, found
    assert "1 of 2" in found, found
    project.call("scancel", "--batch", "--signal=USR1", f"{array}_0")
    again = project.wait(f"{array}_0")
    assert (again["JobState"], again["Restarts"]) == ("COMPLETED", "1"), project.said()
    assert project.wait(table)["JobState"] == "COMPLETED", project.said()
    page = json.loads((project.folder / "runs" / "trial" / "ablation.json").read_text())
    assert [entry["state"] for entry in page["runs"]] == ["finished", "failed"]
    assert "heads" in page["runs"][1]["note"]
    assert project.weights(str(run)) == last_weights(whole), "the same settings, and cut by nothing"
