"""What an array task writes down of its run: its memory, its end, and what it hands on."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mmtrain.ablation import supervise
from mmtrain.ablation.memory_watch import MemoryWatch
from mmtrain.ablation.records import Record, read_record
from mmtrain.ablation.supervise import Task, write_tasks
from mmtrain.engine.run_lock import RunLock

ROOT = Path(__file__).parents[2]
PREEMPTED = """
import pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
def note(*_):
    (run / "PREEMPTED").touch()
    print("saved", flush=True)
    sys.exit(0)
time.sleep(0.5)  # it does not listen yet
signal.signal(signal.SIGUSR1, note)
(run / "listens").touch()
while True: time.sleep(0.01)
"""


def task(folder: Path, *words: str) -> Task:
    run = folder / "v-1" / "seed-0"
    run.mkdir(parents=True)
    command = (sys.executable, "-S", "-c", *words)
    return Task("v-1/seed-0", command, str(run), str(folder / "logs" / "a.log"), str(folder / "a.out"), submitted=1.0)


def start(matrix: Path, item: Task) -> subprocess.Popen[bytes]:
    file = matrix / "slurm" / "first" / "tasks.jsonl"
    write_tasks(file, [replace(item, run="another"), item])
    words = [sys.executable, "-m", "mmtrain.ablation.supervise", str(file), "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    return subprocess.Popen(words, env=environment)


def ended(matrix: Path, item: Task) -> tuple[int, Record]:
    code = start(matrix, item).wait(timeout=60)
    record = read_record(matrix, item.run)
    assert record is not None
    return code, record


@pytest.mark.parametrize(
    ("words", "code", "noted"),
    [
        ("print('first'); raise SystemExit('last words')", 1, (1, "last words")),
        ("import os; print('here', flush=True); os.kill(os.getpid(), 9)", 137, (-9, "here")),
        ("", 0, (0, "$")),
    ],
)
def test_how_a_run_ends_is_written_down(tmp_path: Path, words: str, code: int, noted: tuple[int, str]) -> None:
    found, record = ended(tmp_path, task(tmp_path, words))
    assert found == code
    assert (record.code, record.line[: len(noted[1])], record.job) == (*noted, "7_1")


def test_memory_is_written_down_while_a_run_holds_it(tmp_path: Path) -> None:
    item = task(tmp_path, "import time; hoard = b'x' * (150 << 20); time.sleep(60)")
    process = start(tmp_path, item)
    end = time.monotonic() + 60
    while (record := read_record(tmp_path, item.run)) is None or record.peak_mib < 150:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert record.code is None
    for one in (*psutil.Process(process.pid).children(), process):  # as a whole job is
        one.kill()
    process.wait()


def test_a_preemption_reaches_a_run_that_did_not_listen_at_first(tmp_path: Path) -> None:
    item = task(tmp_path, PREEMPTED)
    item = replace(item, command=(*item.command, item.folder))
    process = start(tmp_path, item)
    while read_record(tmp_path, item.run) is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # is the training's own affair
    while process.poll() is None:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
    record = read_record(tmp_path, item.run)
    assert record is not None
    assert (process.returncode, record.code, record.preempted, record.line) == (0, 0, True, "saved")


def test_behind_a_run_the_table_is_written_unless_it_is_new_or_the_run_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, table, codes, calls = task(tmp_path, ""), tmp_path / "ablation.md", [1, 0, 0, 0, 130, 137], []
    item = replace(item, matrix=("trial.yaml", "training.epochs=3"))
    write_tasks(file := tmp_path / "slurm" / "first" / "tasks.jsonl", [item])
    monkeypatch.setattr(supervise, "supervise", lambda *_: codes[0])
    monkeypatch.setattr(subprocess, "run", lambda words, **_: calls.append(words[1:]))

    def writes() -> int:
        """How often, when the run has ended with the next code."""
        before, code = len(calls), codes[0]
        assert supervise.main(str(file), "0") == code
        codes.pop(0)
        return len(calls) - before

    assert writes() == 1, "of a run that failed, too; there is none yet"
    table.touch()
    assert writes() == 0
    os.utime(table, (time.time() - 400,) * 2)
    assert writes() == 1
    (Path(item.folder) / "PREEMPTED").touch()
    assert writes() == 0
    (Path(item.folder) / "PREEMPTED").unlink()
    assert (writes(), writes()) == (0, 0)
    assert calls == [["-m", "mmtrain.cli", "ablate", "table", "trial.yaml", "training.epochs=3"]] * 2


LISTENS = """
import os, pathlib, signal, sys, time
heard = [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGUSR1)]
pathlib.Path(sys.argv[-1], "heard").write_text(str(heard))
for number in (signal.SIGUSR1, signal.SIGTERM):
    os.kill(os.getppid(), number)
