"""How the weights moved: gradient norms and clipping, steps that were left out, and the learning rate."""

from typing import Literal

import numpy as np

from mmtrain.report.charts import line_chart
from mmtrain.report.parts import Missing, Part, Section
from mmtrain.report.run_log import Floats, Line
from mmtrain.report.run_record import RunRecord

_BINS = 100


def gradient_section(record: RunRecord) -> Section:
    """Norms before clipping, by step and by group, and how often they were clipped."""
    norms = record.log.line("grad_norm")
    if norms is None:
        return Section("Gradients", [Missing("No step with a finite gradient is logged yet")])
    clipping = record.config["training"]["clipping"]
    threshold = clipping.get("max_norm")
    finite = norms.values[np.isfinite(norms.values)]
    words = f"Before clipping; median {np.median(finite):.3g}, greatest {finite.max():.3g}."
    parts: list[Part] = [_in_words(record, norms.values, threshold)]
    scale: Literal["linear", "log"] = "log" if finite.min() > 0 and finite.max() > 20 * np.median(finite) else "linear"
    parts.append(
        line_chart(
            "Gradient norm",
            words + (f" The dashed level is the bound of clipping, {threshold:g}." if threshold else ""),
            [Line("all", norms.steps, norms.values)],
            y="norm",
            limits=record.limits,
            threshold=threshold,
            scale=scale,
        )
    )
    groups = record.log.lines("grad_norms/")
    if len(groups) > 1:
        summary = "The norm of each group of parameters that the optimizer keeps."
        parts.append(line_chart("By group of parameters", summary, groups, y="norm", limits=record.limits, scale=scale))
    if threshold:
        summary = (
            f"Of each of up to {_BINS} stretches of steps, the share whose gradient was scaled down to norm {threshold:g}."
        )
        shares = _share_above(norms.steps, norms.values, threshold)
        parts.append(
            line_chart("Clipped steps", summary, [shares], y="share", limits=record.limits, form="%", from_zero=True)
        )
    return Section("Gradients", parts)


def _in_words(record: RunRecord, norms: Floats, threshold: float | None) -> str:
    left_out = int(np.nansum(record.log.columns.get("left_out", np.zeros(1))))
    name = record.config["training"]["clipping"]["name"]
    clipped = f", which scaled {np.mean(norms[np.isfinite(norms)] > threshold):.1%} of them down" if threshold else ""
    skipped = f" {left_out:,} steps were left out, their gradient being NaN or Inf." if left_out else ""
    return f"{len(norms):,} steps; clipping is `{name}`{clipped}.{skipped}"


def _share_above(steps: Floats, norms: Floats, threshold: float) -> Line:
    parts = np.array_split(np.arange(len(steps)), min(_BINS, len(steps)))
    shares = [float(np.mean(norms[part] > threshold)) for part in parts]
    return Line("clipped", np.array([steps[part[-1]] for part in parts]), np.array(shares))


def rate_section(record: RunRecord) -> Section:
    """The learning rate of each group over the steps."""
    lines = record.log.lines("lr/")
    if not lines:
        return Section("Learning rate", [Missing("No step is logged yet")])
    merged = _alike(lines)
    schedule, optimizer = record.config["training"]["schedule"]["name"], record.config["training"]["optimizer"]["name"]
    summary = f"Schedule `{schedule}`, optimizer `{optimizer}`, for each group of parameters."
    return Section(
        "Learning rate", [line_chart("Learning rate", summary, merged, y="rate", limits=record.limits, form="~g")]
    )


def _alike(lines: list[Line]) -> list[Line]:
    """Groups with the same rates throughout share a line that names them all."""
    kept: list[tuple[Line, list[str]]] = []
    for line in lines:
        same = next((names for other, names in kept if np.array_equal(other.values, line.values, equal_nan=True)), None)
        if same is None:
            kept.append((line, [line.name]))
        else:
            same.append(line.name)
    return [Line(", ".join(names), line.steps, line.values) for line, names in kept]
