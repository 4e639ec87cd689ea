"""Charts of the variants of a matrix: what each costs against what it comes to, and learning curves over each other."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import altair as alt
import numpy as np

from mmtrain.ablation.contents import Report
from mmtrain.ablation.rows import VariantRow
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.evaluation.metrics import is_lower_better
from mmtrain.report.drawing import (
    NEUTRAL,
    PALETTE,
    ROWS,
    SHAPES,
    color,
    dash,
    legend,
    shape,
    shape_legend,
    spread,
    vega_lite,
)
from mmtrain.report.parts import Chart, Part, Value

_MOST_LINES = 8  # of learning curves that can be told apart
_HEIGHT = 300  # pixels of a drawing of costs
_MOST_NAMES = 12  # beside the points


def cost_charts(report: Report) -> Iterator[Part]:
    """The metric of every variant over what it costs."""
    for name, title in (
        ("seconds", "training time, s"),
        ("trained", "parameters trained"),
        ("samples_per_second", "samples/s"),
    ):
        rows = [row for row in report.rows if row.estimate is not None and row.cost is not None]
        rows = [row for row in rows if not np.isnan(getattr(row.cost, name))]
        if len({getattr(row.cost, name) for row in rows}) > 1:
            yield _cost_chart(report, rows, name, title)


def _cost_chart(report: Report, rows: Sequence[VariantRow], name: str, title: str) -> Chart:
    metric, axes = report.plan.matrix.metric, list(report.plan.matrix.axes)
    estimates = [row.estimate for row in rows if row.estimate is not None]
    columns: dict[str, list[Value]] = {"variant": [row.variant.name for row in rows]}
    columns |= {axis: [row.variant.values[place] for row in rows] for place, axis in enumerate(axes)}
    columns |= {title: [getattr(row.cost, name) for row in rows], metric: [found.mean for found in estimates]}
    columns |= {"low": shown([found.low for found in estimates]), "high": shown([found.high for found in estimates])}
    y, few = alt.Scale(zero=False), alt.Axis(tickCount=6)
    base = alt.Chart(ROWS).encode(
        x=alt.X(field=title, type="quantitative", title=title, scale=alt.Scale(zero=False), axis=few)
    )
    bars = base.mark_rule(color=NEUTRAL).encode(
        y=alt.Y(field="low", type="quantitative", title=metric, scale=y), y2=alt.Y2(field="high")
    )
    tooltip = [alt.Tooltip(field="variant", type="nominal"), *(number(key) for key in (title, metric, "low", "high"))]
    marks: dict[str, alt.Color | alt.Shape] = {}
    for place, axis in enumerate(axes[:2]):
        names = list(dict.fromkeys(row.variant.values[place] for row in rows))
        if place == 0 and len(names) <= len(PALETTE):
            marks["color"] = color(axis, names, legend=legend(names, is_of_lines=False))
        elif place == 1 and len(names) <= len(SHAPES):
            marks["shape"] = shape(axis, names, legend=shape_legend(names))
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=alt.Y(field=metric, type="quantitative", title=metric, scale=y), tooltip=tooltip, **marks
    )
    layers = [bars, dots]
    if len(rows) <= _MOST_NAMES:
        places = _names_at(rows, name)
        columns |= {"name from": [x for x, _ in places], "name at": [y for _, y in places]}
        words = alt.Chart(ROWS).mark_text(align="left", dx=8, fontSize=10)
        layers += [
            words.encode(
                x=alt.X(field="name from", type="quantitative"),
                y=alt.Y(field="name at", type="quantitative"),
                text=alt.Text(field="variant", type="nominal"),
            )
        ]
    best = (min if is_lower(metric) else max)(zip(rows, estimates, strict=True), key=lambda pair: pair[1].mean)[0]
    summary = (
        f"Each point is a variant: the mean of {metric} over its seeds with its 95 % interval, over {title}. "
        f"The best, {best.variant.name}, has {getattr(best.cost, name):,.4g}."
    )
    drawing = vega_lite(alt.layer(*layers), height=_HEIGHT)
    return Chart(title=f"{metric} over {title}", summary=summary, columns=columns, drawing=drawing, is_wide=True)


def _names_at(rows: Sequence[VariantRow], cost: str) -> list[tuple[float, float]]:
    """Where the variants' names stand in a chart of a cost, by row."""
    estimates = [row.estimate for row in rows if row.estimate is not None]
    points = [(float(getattr(row.cost, cost)), found.mean) for row, found in zip(rows, estimates, strict=True)]
    drawn = [value for found in estimates for value in (found.low, found.mean, found.high) if not np.isnan(value)]
    extent = max(drawn) - min(drawn) or 1.0
    return spread(points, [row.variant.name for row in rows], extent=extent, height=_HEIGHT)


