"""Whether probabilities mean what they say: the share of positives beside the mean probability, before and after scaling."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from mmtrain.report.drawing import DASHES, NEUTRAL, ROWS, color, legend, shape, vega_lite
from mmtrain.report.parts import Chart, DataTable, Missing, Part, Section, Value
from mmtrain.report.run_record import HELD_OUT, RunRecord

_STATES = ("before", "after")
_NUMBERS = ("mean probability", "share right", "samples")
_TITLE = "Calibration"


def calibration_section(record: RunRecord) -> Section:
    """Reliability curves before and after the temperature, and what was fitted."""
    parts: list[Part] = []
    for split in HELD_OUT:
        found = (record.values(f"evaluation/{split}.json") or {}).get("calibration") or {}
        parts += [_chart(task, split, states) for task, states in found.items() if any(states.values())]
    if not parts:
        words = "Reliability curves, and temperatures fitted on the validation split"
        return Section(_TITLE, [Missing(words, record.command("evaluate --split val"))])
    words = (
        "A point is a bin of samples: its mean probability, and the share of them that are right. On the diagonal, "
        "probabilities mean what they say. A temperature, fitted on the validation split alone, divides the logits."
    )
    return Section(_TITLE, [words, *parts, *_fitted(record)])


def _chart(task: str, split: str, states: Mapping[str, Any]) -> Chart:
    names = [name for name in _STATES if states.get(name)]
    columns: dict[str, list[Value]] = {name: [] for name in ("temperature", *_NUMBERS)}
    for name in names:
        for part in states[name]["bins"]:
            if part["count"]:
                columns["temperature"].append(name)
                columns["mean probability"].append(part["mean_probability"])
                columns["share right"].append(part["share_positive"])
                columns["samples"].append(part["count"])
    words = "; ".join(
        f"{name} scaling: ECE {_form(states[name].get('ece'))}, Brier score {_form(states[name].get('brier'))}"
        for name in names
    )
    return Chart(
        title=f"{task}, {split}",
        summary=f"{words[:1].upper()}{words[1:]}.",
        columns=columns,
        drawing=vega_lite(_drawing(names), height=260),
    )


def _drawing(names: Sequence[str]) -> alt.LayerChart | alt.FacetChart:
    unit, symbols = alt.Scale(domain=[0, 1]), legend(names, is_of_lines=False)
    numbers = [alt.Tooltip(field=name, type="quantitative", format=".4~g") for name in _NUMBERS]
    base = alt.Chart(ROWS).encode(
        x=alt.X(field="mean probability", type="quantitative", scale=unit),
        y=alt.Y(field="share right", type="quantitative", scale=unit),
        color=color("temperature", names, legend=symbols),
    )
    diagonal = alt.Chart(ROWS).mark_rule(color=NEUTRAL, strokeDash=[4, 3], strokeWidth=1)
    return alt.layer(
        diagonal.encode(x=alt.datum(0), x2=alt.datum(1), y=alt.datum(0), y2=alt.datum(1)),
        *(
            base.transform_filter(alt.FieldEqualPredicate(field="temperature", equal=name)).mark_line(strokeDash=dashes)
            for name, dashes in zip(names, DASHES, strict=False)
        ),
        base.mark_point(filled=True, size=45).encode(
            shape=shape("temperature", names, legend=symbols),
            tooltip=[alt.Tooltip(field="temperature", type="nominal"), *numbers],
        ),
    )


def _fitted(record: RunRecord) -> Iterator[Part]:
    """Temperatures and thresholds, as calibration.json has them."""
    values = record.values("calibration.json")
    if not values:
        return
    rules = list(dict.fromkeys(rule for task in values["tasks"].values() for rule in task.get("thresholds") or {}))
    rows = [
        [task, fitted.get("temperature"), *((fitted.get("thresholds") or {}).get(rule) for rule in rules)]
        for task, fitted in values["tasks"].items()
    ]
    header = ["task", "temperature", *(f"threshold: {rule.replace('_', ' ')}" for rule in rules)]
    formats = dict.fromkeys(header[1:], ".3f")
    note = f"Fitted on the {values.get('split', 'val')} split with checkpoint `{values.get('checkpoint')}`."
    yield DataTable(title="Fitted on validation", header=header, rows=rows, formats=formats, note=note)


def _form(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
