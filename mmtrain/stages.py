"""The stages of an experiment, one run after the other, and a summary of them; or its one run, where it has none."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from rich.console import Console

from mmtrain.build import build_run
from mmtrain.config import Experiment, Staged, load
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.engine.console import main_console
from mmtrain.engine.jsonl import plain, read_jsonl
from mmtrain.engine.look_once import look_once
from mmtrain.engine.run_folder import RunFolder, write_whole
from mmtrain.engine.run_lock import RunLock
from mmtrain.errors import ConfigError, UserError
from mmtrain.evaluation.table import TextTable
from mmtrain.run_checks import is_finished
from mmtrain.training import build_accelerator, train_alone, train_loaded


@dataclass(frozen=True)
class StageRow:
    """What a finished stage came to."""

    stage: str
    run: str  # its folder
    steps: int
    metric: str  # that its best checkpoint was selected by
    best: float | None  # None: no evaluation was a number
    best_step: int


def train_file(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    profile_steps: int | None = None,
) -> None:
    """Train what `file` describes: its stages in order, or its one experiment. Errors: UserError of every kind.

    `profile_steps`: as many of each run are measured, and a few more traced; None: no profile.
    """
    found = load(file, list(overrides))
    if isinstance(found, Staged):
        train_stages(found, resume=resume, overwrite=overwrite, profile_steps=profile_steps)
    else:
        train_alone(found, resume=resume, overwrite=overwrite, profile_steps=profile_steps)


def train_stages(staged: Staged, *, resume: bool, overwrite: bool, profile_steps: int | None = None) -> list[StageRow]:
    """Train runs/<name>/<stage> in order and write runs/<name>/stages.{md,json}; returns the table's rows.

    What a stage's run would be refused for is found before the first one trains, as far as it does not depend on what the
    stages before it leave. With `resume`, finished stages are passed over and the one under way goes on.
    """
    runs = list(staged.stages.values())
    if len({run.training.deterministic for run in runs}) > 1:
        raise ConfigError("training.deterministic: it holds for a whole process; write it outside of the stages")
    accelerator = build_accelerator(runs[0], trains=True)
    console = main_console(accelerator)
    begun = look_once(accelerator, lambda: _begun(runs, resume=resume, overwrite=overwrite))
    done = _num_finished(runs, begun) if resume else 0  # every process asks: it may take all of them to look into stores
    look_once(accelerator, lambda: _refuse_later(runs, done, overwrite=overwrite))
    for run in runs if overwrite else runs[done + 1 :]:  # nothing is deleted for what cannot be built
        _try(run, staged.folder)
    accelerator.wait_for_everyone()
    look_once(accelerator, lambda: _clear(runs[1:] if overwrite else []))
    rows: list[StageRow] = []
    for number, (stage, run) in enumerate(staged.stages.items()):
        if number >= done:
            goes_on = resume and look_once(accelerator, RunFolder(run.folder).is_run)
            train_loaded(
                run, build_accelerator(run, trains=True), resume=goes_on, overwrite=overwrite, profile_steps=profile_steps
            )
        elif console is not None:
            console.print(f"{run.name}: finished already", markup=False, highlight=False)
        if console is not None:
            rows.append(_row(stage, run))
            _write(staged, rows)
    if console is not None:
        _show(staged, rows, console)
    accelerator.end_training()
    return rows


def _begun(runs: Sequence[Experiment], *, resume: bool, overwrite: bool) -> list[bool]:
    """Whether each stage has a run to go on with. Errors: ConfigError where a folder is taken."""
    return [RunFolder(run.folder).check(resume=resume, overwrite=overwrite) for run in runs]


def _num_finished(runs: Sequence[Experiment], begun: Sequence[bool]) -> int:
    """How many stages are finished and stay. Errors: CheckpointError where one was made with other settings."""
    return sum(1 for _ in takewhile(lambda pair: pair[1] and is_finished(pair[0]), zip(runs, begun, strict=True)))


def _refuse_later(runs: Sequence[Experiment], done: int, *, overwrite: bool) -> bool:
    """True. Errors: ConfigError where a stage is there too early."""
    for run in runs[done + 1 :]:
        if RunFolder(run.folder).is_run() and not overwrite:
            raise ConfigError(
                f"cannot resume: {run.folder} has begun, and {runs[done].folder} before it is not finished: it was deleted "
                f"or replaced. Delete {run.folder} too, or start anew with --overwrite"
            )
    return True


def _try(run: Experiment, folder: Path) -> None:
    """Build the run of a later stage and let it go. Errors: ConfigError for what it would be refused for."""
    changes: dict[str, Any] = {}
    if run.initial is not None and run.initial.run is not None and Path(run.initial.run).is_relative_to(folder):
        changes["initial"] = None
    if any(Path(word).is_relative_to(folder) for word in _words(run.curriculum.model_dump())):
        changes["curriculum"] = CurriculumConfig()
    try:
        accelerator = build_accelerator(run, trains=True)
        with closing(build_run(run.model_copy(update=changes), accelerator, None, on_disk=False)):
            pass
    except UserError as error:
        raise ConfigError(f"{run.name}: {error}") from None
    accelerator.free_memory()


def _words(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | list | tuple):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _words(value)


def _clear(runs: Sequence[Experiment]) -> None:
    """Delete the runs of later stages before the first one begins: a resume must not take them for its own."""
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(RunLock(run.folder))
        for run in runs:
            RunFolder(run.folder).clear()


def _row(stage: str, run: Experiment) -> StageRow:
    evaluations = [record for record in read_jsonl(RunFolder(run.folder).metrics) if record["kind"] == "evaluation"]
    last: Mapping[str, Any] = evaluations[-1] if evaluations else {"step": 0, "selection": {"best": None, "best_step": 0}}
    best, step = last["selection"]["best"], last["selection"]["best_step"]
    return StageRow(stage, str(run.folder), last["step"], run.selection.metric, best, step)


def _write(staged: Staged, rows: Sequence[StageRow]) -> None:
    write_whole(staged.folder / "stages.md", _table(staged, rows).markdown())
    write_whole(staged.folder / "stages.json", json.dumps(plain([asdict(row) for row in rows]), indent=1, allow_nan=False))


def _table(staged: Staged, rows: Sequence[StageRow]) -> TextTable:
    cells = [
        (row.stage, row.run, row.metric, str(row.steps), "-" if row.best is None else f"{row.best:.4f}", str(row.best_step))
        for row in rows
    ]
    return TextTable(staged.folder.name, ("stage", "run", "metric", "steps", "best", "at step"), tuple(cells), 3)


def _show(staged: Staged, rows: Sequence[StageRow], console: Console) -> None:
    console.print(_table(staged, rows).rich())
    console.print(f"written: {staged.folder}/stages.md, stages.json", markup=False, highlight=False)
