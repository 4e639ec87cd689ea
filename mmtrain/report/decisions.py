"""What the curriculum decided, and when: shares of streams, active tasks, pools, weights of losses, and its own words."""

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np

from mmtrain.report.charts import Events, line_chart
from mmtrain.report.drawing import PALETTE, ROWS, vega_lite
from mmtrain.report.parts import Chart, DataTable, Missing, Part, Section, Value
from mmtrain.report.run_log import Line, Record, over_steps
from mmtrain.report.run_record import RunRecord
from mmtrain.report.thinning import spread_out

_MOST_MARKS = 40
_TITLE = "Curriculum"


def curriculum_section(record: RunRecord) -> Section:
    """What was asked for and drawn by window, what the tasks lost and counted, and the decisions."""
    windows = record.log.windows
    if not windows:
        return Section(_TITLE, [Missing("No window of the curriculum is finished yet")])
    names = {key: value["name"] for key, value in record.config["curriculum"].items() if isinstance(value, dict)}
    choices = ", ".join(f"{key} `{name}`" for key, name in names.items())
    count = sum(len(window["events"]) for window in windows)
    events = _marks(windows)
    marked = " Dotted vertical lines mark its decisions." if events else ""
    parts: list[Part] = [f"{choices}; {len(windows):,} windows, {count:,} decisions beyond shares.{marked}"]
    parts += _share_charts(record, events)
    parts += _task_charts(record, events)
    if count:
        parts.append(_event_table(windows, most=record.limits.rows * 5))
    return Section(_TITLE, parts)


def _marks(windows: Sequence[Record]) -> Events:
    """Steps of decisions, with what was decided; where they stand too close to be told apart, one mark for several."""
    found = [(window["step"], "; ".join(window["events"])) for window in windows if window["events"]]
    if len(found) <= _MOST_MARKS:
        return dict(found)
    parts = [found[part[0] : part[-1] + 1] for part in np.array_split(np.arange(len(found)), _MOST_MARKS)]
    return {part[0][0]: f"{len(part)} windows with decisions up to step {part[-1][0]:,}" for part in parts}


def _share_charts(record: RunRecord, events: Events) -> Iterator[Chart]:
    windows, limits = record.log.windows, record.limits
    asked = over_steps(windows, lambda item: item["shares"])
    summary = "What each stream was asked for of the batches, by window. At the end: " + _last(asked, ".1%")
    yield line_chart("Shares asked for", summary, asked, y="share", limits=limits, events=events, form="%", from_zero=True)
    drawn = over_steps(windows, lambda item: _shares(item["counts"]))
    totals = {line.name: sum(item["counts"].get(line.name, 0) for item in windows) for line in drawn}
    all_samples = max(sum(totals.values()), 1)
    words = ", ".join(f"{name} {count:,} ({count / all_samples:.1%})" for name, count in totals.items())
    summary = f"The share of each stream in the samples drawn. In all: {words}."
    yield line_chart("Realized counts", summary, drawn, y="share", limits=limits, events=events, form="%", from_zero=True)
    passes = over_steps(windows, lambda item: item["passes"])
    summary = "How often each stream was walked through. By now: " + _last(passes, ".2f")
    yield line_chart("Passes", summary, passes, y="passes", limits=limits, from_zero=True, events=events)
    pools = over_steps(windows, lambda item: item["pools"])
    if any(np.ptp(line.values) > 0 for line in pools):
        summary = "Samples in the pool of each stream's pass under way. By now: " + _last(pools, ",.0f")
        yield line_chart("Pools", summary, pools, y="samples", limits=limits, from_zero=True, events=events)


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = max(sum(counts.values()), 1)
    return {name: count / total for name, count in counts.items()}


def _last(lines: Sequence[Line], form: str) -> str:
    return ", ".join(f"{line.name} {format(line.values[-1], form)}" for line in lines) + "."


