"""What is submitted of a matrix, what squeue makes of it, and the words for how far runs are; with commands that pretend."""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmtrain.ablation import ablate as module
from mmtrain.ablation import live, table_lock
from mmtrain.ablation.ablate import ablate
from mmtrain.ablation.live import status_table
from mmtrain.ablation.plan import Plan, read_plan
from mmtrain.ablation.records import Record, read_record
from mmtrain.ablation.slurm import SlurmOptions, find_submit, queued_runs, read_options
from mmtrain.ablation.status import State, Status, status_of
from mmtrain.engine.run_lock import RunLock
from mmtrain.errors import ConfigError

ROOT = Path(__file__).parents[2]
EXPERIMENT = {
    "name": "base",
    "datasets": {"a": {"store": "a"}},
    "streams": {"a": {"dataset": "a", "tasks": ["t"]}},
    "model": {"dim": 8, "sequences": {"audio": {"name": "linear"}}},
}
SBATCH = """#!/bin/sh
printf '%s|' "$@" >> {root}/calls.txt
echo "$SBATCH_PARTITION $SBATCH_ACCOUNT" >> {root}/calls.txt
[ ! -e {root}/refuses ] || {{ echo "sbatch: error: invalid partition" >&2; exit 1; }}
wc -l < {root}/calls.txt
"""
SQUEUE = """#!/bin/sh
[ ! -e {root}/silent ] || exit 1
cat {root}/queue.txt 2>/dev/null
exit 0
"""


class Site:
    """A folder with a matrix of two variants, and on the path a Slurm that only takes notes."""

    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / "trial.yaml"
        (root / "base.yaml").write_text(yaml.safe_dump(EXPERIMENT | {"runs": str(root / "runs")}))
        axes = {"fusion": {name: {"model.fusion": {"name": name}} for name in ("concat", "sum")}}
        values: dict[str, Any] = {"name": "trial", "experiment": "base.yaml", "axes": axes, "metric": "val/loss"}
        self.file.write_text(yaml.safe_dump(values | {"baseline": {"fusion": "concat"}}, sort_keys=False))
        (root / "bin").mkdir()
        for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
            (root / "bin" / name).write_text(text.format(root=root))
            (root / "bin" / name).chmod(0o755)
        shutil.copytree(ROOT / "slurm", root / "slurm")

    @property
    def plan(self) -> Plan:
        return read_plan(self.file)

    @property
    def labels(self) -> list[str]:
        return [run.label for run in self.plan.runs]

    @property
    def calls(self) -> list[list[str]]:
        """The words of every sbatch, the last ones what the environment said."""
        return [line.split("|") for line in (self.root / "calls.txt").read_text().splitlines()]

    def queue(self, *rows: tuple[int, str]) -> None:
        name = next(word for word in self.calls[0] if word.startswith("--job-name=")).partition("=")[2]
        lines = [f"{name}|{index}|{state}" for index, state in rows]
        (self.root / "queue.txt").write_text("\n".join(["somebody-elses|0|RUNNING", "plain|N/A|RUNNING", *lines, ""]))

    def rows(self) -> list[tuple[str, ...]]:
        """Of the table of states, without the labels."""
        found = {run.label: status_of(self.plan, run) for run in self.plan.runs}
        return [row[1:] for row in status_table(self.plan, found).rows]

    def record(self, number: int, **values: Any) -> Record:
        output = str(self.root / f"{number}.out")
        now = Record(self.labels[number], "7_0", "node-1", output, began=1.0, seen=1.0)
        return replace(now, **values).write(self.plan.folder)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    made = Site(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "check_plan", lambda *_: None)
    return made


