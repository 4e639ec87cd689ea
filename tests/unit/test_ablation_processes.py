"""Commands side by side: order, number, threads, logs, folders in use, and what a signal or an error leaves."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mmtrain.ablation.memory_watch import MemoryWatch
from mmtrain.ablation.processes import Job, environments_for, run_jobs, threads_for, why_ended
from mmtrain.ablation.records import last_line
from mmtrain.engine.run_lock import RunLock
from mmtrain.errors import Interrupted

SIZES = {"small": 0, "large": 150}  # MiB


def job(root: Path, name: str, code: str) -> Job:
    return Job(name, (sys.executable, "-S", "-c", code), root / name, root / "logs" / f"{name}.log")


class Told:
    """What `run_jobs` says."""

    def __init__(self) -> None:
        self.began, self.ended, self.waited = [], [], []

    def run(self, jobs: list[Job], at_once: int = 1, **named: object) -> list[Job]:
        return run_jobs(
            jobs,
            at_once=at_once,
            began=lambda job: self.began.append(job.label),
            ended=lambda job, code, _: self.ended.append((job.label, code)),
            waits=lambda job: self.waited.append(job.label),
            **named,
        )


def test_one_after_the_other_with_a_log_each(tmp_path: Path) -> None:
    told = Told()
    jobs = [job(tmp_path, "a", "print('one'); print('two\\n')"), job(tmp_path, "b", "raise SystemExit('no\\nreason')")]
    assert told.run(jobs) == []
    assert (told.began, told.ended, told.waited) == (["a", "b"], [("a", 0), ("b", 1)], [])
    assert [last_line(one.log) for one in jobs] == ["two", "reason"]
    assert jobs[0].log.read_text().startswith(f"$ {sys.executable} -S -c print")
    told.run(jobs[:1])
    assert jobs[0].log.read_text().count("$ ") == 2, "a log keeps the attempts before"
    assert last_line(tmp_path / "none") == ""


def test_two_at_a_time_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)
    assert [threads_for(jobs) for jobs in (1, 2, 9)] == [5, 2, 1]
    meet = "import pathlib, time, os; p = pathlib.Path(%r); p.joinpath('%s').touch(); print(os.environ['OMP_NUM_THREADS'])\n"
    meet += "while len(list(p.glob('met-*'))) < 2: time.sleep(0.01)"
    jobs = [job(tmp_path, name, meet % (str(tmp_path), f"met-{name}")) for name in ("a", "b")]
    told = Told()
    told.run(jobs, at_once=2)
    assert sorted(told.ended) == [("a", 0), ("b", 0)]
    assert {last_line(one.log) for one in jobs} == {"2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_for(2) == 3


@pytest.mark.parametrize(
    ("visible", "num_devices", "jobs", "devices"),
    [
        (None, 0, 2, [None, None]),
        ("", 0, 2, [None, None]),
        (None, 2, 1, ["0"]),
        (None, 2, 2, ["0", "1"]),
        (None, 2, 5, ["0", "1", "0", "1", "0"]),
        ("3, 5,7", 3, 2, ["3", "5"]),
        ("GPU-ab,GPU-cd", 2, 3, ["GPU-ab", "GPU-cd", "GPU-ab"]),
        ("6,-1,7", 1, 2, ["6", "6"]),
    ],
)
def test_each_job_has_one_of_the_devices(monkeypatch, visible, num_devices, jobs, devices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [place.get("CUDA_VISIBLE_DEVICES") for place in environments_for(jobs, num_devices=num_devices)]
    assert found == devices


def test_no_two_jobs_at_a_time_have_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a file with its device's name, and fails where it is taken; six jobs on two devices."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    code = f"import os, pathlib, time; p = pathlib.Path({str(tmp_path)!r}, os.environ['CUDA_VISIBLE_DEVICES'])\n"
    code += "p.touch(exist_ok=False); time.sleep(0.15); p.unlink(); print(p.name)"
    jobs = [job(tmp_path, name, code) for name in "abcdef"]
    told = Told()
    told.run(jobs, at_once=2, num_devices=2)
    assert [end for _, end in told.ended] == [0] * 6
    assert sorted(last_line(one.log) for one in jobs) == ["0"] * 3 + ["1"] * 3


def test_the_memory_of_each_job_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtrain.ablation.processes._LOOK", 0.0)
    peaks, code = {}, "import time; hoard = b'x' * (%d << 20); time.sleep(0.4)"
    run_jobs(
        [job(tmp_path, name, code % size) for name, size in SIZES.items()],
        at_once=2,
        began=lambda _: None,
        ended=lambda one, _, watch: peaks.update({one.label: watch.peak}),
        waits=lambda _: None,
    )
    assert peaks["large"] - peaks["small"] == pytest.approx(150, abs=15)
    assert peaks["small"] > 0


def test_a_kill_for_memory_is_not_said_of_a_job_that_is_killed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three at a time one is killed for memory, one by hand at about that moment, and one by hand a while later."""
    kernel = tmp_path / "vmstat"
    kernel.write_text("oom_kill 3\n")
    monkeypatch.setattr("mmtrain.ablation.processes.MemoryWatch", lambda: MemoryWatch(cgroups=tmp_path, proc=tmp_path))
    monkeypatch.setattr("mmtrain.ablation.processes._LOOK", 0.2)
    code = "import os, pathlib, time; print('here', flush=True); time.sleep(%s)\n%s; os.kill(os.getpid(), 9)"
    counts = f"pathlib.Path({str(kernel)!r}).write_text('oom_kill 4\\n')"
    jobs = [job(tmp_path, name, code % words) for name, words in (("a", (0.5, counts)), ("b", (0.5, 0)), ("c", (2.0, 0)))]
    said: dict[str, str] = {}
    run_jobs(
        jobs,
        at_once=3,
        began=lambda _: None,
        ended=lambda one, code, watch: said.update({one.label: why_ended(one, code, watch)}),
        waits=lambda _: None,
    )
    assert said["a"].startswith("maybe killed for memory, at ")
    assert said["a"].endswith("MiB or more: something was, and other runs were under way. It ended after: here")
    assert said["c"] == "killed by signal 9 after: here"


