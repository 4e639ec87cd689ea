"""The page of a matrix: its variants in tables, how they were compared, and what is missing; as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console

from mmtrain.ablation.plan import Plan
from mmtrain.ablation.results import Cost, cost_of
from mmtrain.ablation.rows import LEVEL, VariantRow, variant_rows
from mmtrain.ablation.status import State, Status
from mmtrain.engine.jsonl import plain
from mmtrain.engine.run_folder import write_whole
from mmtrain.evaluation.comparison import Estimate
from mmtrain.evaluation.table import TextTable

_COSTS = {"parameters": ",.0f", "trained": ",.0f", "seconds": ",.0f", "samples_per_second": ",.0f", "peak_memory": ",.0f"}
_COST_HEADS = ("parameters", "trained", "training s", "samples/s", "peak MiB")


@dataclass(frozen=True)
class Report:
    """All that the page says. `shared`: stages that runs begin with; `tested`: rows of the test split, where it was read."""

    plan: Plan
    statuses: tuple[Status, ...]
    shared: tuple[Status, ...]
    rows: tuple[VariantRow, ...]
    tested: tuple[VariantRow, ...]
    notes: tuple[str, ...]
    num_test_reads: int


def build_report(
    plan: Plan,
    statuses: Sequence[Status],
    *,
    shared: Sequence[Status] = (),
    tested: Sequence[VariantRow] = (),
    num_reads: int = 0,
) -> Report:
    """What is known by now."""
    rows, notes = variant_rows(plan, [status.run for status in statuses if status.is_finished])
    return Report(plan, tuple(statuses), tuple(shared), tuple(rows), tuple(tested), tuple(notes), num_reads)


def write_report(report: Report) -> None:
    """runs/<name>/ablation.{md,csv,json}, each whole."""
    folder = report.plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "ablation.md", markdown(report))
    write_whole(folder / "ablation.csv", comma_separated(report))
    write_whole(folder / "ablation.json", json.dumps(plain(as_values(report)), indent=1, allow_nan=False))


def print_report(report: Report, console: Console) -> None:
    for table in _tables(report):
        console.print(table.rich())
    for line in [*legend(report), *open_ends(report)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    folder = report.plan.folder
    console.print(f"written: {folder}/ablation.md, ablation.csv, ablation.json", markup=False, highlight=False)


def markdown(report: Report) -> str:
    ends = open_ends(report)
    texts = [table.markdown() for table in _tables(report)]
    texts += ["\n".join(f"- {line}" for line in legend(report)), ""]
    if ends:
        texts += ["## Open ends\n", "\n".join(f"- {line}" for line in ends), ""]
    return "\n".join(texts)


def _tables(report: Report) -> list[TextTable]:
    finished = sum(status.is_finished for status in report.statuses)
    matrix = report.plan.matrix
    title = f"{matrix.name}: {matrix.metric}, {finished} of {len(report.statuses)} runs finished"
    tables = [_comparison(report.plan, report.rows, title=title, split="val")]
    if report.tested:
        title = f"{matrix.name}: test/{matrix.metric.partition('/')[2]}, read when the variants were chosen"
        tables.append(_comparison(report.plan, report.tested, title=title, split="test"))
    drawn = tuple(
        (_title(row), *(_cell(getattr(row.cost, name), form) if row.cost else "-" for name, form in _COSTS.items()))
        for row in report.rows
    )
    tables.append(TextTable("Cost of a run", ("variant", *_COST_HEADS), drawn, 1))
    return [*tables, *([_stages(report)] if report.shared else [])]


def _stages(report: Report) -> TextTable:
    """The stages that were trained once for several runs; their cost is in no run's."""
    drawn = []
    for status in report.shared:
        cost = cost_of(status.run) if status.is_finished else None
        cells = (_cell(getattr(cost, name), form) if cost else "-" for name, form in _COSTS.items())
        drawn.append((status.run.label, status.state.value, str(len(users_of(report, status))), *cells))
    return TextTable("Stages that runs begin with", ("stage", "state", "used by", *_COST_HEADS), tuple(drawn), 2)