def curve_charts(report: Report) -> Iterator[Part]:
    """The metrics of the table over the steps: of the baseline and the best variants, mean and range over their seeds."""
    chosen = _chosen(report)
    for metric in (report.plan.matrix.metric, *report.plan.matrix.also):
        chart = _curve_chart(report, chosen, metric)
        if chart is not None:
            yield chart


def _chosen(report: Report) -> list[VariantRow]:
    known = [row for row in report.rows if row.estimate is not None]
    sign = 1 if is_lower(report.plan.matrix.metric) else -1
    ranked = sorted(known, key=lambda row: (not row.variant.is_baseline, sign * row.estimate.mean if row.estimate else 0.0))
    names = {row.variant for row in ranked[:_MOST_LINES]}
    return [row for row in known if row.variant in names]


def _curve_chart(report: Report, rows: Sequence[VariantRow], metric: str) -> Chart | None:
    columns: dict[str, list[Value]] = {key: [] for key in ("step", "variant", "mean", "least", "most")}
    lasts = []
    for row in rows:
        runs = [run for run in report.plan.of(row.variant) if run.seed in row.seeds]
        curves = [_curve(run.folder.metrics, run.folder.metrics.stat().st_mtime_ns, metric) for run in runs]
        steps = [step for step in curves[0] if all(step in curve for curve in curves)] if curves else []
        for step in steps:
            values = [curve[step] for curve in curves]
            columns["step"].append(step)
            columns["variant"].append(row.variant.name)
            columns["mean"].append(float(np.mean(values)))
            columns["least"].append(min(values))
            columns["most"].append(max(values))
        lasts += [f"{row.variant.name} {columns['mean'][-1]:.4g}"] if steps else []
    if not lasts:
        return None
    names = list(dict.fromkeys(str(name) for name in columns["variant"]))
    rest = sum(row.estimate is not None for row in report.rows) - len(rows)
    summary = f"Mean over the seeds, and the range of them; at the last evaluation that all have: {', '.join(lasts)}." + (
        f" The baseline and the best of the others: {rest} more are left out." if rest else ""
    )
    base = alt.Chart(ROWS).encode(x=alt.X(field="step", type="quantitative", axis=alt.Axis(tickMinStep=1)))
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y(field="least", type="quantitative", title=metric, scale=scale),
        y2=alt.Y2(field="most"),
        color=color("variant", names, legend=legend(names)),
    )
    line = base.mark_line(point=alt.OverlayMarkDef(filled=True, size=25)).encode(
        y=alt.Y(field="mean", type="quantitative", title=metric, scale=scale),
        color=color("variant", names, legend=legend(names)),
        strokeDash=dash("variant", names, legend=legend(names)),
        tooltip=[alt.Tooltip(field="variant", type="nominal"), *(number(key) for key in ("step", "mean", "least", "most"))],
    )
    drawing = vega_lite(alt.layer(band, line), height=280)
    return Chart(title=metric, summary=summary, columns=columns, drawing=drawing, is_wide=True)


@cache
def _curve(file: Path, written: int, metric: str) -> Mapping[int, float]:  # noqa: ARG001 - kept until it is written anew
    """A metric of a finished run by the step of its evaluation."""
    records = (record for record in read_jsonl(file) if record["kind"] == "evaluation")
    found = {int(record["step"]): record["metrics"].get(metric) for record in records if "step" in record}
    return {step: float(value) for step, value in found.items() if value is not None}


def is_lower(metric: str) -> bool:
    """Whether less is better of `split/task/metric`."""
    return is_lower_better(metric.rpartition("/")[2])


def number(name: str) -> alt.Tooltip:
    """A column of numbers as a chart's tooltip shows it."""
    return alt.Tooltip(field=name, type="quantitative", title=name, format=".5~g")


def shown(values: Sequence[float]) -> list[Value]:
    """Values of a chart's column: what is NaN is not there."""
    return [None if np.isnan(value) else value for value in values]
