"""Training through the templates, on a real Slurm: preempted, out of time, canceled, its node lost; and on two nodes."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from projects import ROOT, Project, last_weights, until

import mmtrain

TEMPLATES = sorted(path.name for path in (ROOT / "slurm").glob("*.sbatch"))
SLOW = {"STEP_SECONDS": "0.5"}


SMALL = ("--nodelist=127.0.0.2",)


@pytest.mark.slow
def test_slurm_takes_every_template(project: Project) -> None:
    for template in TEMPLATES:
        project.call("slurm/submit.sh", "--test-only", f"slurm/{template}")


def probed(project: Project) -> Path:
    """Let probes stand for Python; gives the folder of their notes."""
    probe = project.folder / "probe.sh"
    probe.write_text(f'#!/bin/sh\nexec {sys.executable} -S {Path(__file__).with_name("probe.py")} "$@"\n')
    probe.chmod(0o755)
    settings = project.folder / "slurm" / "site.env"
    settings.write_text(f"{settings.read_text()}\nPYTHON={probe}\n")
    (notes := project.folder / "notes").mkdir()
    return notes


@pytest.mark.slow
def test_every_template_hands_the_signal_on(project: Project) -> None:
    """To every process behind a launcher, which must not die of it; and each job is requeued once, by its own number."""
    notes = probed(project)
    jobs = {
        "cpu": ("x.yaml",),
        "gpu": ("x.yaml",),
        "node": ("x.yaml",),
        "nodes": ("x.yaml",),
        "prepare": ("2", "x.csv", "x"),
        "ablation": ("x.jsonl",),
    }
    options = {"node": ["--gres=gpu:3"], "nodes": ["--gres=gpu:2"], "prepare": ["--array=1-2"], "ablation": ["--array=0-1"]}
    processes = {"cpu": 1, "gpu": 1, "node": 3, "nodes": 4, "prepare": 1, "ablation": 1}
    numbers = {}
    for name, words in jobs.items():
        named = (f"--job-name={name}", "--mem=100M", *options.get(name, []), f"slurm/{name}.sbatch", *words)
        number = project.submit(*named, PROBES=str(notes))
        numbers[name] = f"{number}_1" if "--array" in str(options.get(name)) else number
        until(partial(heard, notes, f"{name}-listens", processes[name]), seconds=60, what=project.said)
        project.call("scancel", "--batch", "--signal=USR1", numbers[name])
    for name, number in numbers.items():
        ended = project.wait(number)
        assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), (name, project.said())
        assert heard(notes, f"{name}-heard", processes[name]), name
    for name in ("prepare", "ablation"):
        other = project.job(numbers[name].replace("_1", "_2" if name == "prepare" else "_0"))
        assert (other["JobState"], other["Restarts"]) == ("RUNNING", "0"), "the rest of an array is left alone"
        project.call("scancel", "--full", "--signal=KILL", numbers[name].partition("_")[0])


@pytest.mark.slow
def test_a_preemption_by_sigterm_alone_loses_no_job(project: Project, terse_cluster: dict[str, str]) -> None:
    """It reaches the steps of a job first; a script that ended with them would have failed before Slurm requeues it."""
    site = replace(project, environment=project.environment | terse_cluster)
    notes, jobs = probed(site), {}
    for template, node, processes in (("gpu", "127.0.0.2", 1), ("nodes", "127.0.0.3", 2)):
        words = ("--partition=low", "--nodes=1", "--gres=gpu:2", f"--nodelist={node}", f"--job-name={template}")
        jobs[template] = site.submit(*words, f"slurm/{template}.sbatch", "x.yaml", PROBES=str(notes))
        until(partial(heard, notes, f"{template}-listens", processes), seconds=60, what=site.said)
        site.call("sbatch", "--partition=urgent", f"--nodelist={node}", "--exclusive", "--mem=100M", "--wrap", "sleep 1")
    for template, job in jobs.items():
        ended = site.wait(job)
        assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), site.said()
        output = (site.folder / f"slurm-{template}-{job}.out").read_text()
        assert ("waiting for Slurm to requeue" in output) == (template == "nodes")


def heard(notes: Path, name: str, number: int) -> bool:
    return len(list(notes.glob(f"{name}-*"))) == number


@pytest.mark.slow
def test_a_preempted_run_goes_on_by_itself_and_ends_as_one_that_nothing_cut(project: Project, whole: Path) -> None:
    job = project.submit("--partition=low", *SMALL, "slurm/gpu.sbatch", "experiment.yaml", **SLOW)
    project.reaches("run", 4)
    project.call("sbatch", "--partition=urgent", *SMALL, "--exclusive", "--wrap", "sleep 1")
    ended = project.wait(job)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), project.said()
    assert project.weights("run") == last_weights(whole)
    assert not (project.folder / "runs" / "run" / "PREEMPTED").exists()


@pytest.mark.slow
def test_a_run_out_of_time_goes_on_by_itself_and_ends_as_one_that_nothing_cut(project: Project, whole: Path) -> None:
    """A minute is the least that Slurm can be told; it sends a signal up to a minute early."""
    words = ("--time=1", "--signal=B:USR1@20", "slurm/cpu.sbatch", "experiment.yaml")
    job = project.submit(*words, STEP_SECONDS="2.5")
    ended = project.wait(job, seconds=180)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), project.said()
    assert project.weights("run") == last_weights(whole)


@pytest.mark.slow
def test_a_canceled_run_is_saved_is_not_requeued_and_can_be_submitted_again(project: Project, whole: Path) -> None:
    job = project.submit("slurm/cpu.sbatch", "experiment.yaml", **SLOW)
    project.reaches("run", 4)
    project.call("scancel", job)
    ended = project.wait(job)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0"), project.said()
    until(lambda: "ended by SIGTERM" in project.said(), seconds=20, what=project.said)
    assert "the run is saved" in project.said()
    ended = project.wait(project.submit("slurm/cpu.sbatch", "experiment.yaml"))
    assert ended["JobState"] == "COMPLETED", project.said()
    assert "resumed from" in project.said()
    assert project.weights("run") == last_weights(whole)


@pytest.mark.slow
def test_two_nodes_train_as_one_process_does_and_on_when_preempted_or_when_one_is_lost(
    project: Project, whole: Path
) -> None:
    nodes = ("--nodes=2", "--gres=gpu:1", "slurm/nodes.sbatch", "experiment.yaml")
    one = project.submit("--nodes=1", "--gres=gpu:2", "slurm/node.sbatch", "experiment.yaml", "name=one", **SLOW)
    project.reaches("one", 4)
    project.call("scancel", "--batch", "--signal=USR1", one)
    again = project.wait(one)
    assert (again["JobState"], again["Restarts"]) == ("COMPLETED", "1"), project.said()
    two = project.submit(*nodes, "name=two", **SLOW)
    project.reaches("two", 4)
    project.call("scontrol", "update", "NodeName=127.0.0.3", "State=DOWN", "Reason=test")
    project.settles()
    ended = project.wait(two)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), project.said()
    assert project.weights("one") == project.weights("two"), "two processes, on one node or two, cut or not"
    alone, parts = mmtrain.history(whole), mmtrain.history(project.folder / "runs" / "two")
    assert alone.steps["loss/funny"].tolist() == pytest.approx(parts.steps["loss/funny"].tolist(), rel=1e-5)


@pytest.mark.slow
def test_shards_of_a_manifest_are_extracted_and_merged(project: Project) -> None:
    lines = [f"c{number},g{number // 2},text {number},{'abc'[number % 3]}" for number in range(12)]
    (project.folder / "clips.csv").write_text("\n".join(["id,group,text,mood", *lines, ""]))
    words = ("slurm/prepare.sbatch", "2", "clips.csv", "stores/clips", "--task", "mood=multiclass")
    array = project.submit("--array=1-2", *words)
    merge = project.submit(f"--dependency=afterok:{array}", "slurm/merge.sbatch", "2", "stores/clips")
    assert project.wait(merge)["JobState"] == "COMPLETED", project.said()
    project.call(sys.executable, "-m", "data_prep", "extract", "clips.csv", "--out", "stores/whole", *words[4:])
    merged, whole = (pq.read_table(project.folder / f"stores/{name}/samples.parquet") for name in ("clips", "whole"))
    assert merged.sort_by("id").to_pylist() == whole.sort_by("id").to_pylist(), "splits and classes are those of the whole"
