"""The charts of a report as pictures for a paper: PNG and PDF, as wide as one column of text."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtrain.report.markup import anchors, plain_json
from mmtrain.report.parts import Chart, Section
from mmtrain.report.run_page import run_sections
from mmtrain.report.run_record import read_run

_POINTS_PER_INCH = 72
_WIDTH = 3.3  # inches: a column of a page of two
_MOST_HEIGHT = 8.0
_SCALE = 0.6  # of what is drawn for a page, whose charts are about 400 pixels wide
_DOTS_PER_INCH = 300
_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_SMALL, _TEXT = 7, 8  # points
_CONFIG: Mapping[str, Any] = {
    "background": "white",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": _SMALL,
        "titleFontSize": _TEXT,
        "titleFontWeight": "normal",
        "gridColor": "#e4e4e4",
        "domainColor": "#888888",
        "tickColor": "#888888",
        "tickSize": 3,
        "titlePadding": 4,
        "labelOverlap": True,
        "labelSeparation": 2,
        "labelLimit": 80,
        "tickCount": 5,
    },
    "legend": {"orient": "top", "labelFontSize": _SMALL, "symbolSize": 90, "symbolStrokeWidth": 1.3, "rowPadding": 1},
    "line": {"strokeWidth": 1.2},
    "text": {"fontSize": _SMALL},
    "point": {"size": 16},
}


def write_pictures(folder: Path, out: Path) -> list[Path]:
    """Write every chart of a run's report as <section>-<title>.png and .pdf; returns the files.

    Errors: ConfigError where the folder is no run, DataError where predictions are damaged.
    """
    from vl_convert import vegalite_to_pdf, vegalite_to_png

    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, chart in named_charts(run_sections(read_run(folder))):
        drawn = specification(chart)
        contents = {
            ".png": vegalite_to_png(drawn, ppi=_DOTS_PER_INCH),
            ".pdf": vegalite_to_pdf(drawn),
        }
        for suffix, content in contents.items():
            file = out / f"{name}{suffix}"
            file.write_bytes(content)
            files.append(file)
    return files


def named_charts(sections: Sequence[Section]) -> Iterator[tuple[str, Chart]]:
    """Charts with the names of their files."""
    charts = [
        (f"{section.title} {part.title}", part) for section in sections for part in section.parts if isinstance(part, Chart)
    ]
    yield from zip(anchors([name for name, _ in charts]), (chart for _, chart in charts), strict=True)


def specification(chart: Chart) -> dict[str, Any]:
    """A whole Vega-Lite specification of paper size, with its data."""
    names = list(chart.columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*chart.columns.values(), strict=True)]
    drawn = _smaller({key: value for key, value in chart.drawing.items() if key != "usermeta"})
    width = _WIDTH * _POINTS_PER_INCH
    height = min(float(drawn["height"]) * _SCALE, _MOST_HEIGHT * _POINTS_PER_INCH)
    abreast = max(1, int((width - 30) // (0.7 * chart.drawing.get("usermeta", {}).get("legend", 100))))
    config = {**_CONFIG, "legend": {**_CONFIG["legend"], "columns": abreast}}
    size = {"width": width, "height": height, "autosize": {"type": "fit-x", "contains": "padding"}}
    whole: dict[str, Any] = plain_json({**drawn, **size, "padding": 3, "datasets": {"rows": rows}, "config": config})
    return whole


def _smaller(value: Any, key: str = "") -> Any:
    """Marks, lines, dashes and letters of a drawing at the scale of a picture; areas shrink by its square."""
    if isinstance(value, Mapping):
        return {name: _smaller(item, name) for name, item in value.items()}
    if key in ("strokeDash", "range") and isinstance(value, list) and all(isinstance(item, list | int) for item in value):
        return [[part * _SCALE for part in item] if isinstance(item, list) else item * _SCALE for item in value]
    if isinstance(value, list):
        return [_smaller(item, key) for item in value]
    if key == "fontSize":
        return _SMALL
    return (
        value * {"size": _SCALE**2, "strokeWidth": _SCALE, "symbolSize": _SCALE**2}.get(key, 1) if _is_size(value) else value
    )


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
