"""What the run cost: samples a second, padding, and memory."""

from mmtrain.report.charts import line_chart
from mmtrain.report.parts import Chart, Missing, Part, Section
from mmtrain.report.run_log import Line, over_steps
from mmtrain.report.run_record import RunRecord

_TITLE = "Throughput and memory"


def cost_section(record: RunRecord) -> Section:
    """Rates, padding and memory by window and by epoch."""
    windows = [item for item in record.log.timing if item["kind"] == "window"]
    epochs = [item for item in record.log.timing if item["kind"] == "epoch"]
    if not windows:
        return Section(_TITLE, [Missing("No window of steps is finished yet")])
    seconds = sum(item["seconds"] for item in windows)
    parts: list[Part] = [
        f"{seconds:,.0f} seconds of training in {len(windows):,} windows, evaluations and checkpoints apart. These are "
        "clock readings: another run of the same config gives others."
    ]
    charts = [
        ("Samples a second", "Of global batches, over all processes.", lambda item: {"all": item["samples_per_second"]}),
        ("Tokens a second", "Of all texts; padding does not count.", lambda item: {"tokens": item.get("tokens_per_second")}),
        ("Rows a second", "By modality; padding does not count.", lambda item: item.get("rows_per_second", {})),
    ]
    for title, summary, value in charts:
        lines = over_steps(windows, value)
        if any(not (line.values != line.values).all() for line in lines):
            parts.append(line_chart(title, summary, lines, y="rate", limits=record.limits, from_zero=True))
    padding = over_steps(windows, lambda item: item["padding"])
    if padding:
        summary = "Positions that hold nothing, of those of the samples that have the modality."
        parts.append(line_chart("Padding", summary, padding, y="share", limits=record.limits, form="%", from_zero=True))
    memory = over_steps(epochs, lambda item: {"peak": item.get("peak_memory_mib")})
    if memory:
        parts.append(_memory(record, memory))
    return Section(_TITLE, parts)


def _memory(record: RunRecord, lines: list[Line]) -> Chart:
    summary = f"The largest of each epoch and of all processes; at most {lines[0].values.max():,.0f} MiB."
    return line_chart("Peak memory", summary, lines, y="MiB", limits=record.limits, from_zero=True)
