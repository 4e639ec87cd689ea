"""Training through the templates, on a real Slurm: preempted, out of time, canceled, its node lost; and on two nodes."""

from pathlib import Path

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
    assert project.wait(one)["Restarts"] == "1", project.said()
    two = project.submit(*nodes, "name=two", **SLOW)
    project.reaches("two", 4)
    project.call("scontrol", "update", "NodeName=127.0.0.3", "State=DOWN", "Reason=test")
    project.settles()
    ended = project.wait(two)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), project.said()
    assert project.weights("one") == project.weights("two"), "two processes, on one node or two, cut or not"
    alone, parts = mmtrain.history(whole), mmtrain.history(project.folder / "runs" / "two")
    assert alone.steps["loss/funny"].tolist() == pytest.approx(parts.steps["loss/funny"].tolist(), rel=1e-5)