time.sleep(60)
"""


def test_a_table_ends_in_time_and_by_signals_that_its_parent_outlives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervise, "TABLE_SECONDS", 1.0)
    python = tmp_path / "python"  # it takes what the table's words are
    python.write_text(f"#!{sys.executable} -S\n{LISTENS}")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    item = replace(task(tmp_path, ""), matrix=(str(tmp_path),))
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]  # as `supervise` leaves them
    try:
        supervise.write_table(item, tmp_path, code=0)
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert (tmp_path / "heard").read_text() == "[True, True]"
    assert "ablation.md: not written within 1 seconds; left to the job behind the array" in capfd.readouterr().err


def test_a_table_that_another_process_writes_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = replace(task(tmp_path, ""), matrix=("trial.yaml",))
    calls: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *words, **_: calls.append(words))
    with RunLock(tmp_path):
        supervise.write_table(item, tmp_path, code=0)
    assert calls == []
    supervise.write_table(item, tmp_path, code=0)
    assert len(calls) == 1


def test_what_was_overwritten_already_is_gone_on_with(tmp_path: Path) -> None:
    item = replace(task(tmp_path, ""), command=("python-of-the-login-node", "--overwrite"), submitted=time.time() - 60)
    assert item.words() == [sys.executable, "--overwrite"]
    environment = Path(item.folder) / "environment.json"
    environment.touch()
    assert item.words() == [sys.executable, "--resume"]
    os.utime(environment, (1, 1))  # of the run that is to be replaced
    assert item.words() == [sys.executable, "--overwrite"]


def test_kills_for_memory_are_counted_in_the_own_cgroup_or_else_on_the_machine(tmp_path: Path) -> None:
    proc, events = tmp_path / "proc", tmp_path / "cgroup" / "job" / "memory.events"
    (proc / "self").mkdir(parents=True)
    events.parent.mkdir(parents=True)
    (proc / "vmstat").write_text("nr_free_pages 5\noom_kill 3\n")
    machine = MemoryWatch(cgroups=tmp_path / "cgroup", proc=proc)
    (proc / "self" / "cgroup").write_text("0::/job\n")
    events.write_text("max 9\noom 2\noom_kill 1\n")
    own = MemoryWatch(cgroups=tmp_path / "cgroup", proc=proc)
    assert own.kills() == 0
    (proc / "vmstat").write_text("oom_kill 9\n")
    assert own.kills() == 0
    events.write_text("oom_kill 2\n")
    assert own.kills() == 1
    (proc / "self" / "cgroup").unlink()
    assert machine.kills() == 6
    (proc / "vmstat").unlink()
    assert MemoryWatch(cgroups=tmp_path, proc=proc).kills() == 0


def test_a_kill_of_long_ago_is_no_reason_and_one_beside_others_is_doubtful(tmp_path: Path) -> None:
    """Each look at a process that lives puts away what was counted at the look before."""
    (tmp_path / "vmstat").write_text("oom_kill 3\n")
    watch, own = MemoryWatch(cgroups=tmp_path, proc=tmp_path), os.getpid()
    watch.look(own)
    (tmp_path / "vmstat").write_text("oom_kill 4\n")
    assert (watch.kills(), watch.has_company) == (1, False)
    watch.look(own, has_company=True)
    assert (watch.kills(), watch.has_company) == (1, True), "it may be dying, and not have died yet"
    watch.look(own)
    assert (watch.kills(), watch.has_company) == (0, True)
    watch.look(own)
    assert (watch.kills(), watch.has_company) == (0, False)
    (tmp_path / "vmstat").write_text("oom_kill 5\n")
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    for _ in range(3):
        watch.look(dead.pid)
    dead.wait()
    assert watch.kills() == 1, "what is dead was not seen to outlive it"
