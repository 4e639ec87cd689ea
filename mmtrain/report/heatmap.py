"""Grids of cells whose shade and number say the same: confusion and attention."""

import json
from collections.abc import Sequence

import altair as alt

from mmtrain.report.drawing import PALETTE, ROWS, vega_lite
from mmtrain.report.parts import Chart, Value

_CELL = 30  # pixels, of a cell with a number in it


def heatmap(
    title: str,
    summary: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    shades: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]] | None = None,
    row_title: str,
    column_title: str,
    most_shade: float = 1.0,
    is_wide: bool = False,
) -> Chart:
    """`shades` and `texts`: [rows][columns]; 0 is the paper, `most_shade` the darkest, light enough to be written on.

    Names that occur twice are told apart by their place.
    """
    row_keys, column_keys = (list(range(len(names))) for names in (rows, columns))
    data: dict[str, list[Value]] = {name: [] for name in ("row", "column", row_title, column_title, "shade", "text")}
    for row in row_keys:
        for column in column_keys:
            data["row"].append(row)
            data["column"].append(column)
            data[row_title].append(rows[row])
            data[column_title].append(columns[column])
            data["shade"].append(shades[row][column])
            data["text"].append(texts[row][column] if texts else None)
    x = alt.X(field="column", type="ordinal", title=column_title, axis=_axis(columns, angle=-90))
    y = alt.Y(field="row", type="ordinal", title=row_title, axis=_axis(rows))
    scale = alt.Scale(domain=[0, most_shade], range=[0.03, 0.62], clamp=True)
    base = alt.Chart(ROWS).encode(x=x, y=y)
    cells = base.mark_rect(color=PALETTE[0]).encode(
        opacity=alt.Opacity(field="shade", type="quantitative", scale=scale, legend=None),
        tooltip=[
            alt.Tooltip(field=row_title, type="nominal"),
            alt.Tooltip(field=column_title, type="nominal"),
            *([alt.Tooltip(field="text", type="nominal", title="value")] if texts else []),
            alt.Tooltip(field="shade", type="quantitative", title="share", format=".3~f"),
        ],
    )
    layers = [cells]
    if texts:
        layers.append(base.mark_text(fontSize=11).encode(text=alt.Text(field="text", type="nominal")))
    height = min(max(_CELL * len(rows), 90), 620) if texts else min(max(14 * len(rows), 90), 520)
    drawing = vega_lite(alt.layer(*layers), height=height)
    return Chart(title=title, summary=summary, columns=data, drawing=drawing, is_wide=is_wide)


def _axis(names: Sequence[str], *, angle: int = 0) -> alt.Axis:
    """Cells stand by number, so that a name may occur twice and be anything; the axis shows the names."""
    words = f"{json.dumps(list(names))}[datum.value]"
    turn = angle if sum(len(name) + 3 for name in names) > 50 else 0
    return alt.Axis(
        labelExpr=words, labelAngle=turn, labelSeparation=0, grid=False, domain=False, ticks=False, labelPadding=6
    )
