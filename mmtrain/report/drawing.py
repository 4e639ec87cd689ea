"""Drawings in the house's look: colors that hold in light and dark, and dashes and shapes that hold without color."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

# page.css lightens these on a dark page; it knows them by their value
PALETTE = ("#0b6bb0", "#c8500a", "#0a8a64", "#a3478a", "#8a6a0c", "#5a5fc7", "#4d4d4d", "#b3283d")
DASHES = ([1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 2, 1, 2], [1, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
NEUTRAL = "#767676"
_NARROW, _POINT = 480, 8  # pixels: the width of a drawing in a small window, and of a point
_LETTER, _LINE = 6, 13  # pixels of text of size 10
ROWS = alt.NamedData(name="rows")  # the columns of a `Chart`, as rows


def legend(names: Sequence[str], *, is_of_lines: bool = True) -> alt.Legend | None:
    """Above the chart; None where there is nothing to tell apart."""
    if len(names) < 2:
        return None
    if not is_of_lines:
        return alt.Legend(title=None, symbolOpacity=1, symbolSize=70)
    return alt.Legend(title=None, symbolType="stroke", symbolOpacity=1, symbolFillColor="transparent")


def shape_legend(names: Sequence[str]) -> alt.Legend | None:
    """Of shapes whose color says something else: drawn in the neutral one, which holds in light and dark; None as above."""
    if len(names) < 2:
        return None
    return alt.Legend(title=None, symbolOpacity=1, symbolSize=70, symbolFillColor=NEUTRAL, symbolStrokeWidth=0)


def color(field: str, names: Sequence[str], **options: Any) -> alt.Color:
    """A color for each of the names, in their order."""
    scale = alt.Scale(domain=list(names), range=[PALETTE[number % len(PALETTE)] for number in range(len(names))])
    return alt.Color(field=field, type="nominal", scale=scale, **options)


def dash(field: str, names: Sequence[str], **options: Any) -> alt.StrokeDash:
    """A pattern of dashes for each of the names: with `color` of the same field, one legend shows both."""
    scale = alt.Scale(domain=list(names), range=[DASHES[number % len(DASHES)] for number in range(len(names))])
    return alt.StrokeDash(field=field, type="nominal", scale=scale, **options)


def shape(field: str, names: Sequence[str], **options: Any) -> alt.Shape:
    """A shape for each of the names."""
    scale = alt.Scale(domain=list(names), range=[SHAPES[number % len(SHAPES)] for number in range(len(names))])
    return alt.Shape(field=field, type="nominal", scale=scale, **options)


def spread(
    points: Sequence[tuple[float, float]], names: Sequence[str], *, extent: float, height: int
) -> list[tuple[float, float]]:
    """(x, y) at which the name of each point stands, to the right of all points close by, below what it would cover.

    `extent`: of y over the `height` pixels of the drawing, which may be as narrow as a small window's; in a wider one there
    is more room.
    """
    x_values = [x for x, _ in points]
    x_pixel, gap = (max(x_values) - min(x_values) or 1.0) / _NARROW, extent / height * _LINE
    starts = [max(other for other in x_values if other - x <= _POINT * x_pixel) for x in x_values]
    ends = [start + _LETTER * x_pixel * (2 + len(name)) for start, name in zip(starts, names, strict=True)]
    places: dict[int, float] = {}
    for number in sorted(range(len(points)), key=lambda at: -points[at][1]):
        beside = [at for other, at in places.items() if starts[other] < ends[number] and starts[number] < ends[other]]
        place = points[number][1]
        for other_place in sorted(beside, reverse=True):
            place = other_place - gap if abs(other_place - place) < gap else place
        places[number] = place
    return [(start, places[number]) for number, start in enumerate(starts)]


def around_one(values: Sequence[Any]) -> Any:
    """Bounds for an axis whose values (None: no value) are all one number, which Vega would label as 0; else its own."""
    known = {float(value) for value in values if value is not None and math.isfinite(value)}
    if len(known) != 1:
        return alt.Undefined
    value = known.pop()
    margin = abs(value) / 10 or 1.0
    return [value - margin, value + margin]


def vega_lite(chart: alt.Chart | alt.LayerChart | alt.FacetChart, *, height: int = 220) -> Mapping[str, Any]:
    """A chart over `ROWS` as a `Chart` takes it: as wide as its place on the page, without its data.

    `usermeta.legend`: pixels that a name of the legend takes, so that as many stand in a line as there is room for.
    Not held against the schema of Vega-Lite, which takes longer than all else: tests do that.
    """
    drawn: dict[str, Any] = chart.properties(width="container", height=height).to_dict(validate=False)
    for key in ("$schema", "config", "datasets"):
        drawn.pop(key, None)
    names = [len(str(name)) for name in _legend_names(drawn)]
    return {**drawn, "usermeta": {"legend": round(40 + 6.4 * min(max(names), 30))}} if names else drawn


def _legend_names(drawn: Any) -> Iterator[Any]:
    """Whatever a legend of the specification names."""
    if isinstance(drawn, list):
        for item in drawn:
            yield from _legend_names(item)
    elif isinstance(drawn, Mapping):
        if drawn.get("legend") and isinstance(drawn.get("scale"), Mapping):
            yield from drawn["scale"].get("domain", ())
        for item in drawn.values():
            yield from _legend_names(item)
