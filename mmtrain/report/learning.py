"""Learning curves: the loss of every task with its spread over samples, its metric, and what the update minimizes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from mmtrain.evaluation.standards import PRIMARY
from mmtrain.report.charts import line_chart
from mmtrain.report.drawing import PALETTE, ROWS, vega_lite
from mmtrain.report.parts import Chart, Missing, Part, Section, Value
from mmtrain.report.run_log import Line, Record, over_steps
from mmtrain.report.run_record import RunRecord
from mmtrain.report.thinning import spread_out

_SPLITS = ("val", "train")
_LOSSES = ("loss", "loss_q05", "loss_q25", "loss_q50", "loss_q75", "loss_q95")


def learning_section(record: RunRecord) -> Section:
    """Losses with their spread and metrics by evaluation, and the training loss between them."""
    evaluations = record.log.evaluations
    if not evaluations and not len(record.log.steps):
        return Section("Learning curves", [Missing("No step is logged yet")])
    parts: list[Part] = [
        "The mean loss of each evaluation (solid), the median (dotted), the middle half (dark) and the middle 90 % (light) "
        "of the samples. Training losses are those of the samples drawn since the evaluation before."
    ]
    if evaluations:
        for task in evaluated_tasks(evaluations):
            parts += _loss_charts(task, evaluations, most=max(record.limits.points // 2, 2))
            parts += _metric_charts(task, record)
    else:
        parts.append(Missing("No evaluation yet: curves with their spread come with the first"))
    parts += _training_charts(record)
    return Section("Learning curves", parts)


def evaluated_tasks(evaluations: Sequence[Record]) -> list[str]:
    """Tasks of the validation metrics, in their order."""
    names = (name.split("/") for name in evaluations[-1]["metrics"])
    return list(dict.fromkeys(parts[1] for parts in names if len(parts) == 3 and parts[0] == "val" and "@" not in parts[1]))


def _loss_charts(task: str, evaluations: Sequence[Record], *, most: int) -> Iterator[Chart]:
    """Validation and training, side by side with the same axis."""
    chosen = [evaluations[number] for number in spread_out(len(evaluations), most=most)]
    found = [item["metrics"].get(f"{split}/{task}/loss_q95") for split in _SPLITS for item in chosen]
    highest = max((value for value in found if value is not None), default=1.0)
    for split, words in zip(_SPLITS, ("Validation", "Training"), strict=True):
        columns: dict[str, list[Value]] = {"step": [item["step"] for item in chosen]}
        columns |= {name: [item["metrics"].get(f"{split}/{task}/{name}") for item in chosen] for name in _LOSSES}
        if any(value is not None for value in columns["loss"]):
            yield Chart(
                title=f"{task}: {words.lower()} loss",
                summary=_in_words(words, columns),
                columns=columns,
                drawing=_bands(PALETTE[_SPLITS.index(split)], highest=highest, has_dots=len(chosen) <= 30),
            )


def _bands(shade: str, *, highest: float, has_dots: bool) -> Mapping[str, Any]:
    scale = alt.Scale(domain=[0, highest], clamp=True)
    base = alt.Chart(ROWS).encode(x=alt.X(field="step", type="quantitative", axis=alt.Axis(tickMinStep=1)))
    layers = [
        base.mark_area(opacity=opacity, color=shade).encode(
            y=alt.Y(field=low, type="quantitative", title="loss", scale=scale), y2=alt.Y2(field=high)
        )
        for low, high, opacity in (("loss_q05", "loss_q95", 0.13), ("loss_q25", "loss_q75", 0.25))
    ]
    layers.append(
        base.mark_line(color=shade, strokeDash=[2, 2], strokeWidth=1).encode(y=alt.Y(field="loss_q50", type="quantitative"))
    )
    dots = alt.OverlayMarkDef(filled=True, size=25, color=shade) if has_dots else False
    tooltip = [alt.Tooltip(field=name, type="quantitative", format=".5~g") for name in ("step", *_LOSSES)]
    layers.append(
        base.mark_line(point=dots, color=shade, strokeWidth=2.2).encode(
            y=alt.Y(field="loss", type="quantitative"), tooltip=tooltip
        )
    )
    return vega_lite(alt.layer(*layers))


def _in_words(split: str, columns: Mapping[str, Sequence[Value]]) -> str:
    losses = [(step, value) for step, value in zip(columns["step"], columns["loss"], strict=True) if value is not None]
    least = min(losses, key=lambda pair: float(pair[1]))
    last = losses[-1]
    return f"{split} loss {last[1]:.4g} at step {last[0]:,}; least {least[1]:.4g} at step {least[0]:,}."


def _metric_charts(task: str, record: RunRecord) -> Iterator[Chart]:
    """Training and validation of the metric that stands for the task."""
    evaluations = record.log.evaluations
    metric = metric_of(task, record)
    if metric is None:
        return
    lines = over_steps(
        evaluations, lambda item: {split: item["metrics"].get(f"{split}/{task}/{metric}") for split in _SPLITS}
    )
    lines = [line for line in lines if not np.isnan(line.values).all()]
    if lines:
        title = metric.replace("_", " ")
        last = ", ".join(f"{line.name} {line.values[-1]:.3f}" for line in lines)
        yield line_chart(f"{task}: {title}", f"At the last evaluation: {last}.", lines, y=title, limits=record.limits)


def metric_of(task: str, record: RunRecord) -> str | None:
    """The metric that stands for a task, from the predictions of validation; None where there are none."""
    item = record.predictions.get("val", {}).get(task)
    if item is None:
        return None
    if item.kind != "pretext":
        return PRIMARY[item.kind]
    names = [name.rpartition("/")[2] for name in record.log.evaluations[-1]["metrics"] if name.startswith(f"val/{task}/")]
    return next((name for name in names if not name.startswith("loss")), None)


def _training_charts(record: RunRecord) -> Iterator[Part]:
    """Finer than evaluations: what each step showed."""
    every = record.config["curve"]["every"]
    curve = over_steps(record.log.curve, lambda item: item["loss"])
    if curve:
        yield line_chart(
            "Training loss", f"Mean over every {every:,} samples drawn, by task.", curve, y="loss", limits=record.limits
        )
    objective = record.log.line("objective")
    lines = [objective] if objective else []
    lines += [Line(f"penalty {line.name}", line.steps, line.values) for line in record.log.lines("penalty/")]
    lines += [Line(f"term {line.name}", line.steps, line.values) for line in record.log.lines("aux/")]
    if lines:
        summary = "What each step minimized over its batch, and what is added to it apart: penalties and terms of the batch."
        yield line_chart("Objective and penalties", summary, lines, y="value", limits=record.limits)
