"""What the model reads and what it withstands: permutation importance, and robustness to missing and worse inputs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from mmtrain.report.charts import line_chart
from mmtrain.report.drawing import NEUTRAL, PALETTE, ROWS, around_one, vega_lite
from mmtrain.report.parts import Chart, DataTable, Missing, Part, Section, Value
from mmtrain.report.run_log import Line
from mmtrain.report.run_record import HELD_OUT, RunRecord

_SUBSET = "subset"


def robustness_section(record: RunRecord) -> Section:
    """What `mmtrain evaluate --robustness` found, split by split."""
    parts: list[Part] = []
    for split in HELD_OUT:
        values = record.values(f"evaluation/{split}-robustness.json")
        if values is not None:
            parts += _robustness_of(split, values, record)
    missing = Missing("Metrics with modalities missing, noisy or cut off", record.command("evaluate --robustness"))
    return Section("Robustness", parts or [missing])


def _robustness_of(split: str, values: Mapping[str, Any], record: RunRecord) -> Iterator[Part]:
    rows = values["rows"]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        if all(row["value"] is None for row in own):
            yield _undefined(task, split, own[0]["metric"])
            continue
        subsets = [row for row in own if row["perturbation"] == _SUBSET]
        if subsets:
            yield _dots(
                f"{task}, {split}: modalities present",
                "The metric with every subset of the modalities.",
                names=[row["modality"].replace("+", " + ") for row in subsets],
                values=[row["value"] for row in subsets],
                field=subsets[0]["metric"],
            )
        for kind in dict.fromkeys(row["perturbation"] for row in own if row["perturbation"] != _SUBSET):
            yield _curve(
                f"{task}, {split}: {kind.replace('_', ' ')}", [row for row in own if row["perturbation"] == kind], record
            )
    areas = values.get("areas") or []
    if areas:
        names = ("task", "perturbation", "modality", "metric", "area", "relative_area")
        cells = [[row[name] for name in names] for row in areas]
        header = [name.replace("_", " ") for name in names]
        note = "Under each curve from level 0; relative: 1 where nothing is lost."
        formats = {"area": ".4f", "relative area": ".4f"}
        yield DataTable(title=f"Areas, {split}", header=header, rows=cells, formats=formats, note=note)


def _curve(title: str, rows: Sequence[Mapping[str, Any]], record: RunRecord) -> Chart:
    lines = []
    for modality in dict.fromkeys(row["modality"] for row in rows):
        own = sorted((row for row in rows if row["modality"] == modality and row["level"] is not None), key=_level)
        values = [float("nan") if row["value"] is None else row["value"] for row in own]
        lines.append(Line(modality, np.array([row["level"] for row in own]), np.array(values)))
    metric = rows[0]["metric"].replace("_", " ")
    ends = ", ".join(
        f"{line.name} {_digits(line.values[0])} to {_digits(line.values[-1])}" for line in lines if len(line.values)
    )
    return line_chart(
        title, f"From the least to the greatest level: {ends}.", lines, x="level", y=metric, limits=record.limits
    )


def _undefined(task: str, split: str, metric: str) -> str:
    """In the place of charts without a point."""
    return f"{task}, {split}: {metric.replace('_', ' ')} is not defined over these samples."


def _digits(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _level(row: Mapping[str, Any]) -> float:
    return float(row["level"])


def importance_section(record: RunRecord) -> Section:
    """What `mmtrain evaluate --importance` found, split by split."""
    parts: list[Part] = []
    for split in HELD_OUT:
        values = record.values(f"evaluation/{split}-importance.json")
        for task in dict.fromkeys(row["task"] for row in values["rows"]) if values is not None else ():
            own = [row for row in values["rows"] if row["task"] == task]
            metric, repeats = own[0]["metric"].replace("_", " "), own[0]["repeats"]
            if all(row["drop"] is None for row in own):
                parts.append(_undefined(task, split, own[0]["metric"]))
                continue
            has_intervals = any(row["low"] is not None for row in own)
            words = (
                f"{repeats} draws, 95 % interval"
                if has_intervals
                else f"{repeats} draws; no interval is defined over these groups"
            )
            parts.append(
                _dots(
                    f"{task}, {split}",
                    f"What {metric} loses where a modality is swapped between samples: {words}.",
                    names=[row["modality"] for row in own],
                    values=[row["drop"] for row in own],
                    intervals=[(row["low"], row["high"]) for row in own] if has_intervals else (),
                    field="drop",
                )
            )
    missing = Missing("What each modality is worth to the model", record.command("evaluate --importance"))
    return Section("Importance of modalities", parts or [missing])


def _dots(
    title: str,
    summary: str,
    *,
    names: Sequence[str],
    values: Sequence[float | None],
    field: str,
    intervals: Sequence[tuple[float | None, float | None]] = (),
) -> Chart:
    """A point a name, with its interval; zero is marked where it lies inside."""
    columns: dict[str, Sequence[Value]] = {"name": names, field: values}
    if intervals:
        columns |= {"low": [low for low, _ in intervals], "high": [high for _, high in intervals]}
    y = alt.Y(field="name", type="nominal", title=None, sort=list(names))
    scale = alt.Scale(zero=bool(intervals), domain=alt.Undefined if intervals else around_one(values))
    tooltip = [alt.Tooltip(field="name", type="nominal")]
    tooltip += [alt.Tooltip(field=name, type="quantitative", format=".4~f") for name in list(columns)[1:]]
    base = alt.Chart(ROWS).encode(y=y, tooltip=tooltip)
    title_x = field.replace("_", " ")
    layers = [
        base.mark_point(filled=True, size=60, color=PALETTE[0]).encode(
            x=alt.X(field=field, type="quantitative", scale=scale, title=title_x)
        )
    ]
    if intervals:
        bars = base.mark_rule(color=PALETTE[0], strokeWidth=2)
        layers.insert(0, alt.Chart(ROWS).mark_rule(color=NEUTRAL, strokeDash=[4, 3]).encode(x=alt.datum(0)))
        layers.insert(1, bars.encode(x=alt.X(field="low", type="quantitative", title=title_x), x2=alt.X2(field="high")))
    height = max(60, 26 * len(names))
    return Chart(title=title, summary=summary, columns=columns, drawing=vega_lite(alt.layer(*layers), height=height))