def test_what_a_job_needs_has_ended_well_before_it_begins(tmp_path: Path) -> None:
    """c needs b, b needs a; e needs d, which fails; g needs what no job of the call is."""
    jobs = [job(tmp_path, name, f"raise SystemExit({int(name == 'd')})") for name in "cbaedg"]
    needs = {"c": ("b",), "b": ("a",), "e": ("d", "a"), "g": ("elsewhere",)}
    told = Told()
    rest = told.run([replace(one, needs=needs.get(one.label, ())) for one in jobs], at_once=2)
    assert [one.label for one in rest] == ["e"]
    order = [label for label, _ in told.ended]
    assert sorted(order) == list("abcdg")
    assert order.index("a") < order.index("b") < order.index("c")
    assert told.began.index("c") > told.began.index("b")


def test_a_folder_in_use_is_put_off_and_then_passed_over(tmp_path: Path) -> None:
    jobs = [job(tmp_path, name, "pass") for name in ("a", "b")]
    told = Told()
    with RunLock(tmp_path / "a"):
        assert told.run(jobs, patience=0.3) == jobs[:1]
    assert told.ended == [("b", 0)]
    assert set(told.waited) == {"a"}
    assert told.run(jobs[:1]) == []


def test_a_signal_lets_the_processes_save(tmp_path: Path) -> None:
    """The child answers SIGTERM by writing a file; the signal handlers of before are back afterwards."""
    code = "import signal, sys, pathlib, time\n"
    code += f"def end(*_): pathlib.Path({str(tmp_path / 'saved')!r}).touch(); sys.exit(130)\n"
    code += f"signal.signal(signal.SIGTERM, end); pathlib.Path({str(tmp_path / 'up')!r}).touch(); time.sleep(60)"
    before = signal.getsignal(signal.SIGTERM)

    def interrupt() -> None:
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    told = Told()
    with pytest.raises(Interrupted, match="The same command goes on"):
        told.run([job(tmp_path, "a", code), job(tmp_path, "b", "pass")])
    assert (tmp_path / "saved").exists()
    assert (told.began, told.ended) == (["a"], [])
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_of_our_own_leaves_no_process(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "a", "pass"), job(tmp_path, "b", "import time; time.sleep(60)")]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    began = time.monotonic()
    with pytest.raises(OSError, match="No space left"):
        run_jobs(jobs, at_once=2, began=lambda _: None, ended=full, waits=lambda _: None)
    assert time.monotonic() - began < 30


def test_the_process_that_starts_is_known_to_those_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtrain.engine.launch import launcher_pid

    one = job(tmp_path, "a", "import os; print(os.environ['MMTRAIN_LAUNCHER'])")
    Told().run([one])
    assert last_line(one.log) == str(os.getpid())
    monkeypatch.setenv("MMTRAIN_LAUNCHER", "77")
    assert launcher_pid() == 77
