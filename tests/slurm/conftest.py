"""A real Slurm for each test process, from its first such test to its end; and a project folder that submits to it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project

HERE = Path(__file__).parent
OWN = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE / "pacing")]),
    "ACCELERATE_USE_CPU": "1",
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
}


def free_ports(number: int) -> int:
    """The first of so many in a row that nobody listens at, below those that the system hands out."""
    for first in range(20000 + os.getpid() * 10 % 10000, 32000, 10):
        with ExitStack() as probes, suppress(OSError):
            for port in range(first, first + number):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


@contextmanager
def started(**environment: str) -> Iterator[dict[str, str]]:
    """A cluster for as long as the block takes."""
    root = tempfile.mkdtemp(prefix="mmtrain-slurm-")  # munge wants a folder that others may pass through
    script, settings = str(HERE / "cluster.sh"), dict(os.environ) | environment
    done = subprocess.run(
        [script, "start", root, str(free_ports(3))], env=settings, capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip(f"no Slurm to test with: {done.stdout.strip()}")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield dict(line.split("=", 1) for line in done.stdout.splitlines())
    finally:
        subprocess.run([script, "stop", root], check=False, timeout=60)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """What has to be in the environment of whoever asks this Slurm."""
    with started() as found:
        yield found


@pytest.fixture
def terse_cluster() -> Iterator[dict[str, str]]:
    """One that sends SIGTERM, and not the user's signal, to what it preempts: Slurm's default."""
    with started(SLURM_TEST_CTLD="idle_on_node_suspend") as found:
        yield found


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from data_prep.synth import synthesize

    folder = tmp_path_factory.mktemp("stores") / "clips"
    synthesize(folder, name="clips", samples=80, modalities={"audio": 6}, tasks={"funny": "binary"}, seed=1)
    return folder


def write_experiment(folder: Path, store: Path) -> None:
    experiment = {
        "name": "run",
        "runs": str(folder / "runs"),
        "datasets": {"clips": {"store": str(store)}},
        "streams": {"clips": {"dataset": "clips", "tasks": ["funny"]}},
        "model": {
            "dim": 8,
            "sequences": {"audio": {"name": "linear"}},
            "fusion": {"name": "concat", "dropout": 0.0},
        },
        "curriculum": {"window": 4},
        "batch": {"size": 8},
        "training": {"epochs": 2, "steps_per_epoch": 20, "optimizer": {"lr": 0.01}},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))


@pytest.fixture(scope="session")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the projects' experiment that nothing cuts."""
    folder = tmp_path_factory.mktemp("whole")
    write_experiment(folder, store)
    words = [sys.executable, "-m", "mmtrain.train", "--config", "experiment.yaml"]
    subprocess.run(words, cwd=folder, env=dict(os.environ) | OWN, check=True, capture_output=True)
    return folder / "runs" / "run"


@pytest.fixture
def project(cluster: dict[str, str], store: Path, tmp_path: Path) -> Project:
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    settings = tmp_path / "slurm" / "site.env"
    settings.write_text(f"{settings.read_text()}\nPYTHON={sys.executable}\n")
    write_experiment(tmp_path, store)
    return Project(tmp_path, dict(os.environ) | cluster | OWN)