def _task_charts(record: RunRecord, events: Events) -> Iterator[Chart]:
    windows, limits = record.log.windows, record.limits
    losses = over_steps(windows, lambda item: _mean_losses(item["losses"]))
    summary = "Mean loss of the samples drawn, by stream and task: what the curriculum sees."
    yield line_chart("Losses by stream", summary, losses, y="loss", limits=limits, events=events)
    yield _activity(windows, most=limits.points // 4)
    weights = over_steps([item for item in windows if item["weights"]], lambda item: item["weights"])
    if weights:
        summary = "What each task's loss or gradient counted in a window's last step. By now: " + _last(weights, ".3g")
        yield line_chart("Task weights", summary, weights, y="weight", limits=limits, from_zero=True, events=events)
    conflicts = over_steps(
        [item for item in windows if item["conflicts"] is not None], lambda item: {"all": item["conflicts"]}
    )
    if conflicts:
        summary = "Pairs of tasks whose gradients pointed against each other."
        yield line_chart("Conflicts", summary, conflicts, y="share", limits=limits, events=events, form="%", from_zero=True)


def _mean_losses(losses: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{stream}: {task}": value for stream, tasks in losses.items() for task, value in tasks.items()}


def _activity(windows: Sequence[Record], *, most: int) -> Chart:
    """A strip a task: full where it was trained at every step of a window."""
    tasks = list(dict.fromkeys(task for window in windows for task in (*window["active"], *_all_tasks(window))))
    most = max(most // max(len(tasks), 1), 20)
    columns: dict[str, list[Value]] = {"from": [], "to": [], "task": [], "active": []}
    for part in np.array_split(np.arange(len(windows)), min(len(windows), most)):
        group = [windows[number] for number in part]
        steps = sum(window["steps"] for window in group)
        for task in tasks:
            columns["from"].append(group[0]["step"] - group[0]["steps"])
            columns["to"].append(group[-1]["step"])
            columns["task"].append(task)
            columns["active"].append(sum(window["active"].get(task, 0) for window in group) / max(steps, 1))
    drawn = (
        alt.Chart(ROWS)
        .mark_bar(color=PALETTE[0], height=alt.RelativeBandSize(0.6))
        .encode(
            x=alt.X(field="from", type="quantitative", title="step", axis=alt.Axis(tickMinStep=1)),
            x2=alt.X2(field="to"),
            y=alt.Y(field="task", type="nominal", title=None, sort=tasks),
            opacity=alt.Opacity(
                field="active", type="quantitative", scale=alt.Scale(domain=[0, 1], range=[0, 0.9]), legend=None
            ),
            tooltip=[
                alt.Tooltip(field="task", type="nominal"),
                alt.Tooltip(field="from", type="quantitative"),
                alt.Tooltip(field="to", type="quantitative"),
                alt.Tooltip(field="active", type="quantitative", format=".0%"),
            ],
        )
    )
    total = sum(window["steps"] for window in windows)
    shares = {task: sum(window["active"].get(task, 0) for window in windows) / max(total, 1) for task in tasks}
    words = ", ".join(f"{task} {share:.0%}" for task, share in shares.items())
    summary = f"Darker: trained at more of the steps. In all: {words}."
    return Chart(
        title="Active tasks", summary=summary, columns=columns, drawing=vega_lite(drawn, height=max(60, 34 * len(tasks)))
    )


def _all_tasks(window: Record) -> list[str]:
    return [task for tasks in window["losses"].values() for task in tasks]


def _event_table(windows: Sequence[Record], *, most: int) -> DataTable:
    rows = [(window["step"], event) for window in windows for event in window["events"]]
    chosen = [rows[number] for number in spread_out(len(rows), most=most)]
    note = f"{len(chosen):,} of {len(rows):,}, evenly spaced; `curriculum.jsonl` has all." if len(chosen) < len(rows) else ""
    return DataTable(title="Decisions", header=["up to step", "decision"], rows=chosen, note=note)
