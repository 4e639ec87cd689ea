"""The command line: thin doors to the rest; what a person or a file did wrong ends in one message and exit code 2."""

import os
import sys
from collections.abc import Sequence
from errno import EACCES, EDQUOT, EFBIG, EISDIR, ENAMETOOLONG, ENOSPC, ENOTDIR, EPERM, EROFS
from pathlib import Path
from typing import Annotated, Literal

import typer

from mmtrain import cli_inference
from mmtrain.cli_ablate import ablate_app
from mmtrain.cli_analysis import attention, compare, datamap, evaluate, plot, report
from mmtrain.cli_data import data_app
from mmtrain.cli_options import ExperimentFile, Overrides
from mmtrain.cli_tune import doctor, tune_app
from mmtrain.errors import Interrupted, NonFiniteError, Preempted, UserError
from mmtrain.quick_start import uncollected
from mmtrain.standard_streams import open_closed_streams

app = typer.Typer(
    name="mmtrain",
    help="Train multimodal models on several datasets and tasks at once, under a curriculum.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at experiment files.", no_args_is_help=True)
curriculum_app = typer.Typer(help="Look at curricula.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(curriculum_app, name="curriculum")
app.add_typer(tune_app, name="tune")
app.add_typer(ablate_app, name="ablate")

Evaluation = Literal["best", "last"]

# what a disk refuses because of where it was asked: no bug, so no traceback
_OF_THE_PLACE = frozenset({EACCES, EPERM, EROFS, ENOTDIR, EISDIR, ENAMETOOLONG, ENOSPC, EDQUOT, EFBIG})


@app.command()
def train(
    config: Annotated[Path, typer.Option("--config", "-c", help="Experiment file (YAML).")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run from its last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run folder and start anew.")] = False,
    *,
    detect_anomaly: Annotated[
        bool, typer.Option("--detect-anomaly", help="Stop at the operation that makes a NaN, by name. Slow.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where a step's time goes; see profile/ there.")
    ] = False,
    profile_steps: Annotated[
        int | None, typer.Option("--profile-steps", min=1, help="Steps that --profile measures; 20 by default.")
    ] = None,
) -> None:
    """Train a model, evaluating as it goes; where the file has stages, one stage after the other."""
    with uncollected():
        from mmtrain.stages import train_file

    if profile_steps is not None and not profile:
        raise UserError("--profile-steps: nothing is measured without --profile; write both")
    steps = (profile_steps or 20) if profile else None
    words = [*(overrides or []), *(["training.detect_anomaly=true"] if detect_anomaly else [])]
    train_file(config, words, resume=resume, overwrite=overwrite, profile_steps=steps)


app.command()(doctor)
app.command()(evaluate)
app.command()(datamap)
app.command()(attention)
app.command()(compare)
app.command()(report)
app.command()(plot)


@app.command()
def crossval(
    config: ExperimentFile,
    overrides: Overrides = None,
    *,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds over the train and val samples of each store.")] = 5,
    evaluation: Annotated[Evaluation, typer.Option(help="The evaluation that stands for a fold.")] = "best",
    resume: Annotated[bool, typer.Option("--resume", help="Pass over finished folds, continue the one under way.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the folds' runs and start anew.")] = False,
) -> None:
    """Train once per fold, no group on two sides: mean and 95 % interval of every metric over the folds."""
    from mmtrain.crossval import cross_validate

    cross_validate(config, overrides or [], num_folds=folds, choice=evaluation, resume=resume, overwrite=overwrite)


@app.command("cache-text")
def cache_text(config: ExperimentFile, overrides: Overrides = None) -> None:
    """Store what a frozen text encoder makes of the texts, for runs with model.text.cache; what is there is verified."""
    from mmtrain.cache_text import make_cache

    make_cache(config, overrides or [])


@app.command("import-checkpoint")
def import_checkpoint(
    scheme: Annotated[str, typer.Argument(help="Whose checkpoint it is: hiccap.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="A PyTorch checkpoint, in one file or several.")],
    out: Annotated[Path, typer.Option("--out", help="The safetensors file to write.")],
    legacy: Annotated[
        bool, typer.Option("--legacy", help="Names of mmtrain.models.hiccap_legacy, for their arithmetic, faults and all.")
    ] = False,
) -> None:
    """Convert the weights of an earlier code into those of a model here. Reads tensors only; runs nothing of the file."""
    from mmtrain.errors import CheckpointError
    from mmtrain.foreign_weights import SCHEMES
    from mmtrain.foreign_weights.conversion import import_checkpoint as convert_files

    if scheme not in SCHEMES:
        raise CheckpointError(f"no checkpoints of '{scheme}' can be imported; there are: {', '.join(SCHEMES)}")
    for line in convert_files(files, SCHEMES[scheme](), out=out, legacy=legacy).lines():
        typer.echo(line)
    typer.echo(f"written to {out}")


app.command()(cli_inference.predict)
app.command()(cli_inference.pack)
app.command()(cli_inference.compress)
app.command()(cli_inference.export)


@config_app.command("show")
def config_show(file: ExperimentFile, overrides: Overrides = None) -> None:
    """Print the whole experiment, or its stages: bases merged, overrides applied, defaults filled in."""
    from mmtrain.config import dump_yaml, load

    typer.echo(dump_yaml(load(file, overrides)), nl=False)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of experiment files, for editors."""
    import json

    from mmtrain.config_schema import file_schema

    typer.echo(json.dumps(file_schema(), indent=2))


@curriculum_app.command("simulate")
def curriculum_simulate(
    config: ExperimentFile,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("curriculum.png"),
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimizer steps; as many as the run by default.")
    ] = None,
    losses: Annotated[
        Path | None, typer.Option("--losses", help="A run's curriculum.jsonl: take the losses from it.")
    ] = None,
) -> None:
    """Run the curriculum without the model, on losses of synthetic curves, and draw shares, counts and passes."""
    from mmtrain.simulation import describe, simulate_experiment

    trace = simulate_experiment(config, overrides or [], out=out, steps=steps, losses=losses)
    for line in describe(trace):
        typer.echo(line)
    typer.echo(f"{trace.steps[-1]} steps drawn in {out}")


def _mark() -> int:
    """Make the marker file that was asked for; gives the exit code."""
    marker = os.environ.get("MMTRAIN_MARKER")
    if not marker:
        return 130
    try:
        Path(marker).touch()
    except OSError as error:
        typer.echo(f"error: MMTRAIN_MARKER: {marker}: {error.strerror}", err=True)
        return 2
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exit codes: 0; 1 defects or failures; 2 a user's error in one message; 3 NaN or Inf; 130 a signal.

    Where MMTRAIN_MARKER names a file, SIGUSR1 ends in that file and in 0: for batch scripts, behind launchers that take any
    other code for a failure and hide which one it was.
    """
    open_closed_streams()
    try:
        app(args=list(arguments) if arguments is not None else None)
    except Interrupted as error:
        typer.echo(str(error), err=True)
        sys.exit(_mark() if isinstance(error, Preempted) else 130)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(3 if isinstance(error, NonFiniteError) else 2)
    except OSError as error:
        if error.errno not in _OF_THE_PLACE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {place}{error.strerror}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
