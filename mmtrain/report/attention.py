"""What the fusion attended to in chosen samples."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mmtrain.report.heatmap import heatmap
from mmtrain.report.parts import Chart, Missing, Part, Section
from mmtrain.report.run_record import RunRecord

_MOST_SAMPLES = 4
_MOST_MAPS = 6
_MOST_ROWS = 40  # of a map; more are averaged
_TITLE = "Attention"


def attention_section(record: RunRecord) -> Section:
    """The maps of every sample that `mmtrain attention` recorded."""
    folder = record.run.path / "evaluation" / "attention"
    files = sorted(folder.glob("*.json"))
    parts: list[Part] = []
    for file in files[:_MOST_SAMPLES]:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        parts += _of_sample(values, most=min(_MOST_ROWS, max(record.limits.points // 20, 8)))
    if len(files) > _MOST_SAMPLES:
        parts.append(f"{_MOST_SAMPLES} of the {len(files)} samples in `{folder}` are shown, by name.")
    missing = Missing("What the fusion attends to in a sample, where it has attention", record.command("attention ID"))
    return Section(_TITLE, parts or [missing])


def _of_sample(values: Mapping[str, Any], *, most: int) -> Iterator[Part]:
    maps = values["maps"]
    more = f" The first {_MOST_MAPS} of {len(maps)} maps." if len(maps) > _MOST_MAPS else ""
    yield f"Sample {values['id']} of the {values['split']} split: what each row (query) attends to, mean over heads.{more}"
    for item in maps[:_MOST_MAPS]:
        yield _chart(item, values["labels"], most=most)


def _chart(item: Mapping[str, Any], labels: Mapping[str, list[str]], *, most: int) -> Chart:
    weights = np.array(item["weights"], np.float64)
    rows, columns = (
        _names(labels.get(item[side]), count) for side, count in zip(("query", "key"), weights.shape, strict=True)
    )
    weights, rows = _averaged(weights, rows, most=most)
    turned, columns = _averaged(weights.T, columns, most=most)
    weights = turned.T
    row, column = np.unravel_index(int(np.nanargmax(weights)), weights.shape)
    return heatmap(
        item["name"],
        f"The greatest weight, {weights[row, column]:.3f}, is what {rows[row]} pays to {columns[column]}.",
        rows=rows,
        columns=columns,
        shades=weights.tolist(),
        row_title=f"query: {item['query']}",
        column_title=f"key: {item['key']}",
        most_shade=float(weights[row, column]) or 1.0,
    )


def _names(known: list[str] | None, count: int) -> list[str]:
    """A name for each row, whatever the file has of them."""
    known = known or []
    return [known[number] if number < len(known) else f"row {number + 1}" for number in range(count)]


def _averaged(weights: np.ndarray, names: list[str], *, most: int) -> tuple[np.ndarray, list[str]]:
    """At most `most` rows, each the mean of neighbors, named by the first of them."""
    if len(names) <= most:
        return weights, names
    parts = np.array_split(np.arange(len(names)), most)
    return np.stack([weights[part].mean(axis=0) for part in parts]), [f"{names[part[0]]} +{len(part) - 1}" for part in parts]