def _comparison(plan: Plan, rows: Sequence[VariantRow], *, title: str, split: str) -> TextTable:
    also = [f"{split}/{name.partition('/')[2]}" for name in plan.matrix.also]
    header = ("variant", "value", "95 % interval", "difference", "95 % interval", "p", "p (Holm)", *also, "over", "seeds")
    drawn = []
    for row in rows:
        mark = " *" if row.is_different else "  "
        drawn.append(
            (
                _title(row),
                *_estimate(row.estimate),
                *_estimate(row.difference, form="+.3f", mark=mark),
                _cell(row.difference.p if row.difference else np.nan, ".3g"),
                _cell(row.p_holm, ".3g"),
                *(_cell(row.also[name], ".3f") for name in also),
                _over(row.difference or row.estimate),
                f"{sum(np.isfinite(row.values))} of {len(plan.matrix.seeds)}",
            )
        )
    return TextTable(title, header, tuple(drawn), 1)


def legend(report: Report) -> list[str]:
    """How the numbers were made."""
    baseline, others = report.plan.variants[0].name, len(report.plan.variants) - 1
    paired = [row.difference or row.estimate for row in report.rows]
    lines = [
        "value: of a run's best evaluation, which selection.metric chose on the validation samples that it is scored on: a "
        "little too hopeful, for all variants alike",
        f"difference: to {baseline}; * where p < {LEVEL} after Holm's correction for the {others} comparisons of the matrix",
    ]
    if any(estimate is not None and estimate.over == "seeds" for estimate in paired):
        lines.append(
            "over seeds: mean and t-interval; differences of equal seeds, and the paired t-test. It speaks of other seeds "
            "on these very samples"
        )
    if any(estimate is not None and estimate.over == "groups" for estimate in paired):
        lines.append(
            "over groups: one seed; bootstrap over the groups of predictions/val.parquet, the same samples for both of a "
            "difference; p is of the difference over its deviation there (t, groups - 1 degrees). It speaks of other "
            "samples for these very weights, and not of other seeds"
        )
    if report.num_test_reads:
        lines.append(f"the test split was read {report.num_test_reads} times for runs of this matrix (test_reads.jsonl)")
    return lines


def open_ends(report: Report) -> list[str]:
    """What is missing or failed, what cannot be compared, and what other code has made."""
    lines = []
    for status in (*report.shared, *report.statuses):
        if not status.is_finished and not (status.run.variant is None and is_unneeded(report, status)):
            lines.append(f"{status.run.label}: {status.state.value}{f': {status.note}' if status.note else ''}")
        if status.state is State.MISFIT:
            lines[-1] += " (--rerun-stale trains it anew)"
    lines += report.notes
    for row in report.rows:
        if undefined := [str(seed) for seed, value in zip(row.seeds, row.values, strict=True) if not np.isfinite(value)]:
            lines.append(f"{row.variant.id}: {report.plan.matrix.metric} is not defined for seed {', '.join(undefined)}")
    stale = [status for status in (*report.shared, *report.statuses) if status.stale and status.state is not State.MISFIT]
    for change in dict.fromkeys(status.stale for status in stale):
        labels = [status.run.label for status in stale if status.stale == change]
        lines.append(f"{change} (--rerun-stale trains anew): {', '.join(labels)}")
    return lines


def users_of(report: Report, stage: Status) -> list[str]:
    """The runs and stages that begin with a shared stage."""
    return [status.run.label for status in (*report.shared, *report.statuses) if stage.run.label in status.run.needs]


def is_unneeded(report: Report, stage: Status) -> bool:
    """Whether all that begins with a shared stage has begun: nothing reads it any more."""
    behind = {status.run.label: status for status in (*report.shared, *report.statuses)}
    return all(behind[label].run.folder.is_run() for label in users_of(report, stage))


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
    fields |= {"p": _number(row.difference, "p"), "p_holm": "" if np.isnan(row.p_holm) else row.p_holm}
    fields |= {name: "" if np.isnan(value) else value for name, value in row.also.items()}
    estimate = row.difference or row.estimate
    fields |= {"over": estimate.over if estimate else "", "seeds": " ".join(map(str, row.seeds))}
    return fields | {name: _number(row.cost, name) for name in _COSTS}


def _number(holder: Estimate | Cost | None, name: str) -> float | str:
    value = np.nan if holder is None else getattr(holder, name)
    return "" if np.isnan(value) else float(value)


def _title(row: VariantRow) -> str:
    return f"{row.variant.name} (baseline)" if row.variant.is_baseline else row.variant.name


def _estimate(estimate: Estimate | None, *, form: str = ".3f", mark: str = "") -> tuple[str, str]:
    if estimate is None:
        return "-", "-"
    return _cell(estimate.mean, form) + mark, f"[{_cell(estimate.low, form)}, {_cell(estimate.high, form)}]"


def _over(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.num} {estimate.over}"


def _cell(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)
