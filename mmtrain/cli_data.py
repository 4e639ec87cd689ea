"""What is done with feature stores: thin doors to mmtrain/data/."""

from pathlib import Path
from typing import Annotated, Literal

import typer

data_app = typer.Typer(help="Look at feature stores.", no_args_is_help=True)

ProbedSplit = Literal["val", "test"]
Store = Annotated[Path, typer.Argument(help="Folder of a feature store.")]


@data_app.command("check")
def data_check(store: Store) -> None:
    """Verify a store: checksums, shapes, numbers, labels, ids, groups. Exit code 1 and a line for each defect."""
    from mmtrain.data.check import check_store

    defects = check_store(store)
    for defect in defects:
        typer.echo(defect)
    if defects:
        raise typer.Exit(1)
    typer.echo(f"{store}: no defect found")


@data_app.command("map")
def data_map(
    store: Store,
    cache: Annotated[Path, typer.Option("--cache", help="The key `cache` of the experiments that read the store.")] = Path(
        "cache"
    ),
) -> None:
    """Decode the sample table of a large store into a file that all processes of a machine share, and start from at once."""
    from mmtrain.data.mapped_table import write_mapped
    from mmtrain.data.store import FeatureStore

    file = write_mapped(store, cache=cache, sha256=FeatureStore(store).table_hash)
    typer.echo(f"{store}: the sample table is in {file} ({file.stat().st_size / 2**20:,.1f} MiB); runs find it there")


@data_app.command("info")
def data_info(store: Store) -> None:
    """Describe a store: samples per split and task, label balance, lengths."""
    from rich.console import Console

    from mmtrain.data.info import print_info

    print_info(store, Console())


@data_app.command("probe")
def data_probe(
    store: Path,
    task: Annotated[str, typer.Argument(help="A binary or multiclass task of the store.")],
    modality: Annotated[str, typer.Argument(help="A feature modality of the store.")],
    split: Annotated[ProbedSplit, typer.Option(help="Scored on. No run counts this reading.")] = "val",
) -> None:
    """Fit a logistic regression on a modality's mean and deviation: the accuracy that a model has to beat."""
    from mmtrain.evaluation.probe import probe

    result = probe(store, task, modality, split=split)
    typer.echo(
        f"{store}: logistic regression on mean and deviation of {modality} rows: {task} accuracy {result.accuracy:.3f} "
        f"(majority {result.majority:.3f}; {result.num_train} training and {result.num_scored} {split} samples)"
    )
