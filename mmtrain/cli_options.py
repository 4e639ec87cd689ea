"""Arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

ExperimentFile = Annotated[Path, typer.Argument(help="Experiment file (YAML).")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Dotted keys, e.g. batch.size=16.")]
Checkpoint = Annotated[str, typer.Option(help="best, last, or a folder name below checkpoints/.")]
Weights = Annotated[str, typer.Option(help="trained, or their average: of a run with training.average.")]
