"""The forms of charts that a report is made of: lines over steps, bands, heat maps, points with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt
import numpy as np

from mmtrain.report.drawing import NEUTRAL, ROWS, around_one, color, dash, legend, vega_lite
from mmtrain.report.parts import Chart, Value
from mmtrain.report.run_log import Line
from mmtrain.report.thinning import thin

Events = Mapping[int, str]  # step -> what happened there, in words


@dataclass(frozen=True)
class Limits:
    """How much of a run is drawn, so that a page stays small."""

    points: int = 2000  # of one line
    samples: int = 3000  # of one cloud of points
    rows: int = 100  # of one table of samples
    texts: int = 400  # characters of one text

    def halved(self) -> "Limits":
        return Limits(self.points // 2, self.samples // 2, max(self.rows // 2, 5), max(self.texts // 2, 40))


def line_chart(
    title: str,
    summary: str,
    lines: Sequence[Line],
    *,
    y: str,
    limits: Limits,
    x: str = "step",
    form: str = "",
    from_zero: bool = False,
    scale: Literal["linear", "log"] = "linear",
    threshold: float | None = None,
    events: Events | None = None,
) -> Chart:
    """A line for each name over its steps; `threshold`: a level that is marked; `events`: steps that are.

    `form`: of the numbers along the y axis, as d3-format takes it.
    """
    columns: dict[str, list[Value]] = {x: [], "name": [], y: [], **({"event": []} if events else {})}
    for line in lines:
        steps, values = thin(line.steps, line.values, most=limits.points)
        columns[x] += steps.tolist()
        columns["name"] += [line.name] * len(steps)
        columns[y] += [None if np.isnan(value) else value for value in values.tolist()]
    if events:
        columns["event"] += [None] * len(columns[x])
        columns[x] += list(events)
        columns["event"] += list(events.values())
        columns["name"] += [None] * len(events)
        columns[y] += [None] * len(events)
    around = alt.Undefined if from_zero or threshold is not None else around_one(columns[y])
    names = [line.name for line in lines]
    symbols = legend(names)
    base = alt.Chart(ROWS).encode(
        x=alt.X(field=x, type="quantitative", title=x, axis=alt.Axis(tickMinStep=1 if x == "step" else alt.Undefined))
    )
    drawn = base.transform_filter("isValid(datum.name)") if events else base
    dots = max((len(line.steps) for line in lines), default=0) <= 30
    curves = drawn.mark_line(point=alt.OverlayMarkDef(filled=True, size=25) if dots else False).encode(
        y=alt.Y(
            field=y,
            type="quantitative",
            title=y,
            scale=alt.Scale(type=scale, zero=from_zero, domain=around),
            axis=alt.Axis(format=form or alt.Undefined),
        ),
        color=color("name", names, legend=symbols),
        strokeDash=dash("name", names, legend=symbols),
        tooltip=[_shown(x), alt.Tooltip(field="name", type="nominal"), _shown(y)],
    )
    layers = [*([_event_rules(base)] if events else []), curves]
    if threshold is not None:
        layers.append(alt.Chart(ROWS).mark_rule(color=NEUTRAL, strokeDash=[4, 3]).encode(y=alt.datum(threshold)))
    return Chart(title=title, summary=summary, columns=columns, drawing=vega_lite(alt.layer(*layers)))


def _event_rules(base: alt.Chart) -> alt.Chart:
    tooltip = [alt.Tooltip(field="step", type="quantitative"), alt.Tooltip(field="event", type="nominal")]
    rules: alt.Chart = base.transform_filter("isValid(datum.event)").mark_rule(
        color=NEUTRAL, strokeDash=[2, 3], strokeWidth=1.2
    )
    return rules.encode(tooltip=tooltip)


def _shown(name: str) -> alt.Tooltip:
    return alt.Tooltip(field=name, type="quantitative", title=name, format=".5~g")