def test_an_array_and_its_table_are_submitted_as_the_site_wants_them(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    settings = site.root / "slurm" / "site.env"
    settings.write_text(settings.read_text() + "ACCOUNT=ours\nGPU_PARTITION=fast\nCPU_PARTITION=slow\n")
    assert ablate(site.file, ["training.epochs=3"], slurm=SlurmOptions(throttle=1, words=("--time=5",)))
    array, table = site.calls
    assert array[0] == "--parsable"
    assert "--array=0-1%1" in array
    assert "--time=5" in array
    assert array[-1] == "fast ours"
    assert "--dependency=afterany:1" in table
    assert table[-1] == "slow ours"
    assert table[-4:-1] == [str(site.root / "slurm" / "table.sbatch"), str(site.file), "training.epochs=3"]
    tasks = [json.loads(line) for line in Path(array[-2]).read_text().splitlines()]
    assert [task["run"] for task in tasks] == [run.label for run in read_plan(site.file, ["training.epochs=3"]).runs]
    assert tasks[1]["command"][-1] == "--resume"
    assert tasks[1]["matrix"] == [str(site.file), "training.epochs=3"]
    said = capsys.readouterr().out
    assert "submitted 2 runs as job 1, and their table as job 2" in said
    assert f"mmtrain ablate status {site.file} training.epochs=3" in said
    assert (site.plan.folder / "ablation.md").is_file()


def test_what_is_queued_or_runs_is_not_submitted_again(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ablate(site.file, slurm=SlurmOptions())
    site.queue((0, "RUNNING"), (1, "PENDING"))
    assert queued_runs(site.plan.folder) == {site.labels[0]: "RUNNING", site.labels[1]: "PENDING"}
    capsys.readouterr()
    assert ablate(site.file, slurm=SlurmOptions())
    assert "2 of 2 runs that are out are queued or running already\nnothing to submit" in capsys.readouterr().out
    assert len(site.calls) == 2
    site.queue((0, "RUNNING"))
    assert ablate(site.file, slurm=SlurmOptions())
    assert [json.loads(line)["run"] for line in Path(site.calls[2][-2]).read_text().splitlines()] == site.labels[1:]
    with RunLock(site.plan.runs[1].folder.path):  # somebody trains there on another machine
        (site.root / "queue.txt").unlink()
        ablate(site.file, slurm=SlurmOptions())
    assert [json.loads(line)["run"] for line in Path(site.calls[4][-2]).read_text().splitlines()] == site.labels[:1]


def test_stages_are_an_array_of_their_own_before_what_needs_them(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    base = {key: value for key, value in EXPERIMENT.items() if key != "streams"}
    stages = {"first": {"streams": EXPERIMENT["streams"]}, "last": {"streams": EXPERIMENT["streams"]}}
    (site.root / "base.yaml").write_text(yaml.safe_dump(base | {"runs": str(site.root / "runs"), "stages": stages}))
    rates = {name: {"stages.last.training.optimizer.lr": lr} for name, lr in (("high", 0.1), ("low", 0.01))}
    values = {"name": "trial", "experiment": "base.yaml", "axes": {"lr": rates}, "baseline": {"lr": "high"}}
    site.file.write_text(yaml.safe_dump(values | {"metric": "val/loss"}, sort_keys=False))
    assert ablate(site.file, slurm=SlurmOptions(throttle=3))
    first, last, table = site.calls
    assert ["--array=0-0%3" in first, "--array=0-1%3" in last] == [True, True]
    behind = [[word for word in call if word.startswith("--dependency")] for call in site.calls]
    assert behind == [[], ["--dependency=afterany:1"], ["--dependency=afterany:2"]]
    runs = [[json.loads(line)["run"] for line in Path(call[-2]).read_text().splitlines()] for call in (first, last)]
    assert runs == [[run.label for run in site.plan.shared], site.labels]
    assert table[-3] == str(site.root / "slurm" / "table.sbatch")
    assert "submitted 3 runs as job 2, and their table as job 3" in capsys.readouterr().out
    site.queue((0, "RUNNING"))
    assert ablate(site.file, slurm=SlurmOptions())
    assert "2 runs wait for stages that are queued or running; submit again when these have ended" in capsys.readouterr().out
    assert len(site.calls) == 3


def test_what_slurm_refuses_is_one_message(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.root / "refuses").touch()
    with pytest.raises(ConfigError, match=r"the job was refused: sbatch: error: invalid partition\. What the site wants"):
        ablate(site.file, slurm=SlurmOptions())
    (site.root / "silent").touch()
    with pytest.raises(ConfigError, match="squeue does not answer"):
        ablate(site.file, slurm=SlurmOptions())
    monkeypatch.setenv("PATH", str(site.root))
    with pytest.raises(ConfigError, match=r"--slurm: there is no Slurm here: sbatch is not found"):
        ablate(site.file, slurm=SlurmOptions())


def test_without_the_scripts_it_says_where_they_belong(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_submit() == site.root / "slurm" / "submit.sh"
    shutil.rmtree(site.root / "slurm")
    assert find_submit() == ROOT / "slurm" / "submit.sh"
    monkeypatch.setattr("mmtrain.ablation.slurm.__file__", str(site.root / "a" / "b" / "c.py"))
    with pytest.raises(ConfigError, match=r"slurm/submit\.sh and .* are not there; copy the folder slurm/"):
        find_submit()


def test_options_of_the_array_are_read_as_a_shell_reads_them() -> None:
    assert read_options(3, "--time=1:00:00 --comment 'two words'") == SlurmOptions(
        3, ("--time=1:00:00", "--comment", "two words")
    )
    with pytest.raises(ConfigError, match="No closing quotation; write it as for a shell"):
        read_options(None, "--comment 'two")
    long = (
        "--array=0-3",
        "--arr=0-3",
        "--job=x",
        "--o",
        "--err=e.txt",
        "--chdi=/tmp",
        "--dep=after:3",
        "--requeue --arr=0-3",
    )
    for words in (*long, "-a0-3", "-a", "-D/tmp", "-Ha0-3", "-H -a", "--verb -a", "--nice -a", "-n2 -a", "--time=3 -a"):
        word = words.split()[-1]
        with pytest.raises(ConfigError, match=f"--sbatch-args: {word}: that is decided here"):
            read_options(None, f"--time=5 {words} 0-3")


@pytest.mark.parametrize("words", ["--comment -each", "--comm --err", "-C -a", "-HC -a", "-n 2 --exclude=a", "--export=-a"])
def test_the_value_of_an_option_is_none(words: str) -> None:
    assert read_options(None, words).words == tuple(words.split())


def begin(site: Site, number: int, *, seconds: float = 1.0) -> None:
    """A run that stands in its second epoch of three, behind one evaluation and a long log."""
    folder = site.plan.runs[number].folder
    folder.path.mkdir(parents=True)
    folder.config.touch()
    folder.environment.write_text("[]")
    records: list[dict[str, Any]] = [{"kind": "evaluation", "step": 4, "epoch": 1, "metrics": {"val/loss": 0.25}}]
    records += [{"kind": "step", "step": step, "objective": seconds, "padding": "x" * 100} for step in range(5, 2000)]
    folder.metrics.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"kind": "st')
    folder.timing.write_text('{"kind": "epoch"}\n{"kind": "window"}\n')


def test_the_table_of_states_by_squeue_and_without_it(site: Site) -> None:
    assert [row[0] for row in site.rows()] == ["not begun", "not begun"]
    ablate(site.file, slurm=SlurmOptions())
    begin(site, 0)
    site.record(0)
    site.queue((0, "RUNNING"), (1, "PENDING"))
    assert site.rows() == [
        ("running", "2 of 3", "1999", "0.2500", "7_0", ""),
        ("queued", "", "", "", "", ""),
    ]
    site.plan.runs[0].folder.preempted.touch()
    site.record(0, code=0, preempted=True)
    site.queue((0, "PENDING"), (1, "COMPLETING"))
    assert [(row[0], row[-1]) for row in site.rows()] == [("queued", "preempted, goes on"), ("running", "completing")]
    site.record(0, code=1, line="last words")
    site.queue((0, "COMPLETING"), (1, "RUNNING"))
    assert [(row[0], row[-1]) for row in site.rows()] == [("failed", "last words"), ("running", "")]
    (site.root / "silent").touch()
    lost = "or lost: it was submitted, and squeue does not answer"
    site.record(0)
    assert [(row[0], row[-1]) for row in site.rows()] == [("running", lost), ("queued", lost)]
    (site.root / "silent").unlink()
    (site.root / "queue.txt").unlink()
    assert [(row[0], row[-1]) for row in site.rows()] == [
        ("failed", "ended by nobody knows what, last seen on node-1"),
        ("not begun", "it was submitted, and is not queued any more"),
    ]
    site.record(0, code=130)
    assert site.rows()[0][0] == "interrupted"
    found = {site.labels[0]: Status(site.plan.runs[0], State.FINISHED)}
    assert status_table(site.plan, found).rows[0][1] == "done"


OOM = (
    "slurmstepd-n1: error: Step 3.batch exceeded memory limit (1 > 0), being killed\nslurmstepd-n1: error: *** JOB 3 X ***\n"
)
START = "slurm/job.sh: job 3_1 on n1, start 2: python\n"


@pytest.mark.parametrize(
    ("values", "output", "reason"),
    [
        ({"code": 0}, "", ""),
        ({"code": 130}, "", ""),
        ({"code": -15}, "", ""),
        ({"code": 2, "line": "error: no"}, OOM, "error: no"),
        ({"code": 7}, "", "exit code 7"),
        ({"code": -9, "line": "step 3"}, "", "killed by signal 9 after: step 3"),
        ({"code": -9, "line": "step 3", "oom_kills": 1, "peak_mib": 1234.5}, "", "killed for memory, at 1,234 MiB or more"),
        ({"code": -11, "line": "step 3", "oom_kills": 1}, "", "killed by signal 11 after: step 3"),
        ({}, "", "ended by nobody knows what, last seen on node-1"),
        (
            {"peak_mib": 700.0},
            START + OOM,
            "killed for memory, at 700 MiB or more: Step 3.batch exceeded memory limit (1 > 0), being killed",
        ),
        (
            {},
            "slurmstepd: error: Detected 1 oom_kill event in StepId=3.batch. Some of the step tasks have been OOM Killed.\n",
            "killed for memory: Detected 1 oom_kill event in StepId=3.batch. Some of the step tasks have been OOM Killed.",
        ),
        (
            {},
            "slurmstepd: error: *** JOB 3 ON n1 CANCELLED AT 2030-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
            "JOB 3 ON n1 CANCELLED AT 2030-01-01T00:00:00 DUE TO TIME LIMIT",
        ),
        ({}, OOM + START, "ended by nobody knows what, last seen on node-1"),
    ],
)
def test_why_a_run_ended(site: Site, values: dict[str, Any], output: str, reason: str) -> None:
    (site.root / "0.out").write_text(output)
    site.record(0, **values)
    found = read_record(site.plan.folder, site.labels[0])
    assert found is not None
    assert found.reason() == reason


def test_the_last_start_counts_wherever_it_was(site: Site) -> None:
    site.record(0, code=1, line="of Slurm")
    run = site.plan.runs[0]
    assert status_of(site.plan, run).note == "of Slurm"
    module.attempts_of(site.plan).note(run, code=1, line="of here")
    assert status_of(site.plan, run).note == "of here"
    site.record(0, code=1, line="of Slurm again")
    assert status_of(site.plan, run).note == "of Slurm again"


def test_a_table_and_a_submission_wait_until_another_table_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for use in (lambda: module.tabulate(site.file), lambda: ablate(site.file, slurm=SlurmOptions())):
        other = RunLock(site.plan.folder).take()
        timer = threading.Timer(0.3, other.release)
        timer.start()
        use()
        timer.join()
        said = " ".join(capsys.readouterr().out.split())
        assert f"another process is at work in {site.plan.folder}; waiting for it, 180 seconds at most" in said
    monkeypatch.setattr(table_lock, "TABLE_SECONDS", 0.3)
    with RunLock(site.plan.folder), pytest.raises(ConfigError, match="is in use"):
        module.tabulate(site.file)


def test_it_is_looked_at_again_until_all_are_finished(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[str] = []

    def look(_: Plan, run: Any) -> Status:
        looks.append(run.label)
        done = run.label == site.labels[0] or len(looks) > 3
        return Status(run, State.FINISHED if done else State.MISSING)

    monkeypatch.setattr(live, "status_of", look)
    assert live.show_status(site.file, [], every=0.01)
    assert looks == [*site.labels, site.labels[1], site.labels[1]]
    assert not live.show_status(site.file, [], every=None)
    assert "trial: 2 not begun; val/loss" in capsys.readouterr().out
