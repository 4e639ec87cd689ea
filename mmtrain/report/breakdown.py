"""Where the loss comes from: by stream, and the groups (source videos) with the highest."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmtrain.evaluation.predictions import Predictions, with_losses
from mmtrain.report.parts import DataTable, Missing, Part, Section, Value
from mmtrain.report.run_record import RunRecord

_TITLE = "Streams and groups"
_FORMATS = dict.fromkeys(("loss", "deviation", "metric"), ".4f")


def breakdown_section(record: RunRecord) -> Section:
    """Each task by stream and by group."""
    parts: list[Part] = []
    for split, tasks in record.predictions.items():
        analyzed = (record.values(f"evaluation/{split}-groups.json") or {}).get("tasks", {})
        for item in tasks.values():
            found = analyzed.get(item.task) or _losses(with_losses(item))
            parts += _tables(f"{item.task}, {split}", found, most=record.limits.rows * 2)
        if not analyzed:
            words = f"The metric of each stream and group of the {split} split"
            parts.append(Missing(words, record.command(f"evaluate --split {split}")))
    return Section(_TITLE, parts or [Missing("No predictions yet", record.command("evaluate --split val"))])


def _losses(item: Predictions) -> Mapping[str, Any]:
    """Mean loss and deviation by stream, and by group with the highest first, as the analysis of a split has them."""
    streams = [_part(item, item.streams == name, str(name), None) for name in np.unique(item.streams)]
    groups = []
    for stream in np.unique(item.streams):
        own = item.streams == stream
        groups += [_part(item, own & (item.groups == name), str(stream), str(name)) for name in np.unique(item.groups[own])]
    return {"streams": streams, "groups": sorted(groups, key=lambda part: -part["loss"])}


def _part(item: Predictions, chosen: Any, stream: str, group: str | None) -> dict[str, Any]:
    losses = item.losses[chosen].astype(np.float64)
    return {"stream": stream, "group": group, "num_samples": len(losses), "loss": losses.mean(), "loss_std": losses.std()}


def _tables(title: str, found: Mapping[str, Any], *, most: int) -> Iterator[DataTable]:
    metric = found.get("metric")
    for what, key in (("streams", "stream"), ("groups", "group")):
        rows = found[what][:most]
        names = ("stream",) if key == "stream" else ("group", "stream")
        header = [*names, "samples", "loss", "deviation", *([metric] if metric else [])]
        cells = [_row(row, names, has_metric=metric is not None) for row in rows]
        total = len(found[what])
        note = f"The {len(rows):,} groups with the highest mean loss of {total:,}." if total > len(rows) else ""
        if len(cells) > 1:
            formats = {**_FORMATS, **({metric: ".4f"} if metric else {})}
            yield DataTable(title=f"{title}: {what}", header=header, rows=cells, formats=formats, note=note)


def _row(row: Mapping[str, Any], names: Sequence[str], *, has_metric: bool) -> list[Value]:
    numbers = [row["num_samples"], row["loss"], row["loss_std"], *([row["value"]] if has_metric else [])]
    return [*(row[name] or "(none)" for name in names), *numbers]
