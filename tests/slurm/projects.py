"""A folder from which jobs go to a real Slurm, and how tests wait for what becomes of them."""

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"}


@dataclass(frozen=True)
class Project:
    """A folder with slurm/ and an experiment, from which jobs are submitted."""

    folder: Path
    environment: dict[str, str]

    def call(self, *words: str, fails: bool = False, **environment: str) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, check=False
        )
        assert fails or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *words: str, **environment: str) -> str:
        """A job, by its number."""
        small = ("--parsable", "--mem=4G", "--cpus-per-task=1")
        return self.call("slurm/submit.sh", *small, *words, **environment).strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of it."""
        said = self.call("scontrol", "--oneliner", "show", "job", number).splitlines()[0]
        return dict(re.findall(r"(\w+)=(\S+)", said))

    def wait(self, number: str, *, seconds: float = 120) -> dict[str, str]:
        """Until it has ended; a requeued job is held for three seconds in place of two minutes, its limit raised.

        A node that is sent a job within the second in which it ended the job's last start takes it for that, and refuses.
        """

        def ended() -> dict[str, str] | None:
            job = self.job(number)
            if job["JobState"] == "PENDING" and job["Restarts"] != "0" and job["Reason"] == "BeginTime":
                held = datetime.fromisoformat(job["EligibleTime"]) - datetime.now()  # both without a zone
                if held.total_seconds() > 10:
                    self.call("scontrol", "update", f"JobId={number}", "StartTime=now+3", "TimeLimit=30", fails=True)
            return job if job["JobState"] in FINAL else None

        return until(ended, seconds=seconds, what=lambda: f"{self.job(number)}\n{self.said()}")

    def settles(self) -> None:
        """Until both nodes are back, and whatever was to be killed on them is: a requeued job has its number too."""

        def back() -> bool:
            return self.call("sinfo", "--noheader", "--partition=main", "--format=%T").split() == ["idle"]

        until(back, seconds=60, what=lambda: self.call("sinfo"))
        time.sleep(2)

    def reaches(self, run: str, step: int, *, seconds: float = 90) -> None:
        """Until a run has logged a window at or behind a step."""
        file = self.folder / "runs" / run / "metrics.jsonl"
        until(lambda: f'"step": {step},' in file.read_text() if file.is_file() else False, seconds=seconds, what=self.said)

    def said(self) -> str:
        return "\n".join(f"--- {file.name}\n{file.read_text()}" for file in sorted(self.folder.rglob("*.out")))

    def weights(self, run: str) -> bytes:
        return last_weights(self.folder / "runs" / run)


def until(found: Callable[[], Any], *, seconds: float, what: Callable[[], str]) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"not within {seconds} s: {what()}"
        time.sleep(0.1)
    return value


def last_weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()
