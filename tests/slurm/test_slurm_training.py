"""Training through the templates, on a real Slurm: preempted, out of time, canceled, its node lost; and on two nodes."""

import signal

import numpy as np
import pytest
from projects import ROOT, Project

import mmtrain

TEMPLATES = sorted(path.name for path in (ROOT / "slurm").glob("*.sbatch"))
SLOW = {"STEP_SECONDS": "0.3"}


@pytest.fixture
def whole(project: Project) -> bytes:
    """The last weights of the run that nothing cut."""
    project.call("true")
    return project.unbroken()


@pytest.mark.slow
def test_a_preempted_run_goes_on_by_itself_and_ends_as_one_that_nothing_cut(project: Project, whole: bytes) -> None:
    job = project.submit("--partition=low", "--nodelist=127.0.0.2", "slurm/gpu.sbatch", "experiment.yaml", **SLOW)
    project.reaches("run", 4)
    project.call("sbatch", "--partition=urgent", "--nodelist=127.0.0.2", "--exclusive", "--wrap", "sleep 1")
    ended = project.wait(job)
    print(project.said(), ended)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1")
    assert project.weights("run") == whole
