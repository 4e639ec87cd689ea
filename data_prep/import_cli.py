"""The commands of `python -m data_prep import`: foreign formats to feature stores."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data_prep.importers.writing import Outcome, Target

app = typer.Typer(no_args_is_help=True, help="Foreign formats to feature stores.", rich_markup_mode=None)

Out = Annotated[Path, typer.Option(help="Folder of the new store.")]
Name = Annotated[str, typer.Option(help="Name of the data set (default: by the source).")]
Licence = Annotated[str, typer.Option(help="Licence of the data, kept in the store.")]
AllowFailures = Annotated[int, typer.Option(min=0, help="Leave out up to so many samples that cannot be imported.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")]


@app.command("hiccap")
def hiccap_command(  # noqa: PLR0917 - one parameter per option
    folder: Annotated[Path, typer.Argument(help="Folder with train_, val_ and test_features_lrec_camera.json.")],
    out: Out,
    i3d: Annotated[Path | None, typer.Option(help="Folder of <id>_rgb.npy and <id>_flow.npy: the modality video.")] = None,
    vggish: Annotated[Path | None, typer.Option(help="Folder of <id>_vggish.npy: the modality audio.")] = None,
    paper_labels: Annotated[
        bool,
        typer.Option("--paper-labels", help="Clips without mischief have no labels of its kinds, as in the paper's code."),
    ] = False,
    name: Name = "",
    licence: Licence = "",
    allow_failures: AllowFailures = 0,
    overwrite: Overwrite = False,
) -> None:
    """The files of HICCAP, with the names that configs/hiccap expects (docs/hiccap.md).

    A .npy file that is not there, or cannot be read, is a missing modality: both are counted, the second listed by name in
    STORE.failures.jsonl. Exit code 3: samples could not be imported; the same file lists them.
    """
    from data_prep.importers.hiccap import Folders, import_hiccap

    target = Target(out, Console(stderr=True), name, licence, allow_failures, overwrite)
    _done(target, import_hiccap(folder, folders=Folders(i3d, vggish), target=target, paper_labels=paper_labels))


@app.command("mmsa")
def mmsa_command(  # noqa: PLR0917 - one parameter per option
    file: Annotated[Path, typer.Argument(help="Pickle of MMSA: aligned_50.pkl, unaligned_39.pkl, ...")],
    out: Out,
    fill: Annotated[float | None, typer.Option(help="Write this for NaN and Inf in rows (MMSA itself: 0 for -Inf).")] = None,
    name: Name = "",
    licence: Licence = "",
    allow_failures: AllowFailures = 0,
    overwrite: Overwrite = False,
) -> None:
    """CMU-MOSI, CMU-MOSEI or CH-SIMS as MMSA publishes them; no pickle can run code here.

    Tasks: `sentiment` (regression) and `polarity` (classes), of CH-SIMS also `sentiment_T`, `_A` and `_V`. Modalities: the
    text, `words` (rows of the field text), `audio` and `video` (vision). Rows without padding; the group is the video.
    """
    from data_prep.importers.mmsa import import_mmsa

    target = Target(out, Console(stderr=True), name, licence, allow_failures, overwrite)
    _done(target, import_mmsa(file, target=target, fill=fill))


def _done(target: Target, outcome: Outcome) -> None:
    left = f"; {len(outcome.failures)} left out, see {target.report}" if outcome.failures else ""
    typer.echo(f"{target.out}: {outcome.samples} samples{left}")
