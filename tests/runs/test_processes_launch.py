"""The doors: every way to start a run gives the same bits, and launchers with several processes fail in the open."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from lives import Write, free_port, live, live_together, results

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TRAIN = str(ROOT / "mmtrain" / "train.py")


@contextmanager
def started(command: Sequence[str], cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, which does not outlive the block."""
    output = (cwd / "said.txt").open("w")
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(
        command, cwd=cwd, env=settings, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.close()


def said(cwd: Path) -> str:
    return (cwd / "said.txt").read_text()


def launch(*words: str) -> list[str]:
    return [
        str(BIN / "accelerate"),
        "launch",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        *words,
    ]


def two_processes() -> list[str]:
    return launch("--multi_gpu", "--num_processes", "2", "--main_process_port", str(free_port()), TRAIN)


@pytest.mark.slow
def test_every_door_gives_the_same_bits(write_experiment: Write, tmp_path: Path) -> None:
    file = write_experiment(training={"epochs": 1, "steps_per_epoch": 4, "eval_every": None})
    doors = {
        "module": [sys.executable, "-m", "mmtrain.train"],
        "path": [sys.executable, TRAIN],
        "command": [sys.executable, "-m", "mmtrain.cli", "train"],
        "launch": launch("--cpu", "--num_processes", "1", TRAIN),
        "warned": launch("--cpu", "--num_processes", "2", TRAIN),
    }
    weights, logs = {}, {}
    for name, words in doors.items():
        with started([*words, "--config", str(file), f"name={name}"], tmp_path) as process:
            assert process.wait(timeout=120) == 0, said(tmp_path)
        weights[name] = (tmp_path / "runs" / name / "checkpoints/last/model.safetensors").read_bytes()
        logs[name] = (tmp_path / "runs" / name / "metrics.jsonl").read_bytes()
        warned = "warning: 2 processes were asked for, 1 runs" in said(tmp_path)
        assert warned == (name == "warned"), said(tmp_path)
    assert len(set(weights.values())) == len(set(logs.values())) == 1


@pytest.mark.slow
def test_ctrl_c_on_a_launcher_of_two_processes_saves(write_experiment: Write, tmp_path: Path) -> None:
    file = write_experiment(training={"epochs": 2000, "eval_every": None})
    with started([*two_processes(), "--config", str(file)], tmp_path, ACCELERATE_USE_CPU="1") as process:
        wait_for(tmp_path / "runs" / "run", process)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    assert "the run is saved. Continue with the same command and --resume" in said(tmp_path)
    assert f"stopped at step {saved_step(tmp_path / 'runs' / 'run')};" in said(tmp_path)


def saved_step(run: Path) -> int:
    """The step of the last checkpoint; 0 before the first."""
    last = run / "checkpoints" / "last"
    return int(last.resolve().name.removeprefix("step-")) if last.exists() else 0


def wait_for(run: Path, process: subprocess.Popen[str], *, step: int = 1, seconds: float = 120) -> None:
    """Until the run has saved this step, or a later one."""
    end = time.monotonic() + seconds
    while saved_step(run) < step:
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, f"step {step} not reached within {seconds} s"
        time.sleep(0.02)


def kill(what: str, launcher: subprocess.Popen[str]) -> list[psutil.Process]:
    """Kill one of the processes, their launcher, or all; gives all of them."""
    everyone = [psutil.Process(launcher.pid), *psutil.Process(launcher.pid).children(recursive=True)]
    workers = [process for process in everyone if process.environ().get("RANK") == "1"]
    assert workers, "no process of rank 1 among the launcher's"
    for process in {"process": workers, "launcher": everyone[:1], "all": everyone}[what]:
        process.kill()
    return everyone


@pytest.mark.slow
def test_a_launched_run_is_killed_in_part_or_whole_leaves_no_orphan_and_goes_on(fields: Path, tmp_path: Path) -> None:
    sizes = ["training.steps_per_epoch=60", "training.epochs=4", "training.checkpoint_every=5", "training.eval_every=60"]
    arguments, runs = ["--config", str(fields), *sizes], tmp_path / "runs"
    lives = live_together(["train", *arguments, "name=whole"], cwd=tmp_path, world=2)
    assert [life.code for life in lives] == [0, 0], lives
    reached = 0
    for what in ("process", "launcher", "all", None):
        resumes = ["--resume"] if reached else []
        command = [*two_processes(), *arguments, *resumes]
        with started(command, tmp_path, ACCELERATE_USE_CPU="1") as process:
            if what is None:
                assert process.wait(timeout=120) == 0, said(tmp_path)
                break
            wait_for(runs / "run", process, step=reached + 20)
            everyone = kill(what, process)
            _, alive = psutil.wait_procs(everyone, timeout=20)
            assert not alive, (what, said(tmp_path))
        if what == "launcher":
            assert "the run is saved. Continue with the same command and --resume" in said(tmp_path)
        reached = saved_step(runs / "run")
        assert 20 <= reached < 240
    assert results(runs / "run") == results(runs / "whole")


def fail_on_second_process() -> None:
    """The second process meets a sample that cannot be read, at its third step."""
    from mmtrain.engine import loop
    from mmtrain.errors import DataError

    train_step = loop.train_step

    def failing(run: object, inputs: object) -> object:
        if os.environ["RANK"] == "1" and inputs.step == 2:  # type: ignore[attr-defined]
            raise DataError("sample 'x7': NaN or Inf in audio")
        return train_step(run, inputs)  # type: ignore[arg-type]

    loop.train_step = failing  # type: ignore[assignment]


@pytest.mark.slow
def test_one_process_that_fails_ends_the_other_within_seconds(write_experiment: Write, tmp_path: Path) -> None:
    file = write_experiment()
    lives = live_together(["train", "--config", str(file)], cwd=tmp_path, world=2, patch=fail_on_second_process, timeout=60)
    assert [life.code for life in lives] == [2, 2], lives
    assert lives[1].err == "error: sample 'x7': NaN or Inf in audio\n"
    assert lives[0].err.startswith("error: another process of this run ended or did not answer")
    assert "Traceback" not in lives[0].err


def stall_second_process(seconds: float) -> None:
    """The second process stops answering at its third step, and nobody waits for it longer than `seconds`."""
    from datetime import timedelta

    from mmtrain import training
    from mmtrain.engine import loop

    training.PATIENCE = timedelta(seconds=seconds)
    train_step = loop.train_step

    def stalling(run: object, inputs: object) -> object:
        if os.environ["RANK"] == "1" and inputs.step == 2:  # type: ignore[attr-defined]
            time.sleep(3 * seconds)
            os._exit(9)
        return train_step(run, inputs)  # type: ignore[arg-type]

    loop.train_step = stalling  # type: ignore[assignment]


@pytest.mark.slow
def test_a_process_that_stops_answering_is_not_waited_for_for_ever(write_experiment: Write, tmp_path: Path) -> None:
    file = write_experiment()
    began = time.monotonic()
    patch = partial(stall_second_process, 4.0)
    lives = live_together(["train", "--config", str(file)], cwd=tmp_path, world=2, patch=patch, timeout=60)
    assert time.monotonic() - began < 50
    assert lives[0].code == 2, lives
    assert "another process of this run ended or did not answer" in lives[0].err


def leave_second_process(how: str) -> None:
    """The second process is gone, or stands still, at its third step; nobody waits for it longer than four seconds."""
    from datetime import timedelta

    from mmtrain import training
    from mmtrain.engine import loop

    training.PATIENCE = timedelta(seconds=4)
    train_step = loop.train_step

    def leaving(run: object, inputs: object) -> object:
        if os.environ["RANK"] == "1" and inputs.step == 2:  # type: ignore[attr-defined]
            if how == "stopped":
                subprocess.Popen(["sh", "-c", f"sleep 15; kill -KILL {os.getpid()}"])
                os.kill(os.getpid(), signal.SIGSTOP)
            elif how == "exits":
                os._exit(0)
            else:
                raise RuntimeError("a bug")
        return train_step(run, inputs)  # type: ignore[arg-type]

    loop.train_step = leaving  # type: ignore[assignment]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("stopped", -signal.SIGKILL), ("exits", 0), ("raises", 1)])
def test_however_a_process_is_lost_the_other_ends_soon_and_says_why(fields: Path, how: str, code: int) -> None:
    began = time.monotonic()
    patch = partial(leave_second_process, how)
    lives = live_together(["train", "--config", str(fields)], cwd=fields.parent, world=2, patch=patch, timeout=60)
    assert time.monotonic() - began < 50
    assert [life.code for life in lives] == [2, code], lives
    assert lives[0].err.startswith("error: another process of this run ended or did not answer")
    assert ("RuntimeError: a bug" in lives[1].err) == (how == "raises")


def alone() -> None:
    os.environ.pop("ACCELERATE_USE_CPU")


def test_processes_that_would_train_alone_are_refused(write_experiment: Write, tmp_path: Path) -> None:
    """Two processes on CPUs without ACCELERATE_USE_CPU=1 are two runs that write into one folder."""
    file = write_experiment()
    lives = live_together(["train", "--config", str(file)], cwd=tmp_path, world=2, patch=alone)
    assert [life.code for life in lives] == [2, 2], lives
    for life in lives:
        assert "2 processes were started, and each would train alone" in life.err
        assert "ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes 2" in life.err
    assert not (tmp_path / "runs").exists()


def test_a_batch_smaller_than_the_processes_is_refused(write_experiment: Write, tmp_path: Path) -> None:
    file = write_experiment(batch={"size": 1})
    lives = live_together(["train", "--config", str(file)], cwd=tmp_path, world=2)
    assert {life.code for life in lives} == {2}
    assert lives[0].err == "error: batch.size: 1 samples cannot be shared by 2 processes\n"


def told_to_shard() -> None:
    os.environ["ACCELERATE_USE_FSDP"] = "true"  # as `accelerate launch --use_fsdp` does, in version 1


def test_other_ways_to_cut_weights_are_refused_before_anything_is_written(write_experiment: Write, tmp_path: Path) -> None:
    life = live(["train", "--config", str(write_experiment())], cwd=tmp_path, patch=told_to_shard)
    assert life.code == 2
    assert life.err.startswith("error: accelerate was told to use FSDP in version 1, which leaves every process a part of ")
    assert "launch with `--use_fsdp --fsdp_version 2`" in life.err
    assert not (tmp_path / "runs").exists()


def test_fp16_on_a_cpu_is_refused(write_experiment: Write, tmp_path: Path) -> None:
    life = live(["train", "--config", str(write_experiment()), "training.precision=fp16"], cwd=tmp_path)
    assert (life.code, life.err) == (2, "error: training.precision: fp16 needs a GPU; on a CPU write fp32, or bf16\n")
