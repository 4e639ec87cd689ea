"""`mmtrain ablate MATRIX`, and what looks at a matrix without running it: thin doors."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmtrain.cli_options import Overrides

Matrix = Annotated[Path, typer.Argument(help="Matrix file (YAML): experiment, axes, baseline, seeds, metric.")]


class _MatrixOrCommand(TyperGroup):
    """What is none of the commands is a matrix to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["run", *args])


ablate_app = typer.Typer(cls=_MatrixOrCommand, help="Run every variant of a matrix with every seed, and compare them.")


@ablate_app.command()
def run(
    matrix: Matrix,
    overrides: Overrides = None,
    *,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs side by side; they share the CPU's cores.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show each run's state and command; start nothing.")] = False,
    rerun_stale: Annotated[bool, typer.Option("--rerun-stale", help="Train anew what other code or settings made.")] = False,
    final: Annotated[list[str] | None, typer.Option("--final", help="A variant, or best: read its test split.")] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Submit the runs as an array job, and their table behind it.")
    ] = False,
    throttle: Annotated[int | None, typer.Option("--throttle", min=1, help="Of --slurm: runs at a time.")] = None,
    sbatch_args: Annotated[
        str, typer.Option("--sbatch-args", help="Of --slurm: further options of sbatch, in one word.")
    ] = "",
) -> None:
    """Run every variant of a matrix with every seed, and compare them. The same command goes on where it was left.

    `mmtrain ablate status MATRIX` shows how far its runs are, `mmtrain ablate table MATRIX` writes their table again.
    """
    from mmtrain.ablation.ablate import ablate
    from mmtrain.ablation.slurm import read_options
    from mmtrain.errors import ConfigError

    if not slurm and (throttle is not None or sbatch_args):
        raise ConfigError("--throttle, --sbatch-args: they are about jobs of Slurm; write --slurm too, or leave them out")
    if slurm and (dry_run or final or jobs > 1):
        raise ConfigError("--slurm: it submits runs, and goes with none of --jobs, --dry-run and --final")
    options = read_options(throttle, sbatch_args) if slurm else None
    words = overrides or []
    if not ablate(matrix, words, jobs=jobs, dry_run=dry_run, rerun_stale=rerun_stale, final=final or (), slurm=options):
        raise typer.Exit(1)


@ablate_app.command()
def status(
    matrix: Matrix,
    overrides: Overrides = None,
    *,
    watch: Annotated[float | None, typer.Option("--watch", min=1, help="Look again every so many seconds.")] = None,
) -> None:
    """Show how far every run is: queued, running (epoch, step, metric), done, or failed, and why. Changes nothing."""
    from mmtrain.ablation.live import show_status

    show_status(matrix, overrides or [], every=watch)


@ablate_app.command()
def table(matrix: Matrix, overrides: Overrides = None) -> None:
    """Write and print the tables of what is finished by now, and what is missing. Runs nothing."""
    from mmtrain.ablation.ablate import tabulate

    tabulate(matrix, overrides or [])
