"""The tracker that refreshes the report: at evaluations, one at a time, and never in the way."""

import io
import json
import sys
import time
from pathlib import Path

import pytest
from drawn_run import write_run
from rich.console import Console

from mmtrain.config import Experiment
from mmtrain.errors import ConfigError
from mmtrain.report.tracker import ReportTracker
from mmtrain.run_files import check_trackers

# appends a line to its first argument, waiting as long as its second one is there
_NOTE = """
import json, os, sys, time
with open(sys.argv[1], "a") as file:
    note = [os.getpriority(os.PRIO_PROCESS, 0), os.environ["OMP_NUM_THREADS"], os.getsid(0) == os.getpid()]
    file.write(json.dumps(note) + "\\n")
while os.path.exists(sys.argv[2]):
    time.sleep(0.01)
"""


def tracker(tmp_path: Path, program: str, said: io.StringIO, *, patience: float = 60.0) -> ReportTracker:
    command = (sys.executable, "-c", program, str(tmp_path / "notes"), str(tmp_path / "wait"))
    return ReportTracker(folder=tmp_path, console=Console(file=said), command=command, patience=patience)


def wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < end, "the process has not begun"
        time.sleep(0.01)


def test_evaluations_during_a_report_ask_for_one_more(tmp_path: Path) -> None:
    said = io.StringIO()
    (tmp_path / "wait").touch()
    tracked = tracker(tmp_path, _NOTE, said)
    tracked.log({"objective": 1.0}, step=1)
    tracked.log({"val/loss": 1.0}, step=1)
    wait_for(tmp_path / "notes")
    began = time.monotonic()
    for step in range(2, 1000):
        tracked.log({"val/loss": 1.0}, step=step)
    assert time.monotonic() - began < 1
    (tmp_path / "wait").unlink()
    tracked.close()
    notes = [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]
    assert len(notes) in (2, 3)  # the end of the run asks too, and may come while the second one waits
    assert notes[-1] == [19, "1", True]  # the lowest priority (once it is set), one thread, and no Ctrl-C
    assert said.getvalue() == ""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; print('first'); sys.exit('error: no space left')", "RuntimeError: error: no space left"),
        ("raise SystemExit(2)", "RuntimeError: it said nothing"),
    ],
)
def test_a_report_that_fails_is_said_once_and_left_out(tmp_path: Path, program: str, reason: str) -> None:
    said = io.StringIO()
    tracked = tracker(tmp_path, program, said)
    for step in range(3):
        tracked.log({"val/loss": 1.0}, step=step)
    tracked.close()
    assert said.getvalue().strip() == f"The report failed and is left out from here on: {reason}"


def test_a_report_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    said = io.StringIO()
    (tmp_path / "wait").touch()
    tracked = tracker(tmp_path, _NOTE, said, patience=0.2)
    tracked.log({"val/loss": 1.0}, step=1)
    wait_for(tmp_path / "notes")
    began = time.monotonic()
    tracked.close()
    assert time.monotonic() - began < 5
    assert "no answer within 0.2 seconds" in said.getvalue()
    (tmp_path / "wait").unlink()


def test_its_own_command_writes_the_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", analyzed=False)
    said = io.StringIO()
    tracked = ReportTracker(folder=run, console=Console(file=said), patience=120)
    tracked.close()
    assert said.getvalue() == ""
    assert "Learning curves" in (run / "report.html").read_text()


def test_a_run_that_asks_for_it_without_its_libraries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = Experiment.model_fields["tracking"].annotation(report=True)
    monkeypatch.setattr("mmtrain.extras.find_spec", lambda name: None if name == "vl_convert" else name)
    with pytest.raises(ConfigError, match=r"tracking.report needs vl_convert.*pip install 'mmtrain\[report\]'"):
        check_trackers(Experiment.model_construct(tracking=tracking))
