"""Training samples by how sure and how steady the model was of them over the epochs (Swayamdipta et al. 2020)."""

from collections.abc import Iterator

import altair as alt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmtrain.report.drawing import ROWS, color, legend, shape, vega_lite
from mmtrain.report.parts import Chart, Missing, Part, Section, Value
from mmtrain.report.run_record import RunRecord
from mmtrain.report.thinning import spread_out

_FILE = "evaluation/data_map.parquet"
_TITLE = "Data map"
# where a sample stands by the share of epochs in which it was right
_KINDS = ("always right", "mostly right", "mostly wrong", "always wrong")


def data_map_section(record: RunRecord) -> Section:
    """Every task of evaluation/data_map.parquet."""
    try:
        table = pq.read_table(record.run.path / _FILE)
    except (OSError, pa.ArrowException):
        epochs = record.run.epochs_predicted()
        hint = " It needs predictions of two training epochs: `training.train_predictions: true`." if len(epochs) < 2 else ""
        return Section(_TITLE, [Missing(f"No data map yet.{hint}", record.command("datamap"))])
    words = (
        "A point is a training sample: how probable its label was on average over the epochs (confidence), and how much "
        "that varied. High and left: easy. Right: ambiguous. Low and left: hard, and often labelled wrongly."
    )
    parts: list[Part] = [words]
    for task in pc.unique(table["task"]).to_pylist():
        parts += _of_task(task, table.filter(pc.equal(table["task"], task)), record)
    return Section(_TITLE, parts)


def _of_task(task: str, table: pa.Table, record: RunRecord) -> Iterator[Part]:
    order = pc.sort_indices(
        table, sort_keys=[("confidence", "ascending"), ("variability", "ascending"), ("id", "ascending")]
    )
    shown = table.take(order).take(pa.array(spread_out(table.num_rows, most=record.limits.samples)))
    correctness = shown["correctness"].to_numpy()
    columns: dict[str, list[Value]] = {
        name: shown[name].to_pylist() for name in ("id", "stream", "confidence", "variability", "forgetting_events")
    }
    columns["answers"] = [_KINDS[number] for number in _kind(correctness)]
    every = table["correctness"].to_numpy()
    counts = np.bincount(_kind(every), minlength=len(_KINDS))
    forgotten = int(pc.sum(pc.greater(table["forgetting_events"], 0)).as_py() or 0)
    words = ", ".join(f"{count:,} {name}" for name, count in zip(_KINDS, counts.tolist(), strict=True))
    cut = (
        f" {shown.num_rows:,} of {table.num_rows:,} are drawn, evenly by confidence."
        if shown.num_rows < table.num_rows
        else ""
    )
    epochs = table["epochs"][0].as_py()
    summary = f"{epochs} epochs: {words}; {forgotten:,} were right and then wrong at least once.{cut}"
    yield Chart(title=task, summary=summary, columns=columns, drawing=vega_lite(_drawing(), height=340))


def _kind(correctness: np.ndarray) -> np.ndarray:
    """0 .. 3 for a share of epochs of 1, at least a half, above 0, 0."""
    kinds: np.ndarray = np.select([correctness >= 1, correctness >= 0.5, correctness > 0], [0, 1, 2], 3)
    return kinds


def _drawing() -> alt.Chart:
    symbols = legend(_KINDS, is_of_lines=False)
    texts = [alt.Tooltip(field=name, type="nominal") for name in ("id", "stream", "answers")]
    numbers = [alt.Tooltip(field=name, type="quantitative", format=".3~f") for name in ("confidence", "variability")]
    drawn: alt.Chart = (
        alt.Chart(ROWS)
        .mark_point(filled=True, size=22, opacity=0.55)
        .encode(
            x=alt.X(field="variability", type="quantitative"),
            y=alt.Y(field="confidence", type="quantitative", scale=alt.Scale(domain=[0, 1])),
            color=color("answers", _KINDS, legend=symbols),
            shape=shape("answers", _KINDS, legend=symbols),
            tooltip=[*texts, *numbers, alt.Tooltip(field="forgetting_events", type="quantitative", title="forgotten")],
        )
    )
    return drawn
