"""The commands of `python -m data_prep` that make a store from stores; none of them touches what it reads."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from data_prep.cli_options import Out, Overwrite
from mmtrain.errors import ConfigError

app = typer.Typer(rich_markup_mode=None)

Source = Annotated[Path, typer.Argument(help="Folder of the store that is read.")]


@app.command("merge")
def merge_command(
    stores: Annotated[list[Path], typer.Argument(help="Folders of the stores that are read.")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="Name of the new store (default: that of its folder).")] = None,
    prefix_ids: Annotated[
        bool, typer.Option("--prefix-ids", help="Set the store's name before every id and group.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Join stores. What they share by name is the same in all: a modality's width, rate and extractor, a task's classes."""
    from data_prep.merge import merge

    _tell(out, merge(stores, out=out, name=name, prefix_ids=prefix_ids, overwrite=overwrite))


@app.command("filter")
def filter_command(
    store: Source,
    where: Annotated[str, typer.Option(help='Condition, such as "funny == 1 and audio.rows > 10".')],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Keep the samples of which a condition is true.

    Columns are those of samples.parquet (id, split, group, text, text_characters, labels, further ones) and `audio.rows` for
    the rows of a modality; column("a-b.rows") where a name is not a word. Comparisons: == != < <= > >=, in ('a', 'b'),
    not in, is None, is not None; and, or, not, brackets between them. A class may be written by its name. Where a cell is
    empty, a comparison is neither true nor false, and neither is its `not`.
    """
    from data_prep.filtering import filter_store

    _tell(out, filter_store(store, where=where, out=out, overwrite=overwrite))


@app.command("split")
def split_command(  # noqa: PLR0917 - one parameter per option
    store: Source,
    out: Out,
    by: Annotated[str, typer.Option(help="Column whose equal values stay on one side.")] = "group",
    stratify: Annotated[list[str] | None, typer.Option(help="Task whose labels are spread evenly, repeatable.")] = None,
    ratios: Annotated[tuple[float, float, float], typer.Option(help="Shares of train, val and test.")] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option(help="The same seed gives the same splits.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Divide a store anew over train, val and test; no group stands on two sides. --by becomes the new store's group."""
    from data_prep.resplit import split_store

    balance, notes = split_store(
        store, out=out, ratios=ratios, by=by, stratify=stratify or [], seed=seed, overwrite=overwrite
    )
    lines = []
    for split, item in balance.items():
        lines.append(f"{split}: {item.samples} samples ({item.share:.2%}), {item.groups} groups")
        lines += [f"{split}, {task}: {_numbers(shares)}" for task, shares in item.labels.items()]
    _tell(out, [*lines, *notes])


@app.command("cast")
def cast_command(
    store: Source,
    out: Out,
    dtype: Annotated[str, typer.Option(help="float16 or float32.")],
    overwrite: Overwrite = False,
) -> None:
    """Store the features in another floating-point type; numbers beyond its range are refused, pixels stay."""
    from data_prep.cast import cast_store

    if dtype not in ("float16", "float32"):
        raise ConfigError(f"--dtype {dtype}: write one of float16, float32")
    errors, notes = cast_store(store, out=out, dtype="float16" if dtype == "float16" else "float32", overwrite=overwrite)
    lines = [
        f"{name}: largest error {error.largest:.4g} (relative {error.largest_relative:.4g}), root mean square "
        f"{error.root_mean_square:.4g}, {error.vanished} of {error.values} numbers became 0"
        for name, error in errors.items()
    ]
    _tell(out, [*lines, *notes])


@app.command("stats")
def stats_command(
    store: Source,
    out: Annotated[Path | None, typer.Option(help="Folder of a new store with the statistics in it.")] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Rows of the new store are read as (row - mean) / deviation.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure mean and standard deviation of every feature dimension over the rows of train.

    The new store shares its data files with the old one (hard links) where the file system allows it.
    """
    from data_prep.stats import measure_store

    lines = measure_store(store, out=out, normalize=normalize, overwrite=overwrite)
    if out is None:
        typer.echo("\n".join(lines))
    else:
        _tell(out, lines)


def _tell(out: Path, lines: Iterable[str]) -> None:
    typer.echo("\n".join([f"{out}: written", *lines]))


def _numbers(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.4g}" for name, share in shares.items()) or "no labels"
