"""The commands that use a trained model: predict, pack, compress, export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mmtrain.cli_options import Checkpoint, Weights
from mmtrain.errors import ConfigError

Run = Annotated[Path, typer.Argument(help="A run folder, or one that `mmtrain pack` or `compress` wrote.")]


def predict(  # noqa: PLR0913 - one parameter per option
    run: Run,
    out: Annotated[Path, typer.Option(help="File to write: .parquet, .csv or .jsonl.")],
    *,
    store: Annotated[Path | None, typer.Option(help="A feature store of the run's own extractors.")] = None,
    split: Annotated[str | None, typer.Option(help="Of --store: one split; all samples by default.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="A table of media, as `data_prep extract` reads.")] = None,
    media: Annotated[Path | None, typer.Option(help="One video or sound file.")] = None,
    subtitles: Annotated[Path | None, typer.Option(help="Of --media: SRT, WebVTT or ASS.")] = None,
    text: Annotated[str | None, typer.Option(help="Of --media, or alone: the text itself.")] = None,
    window: Annotated[float | None, typer.Option(help="Of --media: seconds of the windows it is cut into.")] = None,
    every: Annotated[float | None, typer.Option(help="Seconds from one window to the next; --window by default.")] = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "trained",
    like: Annotated[str | None, typer.Option(help="Dataset of the run whose statistics normalize the rows.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Of media: a modality not to read, repeatable.")] = None,
    extractor_weights: Annotated[
        list[str] | None, typer.Option(help="Of media: extractor=FILE, repeatable, as `extract --weights`.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Of media: samples extracted at a time.")] = 1,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Media may lie outside of the manifest's folder.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of one forward pass.")] = 32,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Write the fused vector of each sample too.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out, and list, samples that cannot be read.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Answer the run's tasks for new samples: labels and calibrated probabilities, one row a sample.

    Features must be from the extractors that the run's stores were made with; media go through these very ones. A call that
    was stopped goes on where it was. What is missing of a sample stands in the column `missing`.
    """
    from mmtrain.inference.predict import Predicting
    from mmtrain.inference.raw import Extraction, Media
    from mmtrain.inference.sources import predict_source

    given = {"--store": store, "--manifest": manifest, "--media": media, "--text": text if media is None else None}
    one = [name for name, value in given.items() if value is not None]
    if len(one) != 1:
        found = " and ".join(one) or "none of them"
        raise ConfigError(f"predict: one of --store, --manifest, --media or --text says what is new; here is {found}")
    if split is not None and store is None:
        raise ConfigError("--split: only a --store has splits")
    if media is None and (subtitles is not None or window is not None or every is not None):
        raise ConfigError("--subtitles, --window and --every belong to --media")
    asked = Predicting(
        out=out, split=split, like=like, batch_size=batch_size, embeddings=embeddings, skip_bad=skip_bad, overwrite=overwrite
    )
    clip = Media(file=media, subtitles=subtitles, text=text, window=window, every=every)
    predict_source(
        run,
        asked,
        store or manifest or clip,
        is_manifest=manifest is not None,
        checkpoint=checkpoint,
        weights=weights,
        extraction=Extraction(
            weights=_pairs(extractor_weights or []), without=without or (), workers=workers, allow_outside=allow_outside
        ),
    )


def _pairs(items: Sequence[str]) -> dict[str, str]:
    pairs = dict(item.partition("=")[::2] for item in items)
    if len(pairs) < len(items) or not all(key and value for key, value in pairs.items()):
        raise ConfigError(f"--extractor-weights {' '.join(items)}: write extractor=FILE, each extractor once")
    return pairs


def pack(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    checkpoint: Checkpoint = "best",
    weights: Weights = "trained",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder, if it is a package.")] = False,
) -> None:
    """Write a folder that predicts by itself: weights, config, tokenizer, calibration, metrics and a model card."""
    from mmtrain.inference.load import load
    from mmtrain.inference.pack import write_package

    write_package(load(run, checkpoint=checkpoint, weights=weights, device="cpu"), out, overwrite=overwrite)
    typer.echo(f"{out}: written; mmtrain.load('{out}') reads it, and {out / 'README.md'} is its card, to be completed")


def compress(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write, a package as `mmtrain pack` writes it.")],
    method: Annotated[str, typer.Option(help="fold, int8, bf16 or fp16.")],
    *,
    split: Annotated[str, typer.Option(help="What metrics before and after are measured on.")] = "val",
    checkpoint: Checkpoint = "best",
    weights: Weights = "trained",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder, if it is a package.")] = False,
) -> None:
    """Write a smaller or faster package: size, speed and every metric of the validation split before and after."""
    from mmtrain.inference.compress import compress_run

    compress_run(run, out, method=method, split=split, checkpoint=checkpoint, weights=weights, overwrite=overwrite)
    typer.echo(f"{out}: written; mmtrain.load('{out}') and `mmtrain predict {out}` read it")


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="File to write: .pt2 or .onnx.")],
    *,
    form: Annotated[str, typer.Option("--format", help="torch-export or onnx; by the name of --out.")] = "",
    checkpoint: Checkpoint = "best",
    weights: Weights = "trained",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write the model as a graph of dynamic batches, lengths and masks, compared at once with the model itself."""
    from mmtrain.inference.export import SUFFIXES
    from mmtrain.inference.export import export as export_graph
    from mmtrain.inference.load import load

    chosen = next((name for name, suffix in SUFFIXES.items() if name == form or (not form and suffix == out.suffix)), None)
    if chosen is None:
        raise ConfigError(f"--format {form or out.suffix}: write one of {', '.join(SUFFIXES)}")
    model = load(run, checkpoint=checkpoint, weights=weights, device="cpu")
    found = export_graph(model, out, form=chosen, overwrite=overwrite)
    typer.echo(
        f"{out}: {found.bytes / 2**20:.1f} MiB; at most {found.largest_difference:.1e} from the model on {found.batches} "
        f"ragged batches; {found.speed:.2f} times as fast"
    )
