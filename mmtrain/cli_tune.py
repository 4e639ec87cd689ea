"""What is tried before a training: thin doors to mmtrain/tuning/ and mmtrain/doctor/."""

from pathlib import Path
from typing import Annotated

import typer

from mmtrain.cli_options import ExperimentFile, Overrides

tune_app = typer.Typer(help="Find settings by trying them.", no_args_is_help=True)


@tune_app.command("lr")
def tune_lr(
    config: ExperimentFile,
    overrides: Overrides = None,
    *,
    start: Annotated[float, typer.Option("--start", help="Learning rate of the first step.")] = 1e-7,
    end: Annotated[float, typer.Option("--end", help="Learning rate of the last step.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", min=10, help="Optimizer steps.")] = 100,
    smoothing: Annotated[float, typer.Option("--smoothing", min=0, max=0.99, help="Of the average that is drawn.")] = 0.8,
    out: Annotated[Path, typer.Option("--out", help="Folder for lr-range.png and lr-range.json.")] = Path("tune"),
) -> None:
    """Learning-rate range test: train up a ramp, and suggest where the loss falls fastest. Leaves no run behind."""
    from mmtrain.tuning.lr import tune_lr

    tune_lr(config, overrides or [], start=start, end=end, steps=steps, smoothing=smoothing, out=out)


@tune_app.command("batch-size")
def tune_batch_size(
    config: ExperimentFile,
    overrides: Overrides = None,
    memory_limit: Annotated[
        int | None, typer.Option("--memory-limit", min=1, help="On a CPU: MiB of resident memory of a process.")
    ] = None,
) -> None:
    """The largest batch.micro whose step fits in memory, tried on the longest samples. Leaves no run behind."""
    from mmtrain.tuning.batch_size import tune_batch_size

    tune_batch_size(config, overrides or [], memory_limit=memory_limit)


@tune_app.command("search")
def tune_search(
    config: ExperimentFile,
    space: Annotated[
        Path, typer.Argument(metavar="SEARCH", help="Keys to search (YAML): {low, high, log, step}, {choices}.")
    ],
    overrides: Overrides = None,
    *,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials of the whole study.")] = 20,
    startup: Annotated[int, typer.Option("--startup", min=0, help="Complete trials before any is stopped early.")] = 5,
) -> None:
    """Search values of any keys with optuna; goes on where it was left. Start it several times to work side by side."""
    from mmtrain.tuning.search import search

    search(config, space, overrides or [], num_trials=trials, startup=startup)


def doctor(
    config: ExperimentFile,
    overrides: Overrides = None,
    *,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Make this check alone; repeatable.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="About how long all checks may take.")] = 60.0,
    out: Annotated[Path | None, typer.Option("--json", help="Write the findings to this file too.")] = None,
) -> None:
    """Check what can be checked before a training, and say what to write. Leaves no run. Exit code 1: there is a problem."""
    from mmtrain.doctor.examine import examine
    from mmtrain.doctor.finding import worst

    if worst(examine(config, overrides or [], only=only or [], seconds=seconds, out=out)) == "problem":
        raise typer.Exit(1)
