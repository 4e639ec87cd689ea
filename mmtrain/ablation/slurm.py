"""Runs of a matrix as array jobs of Slurm: what is submitted, and what of it still waits or runs there."""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtrain.ablation.processes import Job
from mmtrain.ablation.supervise import Task, write_tasks
from mmtrain.engine.jsonl import append, read_jsonl
from mmtrain.errors import ConfigError

_PATIENCE = 60.0  # seconds for an answer of Slurm's
# which task trains what, where it begins, and where what Slurm says of it is looked for
_DECIDED = {"array": "a", "job-name": "J", "output": "o", "error": "e", "dependency": "d", "chdir": "D"}
# those of sbatch whose value, where they have one, never is the next word
_ALONE = (
    *("contiguous", "exclusive", "get-user-env", "help", "hold", "ignore-pbs", "nice", "no-kill", "no-requeue"),
    *("overcommit", "oversubscribe", "parsable", "propagate", "quiet", "reboot", "requeue", "spread-job", "stepmgr"),
    *("test-only", "usage", "use-min-nodes", "verbose", "version", "wait"),
)
_LETTERS_ALONE = "hHIkOQsuvVW"


@dataclass(frozen=True)
class SlurmOptions:
    """`throttle`: runs at a time, None: as many as the cluster takes; `words`: further options of sbatch for the array."""

    throttle: int | None = None
    words: tuple[str, ...] = ()


def read_options(throttle: int | None, words: str) -> SlurmOptions:
    """Errors: ConfigError where the words of a shell are none, or say what the array's own options say."""
    try:
        found = tuple(shlex.split(words))
    except ValueError as error:
        raise ConfigError(
            f"--sbatch-args {words}: {error}; write it as for a shell: --sbatch-args '--time=4:00:00'"
        ) from None
    rest = iter(found)
    for word in rest:
        if _is_decided(word):
            raise ConfigError(f"--sbatch-args: {word}: that is decided here; leave it out (runs at a time: --throttle)")
        if _takes_next(word):
            next(rest, None)
    return SlurmOptions(throttle, found)


def _is_decided(word: str) -> bool:
    """Whether an option of sbatch, which takes the beginning of a long name for the whole, says what the array's own do."""
    if word.startswith("--"):
        return any(name.startswith(word[2:].partition("=")[0]) for name in _DECIDED)
    return _letter(word) in _DECIDED.values()


def _takes_next(word: str) -> bool:
    """Whether the next word is an option's value."""
    if word.startswith("--"):
        return "=" not in word and not any(name.startswith(word[2:]) for name in _ALONE)
    return bool(_letter(word)) and word.endswith(_letter(word))


def _letter(word: str) -> str:
    """Of short options in a word, such as -Ha0-3, the one with a value, which is the rest; '' where none has one."""
    return word[1:].lstrip(_LETTERS_ALONE)[:1] if word.startswith("-") else ""


def find_submit() -> Path:
    """slurm/submit.sh of the folder that one is in, or of the checkout. Errors: ConfigError without Slurm or the script."""
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "--slurm: there is no Slurm here: sbatch is not found. Call it on a login node, or leave --slurm out"
        )
    places = (Path("slurm"), Path(__file__).resolve().parents[2] / "slurm")
    found = next((place / "submit.sh" for place in places if (place / "submit.sh").is_file()), None)
    if found is None:
        raise ConfigError(
            f"--slurm: {' and '.join(f'{place}/submit.sh' for place in places)} are not there; copy the folder slurm/ of "
            "mmtrain's repository to where you work, and fill in its site.env"
        )
    return found.resolve()


def waves_of(jobs: Sequence[Job], there: Set[str]) -> tuple[list[list[Job]], int]:
    """What is to be submitted, stages before what needs them; and how many wait for a stage that is `there` already."""
    out = {job.label for job in jobs}
    waves: list[list[Job]] = []
    done, left = set[str](), [job for job in jobs if job.label not in there]
    while ready := [job for job in left if not (set(job.needs) & out) - done]:
        waves.append(ready)
        done |= {job.label for job in ready}
        left = [job for job in left if job.label not in done]
    return waves, len(left)


def submit_waves(
    folder: Path, waves: Sequence[Sequence[Job]], script: Path, options: SlurmOptions, *, words: Sequence[str]
) -> str:
    """Submit an array for each wave of runs, which begins when the one before has ended; gives the last one's number.

    `folder`: the matrix's; runs/<matrix>/slurm/<submission>/ keeps what the tasks read, and what their batch scripts say.
    `words`: what names the matrix on the command line.
    Errors: ConfigError with what sbatch said.
    """
    number = ""
    for wave in waves:
        name = f"{folder.name}-{len(_submissions(folder)) + 1}-{secrets.token_hex(3)}"
        place = (folder / "slurm" / name).resolve()
        outputs = [str(place / f"{index}.out") for index in range(len(wave))]
        now = time.time()
        tasks = [
            Task(job.label, job.command, str(job.folder.resolve()), str(job.log.resolve()), output, now, matrix=words)
            for job, output in zip(wave, outputs, strict=True)
        ]
        write_tasks(place / "tasks.jsonl", tasks)
        # before the jobs are there: what is submitted by somebody who dies of it is known, too
        _note(folder, {"name": name, "runs": [task.run for task in tasks]})
        limit = f"%{options.throttle}" if options.throttle else ""
        own = [f"--array=0-{len(wave) - 1}{limit}", f"--job-name={name}", f"--output={place}/%a.out"]
        own += [f"--dependency=afterany:{number}"] if number else []
        number = _sbatch(script, [*own, *options.words, _template(script, "ablation"), str(place / "tasks.jsonl")])
    return number


def submit_table(folder: Path, words: Sequence[str], script: Path, *, behind: str) -> str:
    """The table of a matrix, when the job `behind` has ended in whatever way; gives its job's number."""
    output = (folder / "slurm" / "table-%j.out").resolve()
    options = [f"--job-name={folder.name}-table", f"--output={output}", f"--dependency=afterany:{behind}"]
    return _sbatch(script, [*options, _template(script, "table"), *words])


def queued_runs(folder: Path) -> dict[str, str] | None:
    """By label, Slurm's word for each run of a matrix that it still has; None where there is no Slurm that answers."""
    submitted = {record["name"]: record["runs"] for record in _submissions(folder)}
    if not submitted:
        return {}
    words = ["squeue", "--me", "--noheader", "--array", "--format=%j|%K|%T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found: dict[str, str] = {}
    for name, index, state in (line.strip().rsplit("|", 2) for line in done.stdout.splitlines()):
        if name in submitted and index.isdigit():
            found[submitted[name][int(index)]] = state
    return found


def submitted_runs(folder: Path) -> set[str]:
    """Labels of all runs of a matrix that were ever submitted."""
    return {label for record in _submissions(folder) for label in record["runs"]}


def _sbatch(script: Path, words: Sequence[str]) -> str:
    environment = os.environ | {"MMTRAIN_PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(script), "--parsable", *words], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise ConfigError(f"--slurm: the job was refused: {said}. What the site wants is said in {script.parent}/site.env")
    return done.stdout.strip().splitlines()[-1].partition(";")[0]  # behind it, the cluster's name


def _template(script: Path, name: str) -> str:
    return str(script.parent / f"{name}.sbatch")


def _submissions(folder: Path) -> list[dict[str, Any]]:
    file = folder / "slurm" / "submissions.jsonl"
    return list(read_jsonl(file)) if file.is_file() else []


def _note(folder: Path, record: Mapping[str, object]) -> None:
    append(folder / "slurm" / "submissions.jsonl", record)
