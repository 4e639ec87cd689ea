"""The commands that look at trained runs: tables, pages, what one withstands and reads, training samples, attention."""

from pathlib import Path
from typing import Annotated

import typer

from mmtrain.cli_options import Checkpoint, Weights
from mmtrain.errors import UserError
from mmtrain.quick_start import uncollected

Run = Annotated[Path, typer.Argument(help="A run folder.")]


def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="The split to score: train, val or test.")] = "val",
    checkpoint: Checkpoint = "best",
    weights: Weights = "trained",
    *,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Instead: subsets of modalities, missing, noisy and cut-off inputs.")
    ] = False,
    importance: Annotated[
        bool, typer.Option("--importance", help="Instead: what is lost where a modality is swapped between samples.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Instead: a linear classifier on the fused vectors, learned from train.")
    ] = False,
    groups: Annotated[bool, typer.Option("--groups", help="Print the worst groups, too.")] = False,
    levels: Annotated[
        list[str] | None, typer.Option("--levels", help="Of --robustness: drop=0.5,1 and the like; noise= leaves noise out.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Draws of --robustness (1) and --importance (5).")
    ] = None,
    from_predictions: Annotated[
        bool, typer.Option("--from-predictions", help="Instead: metrics of the predictions that are there; no model is run.")
    ] = False,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Of --from-predictions: task/name; several times for several.")
    ] = None,
) -> None:
    """Score a run on a split: predictions, a table with intervals, and what each stream had of the batches."""
    with uncollected():
        from mmtrain.analysis.evaluating import evaluate_run

    if from_predictions:
        from mmtrain.rescoring import rescore_run

        if checkpoint != "best" or robustness or importance or probe or groups:
            raise UserError("--from-predictions: no model is run; leave --checkpoint, --robustness and the like out")
        rescore_run(run, split=split, weights=weights, metrics=metric or ())
        return
    if metric:
        raise UserError("--metric: an evaluation gives every metric; write --from-predictions to choose some")
    evaluate_run(
        run,
        split=split,
        checkpoint=checkpoint,
        weights=weights,
        robustness=robustness,
        importance=importance,
        probe=probe,
        groups=groups,
        levels=levels or (),
        repeats=repeats,
    )


def datamap(run: Annotated[Path, typer.Argument(help="A run folder with predictions of two training epochs.")]) -> None:
    """Which training samples a run found easy, hard or ambiguous, and which it forgot: evaluation/data_map.parquet."""
    from mmtrain.analysis.data_map import map_run
    from mmtrain.engine.console import stdout_console

    map_run(run, console=stdout_console())


def attention(
    run: Run,
    sample: Annotated[str, typer.Argument(help="The id of a sample.")],
    split: Annotated[str, typer.Option(help="The split it is in: train, val or test.")] = "val",
    *,
    stream: Annotated[str | None, typer.Option(help="The stream it is of, where several have the id.")] = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = "trained",
) -> None:
    """Record what the fusion attends to in one sample: evaluation/attention/<id>.json."""
    from mmtrain.analysis.attention import record_attention

    record_attention(run, sample, split=split, stream=stream, checkpoint=checkpoint, weights=weights)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders; the first is the baseline.")],
    split: Annotated[str, typer.Option(help="The split whose predictions are compared: train, val or test.")] = "val",
    baseline: Annotated[Path | None, typer.Option(help="The run that the others are held against.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="task/name, or loss; several times for several.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="compare.html by default: a page, and a .json beside it; a .json file: that alone."),
    ] = None,
) -> None:
    """Compare runs on the same samples: differences with intervals, paired tests, effect sizes, Holm's correction."""
    from mmtrain.report import has_report
    from mmtrain.run_comparison import compare_folders

    if out is None and has_report():
        out = Path("compare.html")
    compare_folders(runs, split=split, baseline=baseline, metrics=metric or (), out=out)
    if out is None:
        typer.echo("no compare.html: a page needs pip install 'mmtrain[report]'")


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, also of a run under way.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; report.html in the run by default.")] = None,
) -> None:
    """Write the report of a run: one HTML file with its curves, decisions, errors and worst samples."""
    from mmtrain.report import require_report

    require_report("mmtrain report")
    from mmtrain.report.run_page import write_report

    typer.echo(f"written to {write_report(run, out)}")


def plot(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")],
) -> None:
    """Write the charts of a run's report as PNG and PDF, as wide as a column of a paper."""
    from mmtrain.report import require_report

    require_report("mmtrain plot")
    from mmtrain.report.pictures import write_pictures

    typer.echo(f"{len(write_pictures(run, out))} files written to {out}")
