"""The page of a matrix: its variants in tables, how they were compared, and what is missing; as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from mmtrain.ablation.contents import Report, legend, open_ends, users_of
from mmtrain.ablation.results import Cost
from mmtrain.ablation.rows import VariantRow
from mmtrain.ablation.tables import COSTS, over, text_tables
from mmtrain.engine.jsonl import plain
from mmtrain.engine.run_folder import write_whole
from mmtrain.evaluation.comparison import Estimate
from mmtrain.evaluation.crossed import Difference
from mmtrain.report import has_report


def write_report(report: Report) -> None:
    """runs/<name>/ablation.{md,csv,json,html}, each whole; no page where the extra `report` is not installed."""
    folder = report.plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "ablation.md", markdown(report))
    write_whole(folder / "ablation.csv", comma_separated(report))
    write_whole(folder / "ablation.json", json.dumps(plain(as_values(report)), indent=1, allow_nan=False))
    if has_report():
        from mmtrain.ablation.page import html

        write_whole(folder / "ablation.html", html(report))


def print_report(report: Report, console: Console) -> None:
    """Print the tables, what is to be said of them, and where they are written."""
    for table in text_tables(report):
        console.print(table.rich())
    for line in [*legend(report), *open_ends(report)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    folder = report.plan.folder
    page = ", ablation.html" if has_report() else ""
    console.print(f"written: {folder}/ablation.md, ablation.csv, ablation.json{page}", markup=False, highlight=False)
    if not page:
        console.print("the page with charts is left out: pip install 'mmtrain[report]'", markup=False, highlight=False)


def markdown(report: Report) -> str:
    """For ablation.md."""
    ends = open_ends(report)
    texts = [table.markdown() for table in text_tables(report)]
    texts += ["\n".join(f"- {line}" for line in legend(report)), ""]
    if ends:
        texts += ["## Open ends\n", "\n".join(f"- {line}" for line in ends), ""]
    return "\n".join(texts)


def as_values(report: Report) -> dict[str, Any]:
    """For ablation.json."""
    return {
        "name": report.plan.matrix.name,
        "metric": report.plan.matrix.metric,
        "baseline": report.plan.variants[0].id,
        "variants": [_row_values(row) for row in report.rows],
        "test": [_row_values(row) for row in report.tested],
        "runs": [
            {"run": status.run.label, "state": status.state.value, "note": status.note, "code": status.stale}
            for status in report.statuses
        ],
        "shared": [
            {
                "run": status.run.label,
                "state": status.state.value,
                "note": status.note,
                "code": status.stale,
                "used_by": users_of(report, status),
            }
            for status in report.shared
        ],
        "legend": legend(report),
        "open": open_ends(report),
    }


def _row_values(row: VariantRow) -> dict[str, Any]:
    return {
        "variant": row.variant.name,
        "id": row.variant.id,
        "seeds": list(row.seeds),
        "values": list(row.values),
        "estimate": asdict(row.estimate) if row.estimate else None,
        "difference": asdict(row.difference) if row.difference else None,
        "p_holm": row.p_holm,
        "also": dict(row.also),
        "cost": asdict(row.cost) if row.cost else None,
    }


def comma_separated(report: Report) -> str:
    """A line for every variant."""
    lines = [_flat(row, report.plan.matrix.axes) for row in report.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(row: VariantRow, axes: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"variant": row.variant.name, "id": row.variant.id}
    fields |= {f"axis {axis}": value for axis, value in zip(axes, row.variant.values, strict=True)}
    for kind, estimate in (("value", row.estimate), ("difference", row.difference)):
        fields |= {kind: _number(estimate, "mean"), f"{kind}_low": _number(estimate, "low")}
        fields |= {f"{kind}_high": _number(estimate, "high")}
    fields |= {
        "p": _number(row.difference, "p"),
        "p_seeds": _number(row.difference, "p_seeds"),
        "p_holm": "" if np.isnan(row.p_holm) else row.p_holm,
    }
    fields |= {name: "" if np.isnan(value) else value for name, value in row.also.items()}
    fields |= {"over": over(row).replace("-", ""), "seeds": " ".join(map(str, row.seeds))}
    return fields | {name: _number(row.cost, name) for name in COSTS}


def _number(holder: Estimate | Difference | Cost | None, name: str) -> float | str:
    value = np.nan if holder is None else getattr(holder, name)
    return "" if np.isnan(value) else float(value)
