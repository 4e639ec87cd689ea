"""Charts of what the axes of a matrix come to: each by itself, and two together."""

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np
import numpy.typing as npt

from mmtrain.ablation.contents import Report
from mmtrain.ablation.effects import Effect, Grid, grid_of, main_effects
from mmtrain.ablation.page_charts import is_lower, number, shown
from mmtrain.report.drawing import NEUTRAL, PALETTE, ROWS, vega_lite
from mmtrain.report.parts import Chart, Missing, Part, Value

Floats = npt.NDArray[np.float64]


def effect_charts(report: Report) -> Iterator[Part]:
    """One chart for each axis."""
    metric = report.plan.matrix.metric
    effects = main_effects(report.plan, report.rows)
    for axis in report.plan.matrix.axes:
        own = [effect for effect in effects if effect.axis == axis]
        if own:
            yield _effect_chart(axis, own, metric)
        elif len(report.plan.matrix.axes[axis]) > 1:
            yield Missing(f"No effect of {axis} yet: no seed has all of its values in equal combinations of the other axes.")


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _effect_chart(axis: str, effects: Sequence[Effect], metric: str) -> Chart:
    columns: dict[str, list[Value]] = {
        axis: [effect.value for effect in effects],
        metric: [effect.mean for effect in effects],
        "low": shown([effect.low for effect in effects]),
        "high": shown([effect.high for effect in effects]),
    }
    first = effects[0]
    best = (min if is_lower(metric) else max)(effects, key=lambda effect: effect.mean)
    summary = (
        f"Mean of {metric} for each value of {axis}, over {_count(first.num_seeds, 'seed')} and "
        f"{_count(first.num_combinations, 'combination')} of the other axes"
        f"{'' if np.isnan(first.low) else ', with a 95 % interval (Student) over seeds'}. "
        f"The best is {best.value} ({best.mean:.4g})."
    )
    y = alt.Y(field=axis, type="nominal", title=None, sort=None)
    x = alt.X(field=metric, type="quantitative", title=metric, scale=alt.Scale(zero=False))
    base = alt.Chart(ROWS).encode(y=y)
    bars = base.mark_rule(color=NEUTRAL, strokeWidth=2).encode(
        x=alt.X(field="low", type="quantitative", title=metric, scale=alt.Scale(zero=False)), x2=alt.X2(field="high")
    )
    tooltip = [alt.Tooltip(field=axis, type="nominal"), *(number(name) for name in (metric, "low", "high"))]
    dots = base.mark_point(filled=True, size=90, opacity=1, color=PALETTE[0]).encode(x=x, tooltip=tooltip)
    drawing = vega_lite(alt.layer(bars, dots), height=max(70, 26 * len(effects)))
    return Chart(title=f"Main effect of {axis}", summary=summary, columns=columns, drawing=drawing)


def interaction_charts(report: Report) -> Iterator[Chart]:
    """Two charts for each pair of axes whose combinations are all there."""
    axes = list(report.plan.matrix.axes)
    for place, row_axis in enumerate(axes):
        for column_axis in axes[place + 1 :]:
            grid = grid_of(report.plan, report.rows, row_axis, column_axis)
            if grid is not None:
                yield _means_chart(grid, report.plan.matrix.metric)
                yield _left_chart(grid, report.plan.matrix.metric)


def _means_chart(grid: Grid, metric: str) -> Chart:
    cells = np.array(grid.means)
    sign = -1 if is_lower(metric) else 1
    spread = float(np.ptp(cells)) or 1.0
    shades = (sign * cells - (sign * cells).min()) / spread
    texts = [[f"{value:.3f}" for value in row] for row in grid.means]
    summary = f"Mean of {metric} for both, over seeds and all else: the stronger the color, the better."
    return _grid_chart(
        grid,
        title=f"{grid.row_axis} and {grid.column_axis}",
        summary=summary,
        cells=cells,
        shades=shades,
        texts=texts,
        name=metric,
    )


def _left_chart(grid: Grid, metric: str) -> Chart:
    cells = np.array(grid.interactions)
    shades = np.abs(cells) / (float(np.abs(cells).max()) or 1.0)
    texts = [[f"{value:+.3f}" for value in row] for row in grid.interactions]
    row, column = np.unravel_index(int(np.abs(cells).argmax()), cells.shape)
    summary = (
        f"What is left of {metric} without both main effects: 0 everywhere where the axes do not act on each other. Most "
        f"is left for {grid.rows[row]} with {grid.columns[column]}: {cells[row, column]:+.4g}."
    )
    title = f"Interaction of {grid.row_axis} and {grid.column_axis}"
    return _grid_chart(grid, title=title, summary=summary, cells=cells, shades=shades, texts=texts, name="left")


def _grid_chart(
    grid: Grid,
    *,
    title: str,
    summary: str,
    cells: Floats,
    shades: Floats,
    texts: Sequence[Sequence[str]],
    name: str,
) -> Chart:
    places = [(row, column) for row in range(len(grid.rows)) for column in range(len(grid.columns))]
    columns: dict[str, list[Value]] = {
        grid.row_axis: [grid.rows[row] for row, _ in places],
        grid.column_axis: [grid.columns[column] for _, column in places],
        name: [float(cells[place]) for place in places],
        "shade": [float(shades[place]) for place in places],
        "text": [texts[row][column] for row, column in places],
    }
    base = alt.Chart(ROWS).encode(
        x=alt.X(field=grid.column_axis, type="nominal", sort=None, axis=alt.Axis(labelAngle=-35, grid=False)),
        y=alt.Y(field=grid.row_axis, type="nominal", sort=None, axis=alt.Axis(grid=False)),
    )
    scale = alt.Scale(domain=[0, 1], range=[0.03, 0.62])
    names = [alt.Tooltip(field=axis, type="nominal") for axis in (grid.row_axis, grid.column_axis)]
    boxes = base.mark_rect(color=PALETTE[0]).encode(
        opacity=alt.Opacity(field="shade", type="quantitative", scale=scale, legend=None), tooltip=[*names, number(name)]
    )
    numbers = base.mark_text(fontSize=12).encode(text=alt.Text(field="text", type="nominal"))
    drawing = vega_lite(alt.layer(boxes, numbers), height=max(90, 34 * len(grid.rows)))
    return Chart(title=title, summary=summary, columns=columns, drawing=drawing)
