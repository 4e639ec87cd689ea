"""Options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Folder of the new store.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")]
