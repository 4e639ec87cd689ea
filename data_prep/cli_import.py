"""The commands of `python -m data_prep import` and `export`: foreign formats to feature stores and back."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data_prep.cli_options import Out, Overwrite
from data_prep.importers.target import Outcome, Target
from data_prep.options import read_pairs, read_rates
from mmtrain.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Foreign formats to feature stores.", rich_markup_mode=None)
exports = typer.Typer(no_args_is_help=True, help="Feature stores to other formats.", rich_markup_mode=None)

Name = Annotated[str, typer.Option(help="Name of the data set (default: by the source).")]
Licence = Annotated[str, typer.Option(help="Licence of the data, kept in the store.")]
AllowFailures = Annotated[int, typer.Option(min=0, help="Leave out up to so many samples that cannot be imported.")]


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


@app.command("npy")
def npy_command(  # noqa: PLR0917 - one parameter per option
    table: Annotated[
        Path, typer.Argument(help="CSV, JSONL, JSON or Parquet: id, split, group, text, labels, as of extract.")
    ],
    out: Out,
    modality: Annotated[list[str], typer.Option(help="name=FOLDER of <id>.npy, [T, D] each, repeatable.")],
    task: Annotated[list[str] | None, typer.Option(help="column=kind, repeatable; beside those of the sidecar.")] = None,
    extractor: Annotated[list[str] | None, typer.Option(help="modality=name of what made the rows, repeatable.")] = None,
    rate: Annotated[list[str] | None, typer.Option(help="modality=rows per second, repeatable.")] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Files may be symbolic links that lead out of their folder.")
    ] = False,
    name: Name = "",
    licence: Licence = "",
    allow_failures: AllowFailures = 0,
    overwrite: Overwrite = False,
) -> None:
    """A table and a folder of .npy files for each modality (`export npy` writes both).

    A file that is not there is a missing modality. A file that holds objects, no rows, or rows of another width than the
    first is a failure, as is a link that leads nowhere or out of its folder: exit code 3, and STORE.failures.jsonl lists
    them. float64 and whole numbers become float32; uint8 [T, 3, H, W] are pixels. An id that cannot be a file's name is
    written as in a URL (a/b: a%2Fb.npy).
    """
    from data_prep.importers.npy import Folder, import_npy

    paths = read_pairs(modality, "--modality")
    extractors = read_pairs(extractor or [], "--extractor")
    rates = read_rates(rate or [], "--rate")
    for option, pairs in (("--extractor", extractors), ("--rate", rates)):
        for key in pairs:
            if key not in paths:
                raise ConfigError(f"{option} {key}: no --modality of that name; there are {', '.join(paths)}")
    folders = {
        key: Folder(Path(path), extractors.get(key, "unknown"), rates.get(key), allow_outside=allow_outside)
        for key, path in paths.items()
    }
    target = Target(out, Console(stderr=True), name, licence, allow_failures, overwrite)
    _done(target, import_npy(table, folders=folders, tasks=read_pairs(task or [], "--task"), target=target))


@app.command("hf")
def hf_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    source: Annotated[str, typer.Argument(help="Folder of save_to_disk, of Parquet or Arrow files; or a name on the hub.")],
    out: Out,
    text: Annotated[str | None, typer.Option(help="Column with the text.")] = None,
    second_text: Annotated[str | None, typer.Option(help="Column with the second text of a pair.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="task=kind:column, repeatable.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="name=column of lists of rows, repeatable.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Column with the id (default: split and number).")] = None,
    group: Annotated[str | None, typer.Option(help="Column with the group (default: a sample is its own).")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="train=NAME, val=NAME, test=NAME; what is not named stays out.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
    name: Name = "",
    licence: Licence = "",
    allow_failures: AllowFailures = 0,
    overwrite: Overwrite = False,
) -> None:
    """A Hugging Face data set; only its Parquet and Arrow files are read, and none of its code.

    Kinds: binary, multiclass, multilabel (lists), regression. Classes are called what the data set calls them, else by the
    values of the column; -1 of a class is a missing label. Without --split all splits are taken, validation as val.
    """
    from data_prep.importers.hugging_face import Columns, import_hugging_face

    columns = Columns(
        text, second_text, id_, group, read_pairs(label or [], "--label"), read_pairs(modality or [], "--modality")
    )
    target = Target(out, Console(stderr=True), name, licence, allow_failures, overwrite)
    splits = read_pairs(split or [], "--split")
    _done(target, import_hugging_face(source, columns=columns, splits=splits, target=target, revision=revision))


@exports.command("npy")
def export_npy_command(
    store: Annotated[Path, typer.Argument(help="Folder of the store.")],
    out: Annotated[Path, typer.Option(help="New folder for <modality>/<id>.npy, table.jsonl and table.json.")],
) -> None:
    """A store to a folder of .npy files for each modality and a table; `import npy` makes the store of it again."""
    from data_prep.importers.npy_export import export_npy
    from mmtrain.data.store import FeatureStore

    source = FeatureStore(store)
    files = export_npy(source, out=out, console=Console(stderr=True))
    typer.echo(f"{out}: {len(source)} samples, {files} files")


def _done(target: Target, outcome: Outcome) -> None:
    left = f"; {len(outcome.failures)} left out, see {target.report}" if outcome.failures else ""
    typer.echo(f"{target.out}: {outcome.samples} samples{left}")
