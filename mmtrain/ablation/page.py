"""The page of a matrix as HTML: its tables, what the axes and the variants come to, every run, and what is missing."""

from collections.abc import Iterator, Sequence

import numpy as np

from mmtrain.ablation.contents import Report, commit_of, legend, made_at, open_ends
from mmtrain.ablation.effect_charts import effect_charts, interaction_charts
from mmtrain.ablation.page_charts import cost_charts, curve_charts
from mmtrain.ablation.results import cost_of
from mmtrain.ablation.rows import VariantRow
from mmtrain.ablation.tables import COST_HEADS, COSTS, estimate_cells
from mmtrain.report.page import render_page
from mmtrain.report.parts import Cell, Code, DataTable, Missing, Part, Section, Value


def html(report: Report) -> str:
    """One self-contained file. Errors: ConfigError where the extra `report` is not installed."""
    finished = sum(status.is_finished for status in report.statuses)
    matrix = report.plan.matrix
    sections = [
        Section("Variants", list(_variants(report))),
        Section(
            "Effects", [*effect_charts(report), *interaction_charts(report)] or [Missing("No variant has a metric yet")]
        ),
        Section("Cost and quality", [*cost_charts(report), _costs(report)]),
        Section("Learning curves", [*curve_charts(report)] or [Missing("No run is finished yet")]),
        Section("Runs", list(_runs(report))),
    ]
    if ends := open_ends(report):
        sections.insert(1, Section("Open ends", [Missing(line) for line in ends]))
    provenance = f"{matrix.metric}; {finished} of {len(report.statuses)} runs finished; {made_at(report)}"
    return render_page(title=f"Ablation {matrix.name}", provenance=provenance, sections=sections)


def _variants(report: Report) -> Iterator[Part]:
    yield _comparison(report, report.rows, split="val")
    if report.tested:
        yield _comparison(report, report.tested, split="test")
    yield from legend(report)


def _comparison(report: Report, rows: Sequence[VariantRow], *, split: str) -> DataTable:
    matrix = report.plan.matrix
    metric, *also = (name.partition("/")[2] for name in (matrix.metric, *matrix.also))
    header = ("variant", f"{metric} [95 %]", "difference [95 %]", "p", "p (Holm)", "p (seeds)", *also, "seeds x groups")
    drawn: list[list[Value | Cell]] = []
    for row in rows:
        found = row.difference
        value = estimate_cells(row.estimate, num=row.num_seeds)
        less = estimate_cells(found, num=found.num_seeds if found else 0, form="+.3f", mark=" *" * row.is_different)
        drawn.append(
            [
                f"{row.variant.name}{' (baseline)' * row.variant.is_baseline}",
                Cell(_joined(*value), _or_none(row.estimate.mean if row.estimate else np.nan)),
                Cell(_joined(*less), _or_none(found.mean if found else np.nan)),
                *(_or_none(number) for number in (found.p if found else np.nan, row.p_holm)),
                _or_none(found.p_seeds if found else np.nan),
                *(_or_none(row.also[f"{split}/{name}"]) for name in also),
                f"{found.num_seeds} x {found.num_groups}" if found and found.num_groups else str(row.num_seeds),
            ]
        )
    title = "Validation" if split == "val" else "Test, read when the variants were chosen"
    forms = dict.fromkeys(("p", "p (Holm)", "p (seeds)"), ".3g") | dict.fromkeys(also, ".3f")
    return DataTable(title=title, header=header, rows=drawn, formats=forms)


def _joined(mean: str, interval: str) -> str:
    """Both in one cell; the interval stays on one line."""
    unbroken = interval.replace(", ", ",\u00a0")
    return mean if interval == "-" else f"{mean} {unbroken if interval.startswith('[') else interval}"


def _costs(report: Report) -> DataTable:
    forms = dict(zip(COST_HEADS, COSTS.values(), strict=True))
    rows: list[list[Value]] = [
        [row.variant.name, *(_or_none(getattr(row.cost, name)) if row.cost else None for name in COSTS)]
        for row in report.rows
    ]
    return DataTable(title="Cost of a run", header=("variant", *COST_HEADS), rows=rows, formats=forms)


def _runs(report: Report) -> Iterator[Part]:
    """Every run with its value and its code; the stages that runs begin with; the matrix as it was read."""
    values = {(row.variant, seed): value for row in report.rows for seed, value in zip(row.seeds, row.values, strict=True)}
    rows: list[list[Value]] = []
    for status in (*report.shared, *report.statuses):
        run = status.run
        value = values.get((run.variant, run.seed)) if run.variant is not None else None
        cost = cost_of(run).seconds if status.is_finished else np.nan
        rows.append(
            [
                run.label,
                run.seed,
                status.state.value,
                value,
                _or_none(cost),
                commit_of(status) or None,
                status.note,
                status.stale,
            ]
        )
    header = ("run", "seed", "state", report.plan.matrix.metric, "training s", "commit", "note", "code since")
    yield DataTable(title="Every run", header=header, rows=rows, formats={"training s": ".0f"})
    if report.shared:
        yield "Runs whose name begins with `shared` are stages that others begin with; their cost is in none of these."
    yield Code("The matrix", report.plan.file.read_text(encoding="utf-8-sig", errors="replace"))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
