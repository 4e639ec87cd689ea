"""The tables of a matrix's page, as text: its variants with their differences, costs, and shared stages."""

from collections.abc import Sequence

import numpy as np

from mmtrain.ablation.contents import Report, users_of
from mmtrain.ablation.plan import Plan
from mmtrain.ablation.results import cost_of
from mmtrain.ablation.rows import VariantRow
from mmtrain.evaluation.comparison import Estimate
from mmtrain.evaluation.crossed import MIN_SEEDS, Difference
from mmtrain.evaluation.table import TextTable

COSTS = {"parameters": ",.0f", "trained": ",.0f", "seconds": ",.0f", "samples_per_second": ",.0f", "peak_memory": ",.0f"}
COST_HEADS = ("parameters", "trained", "training s", "samples/s", "peak MiB")


def text_tables(report: Report) -> list[TextTable]:
    """The comparison on the validation split, on the test split where it was read, the costs and the shared stages."""
    finished = sum(status.is_finished for status in report.statuses)
    matrix = report.plan.matrix
    title = f"{matrix.name}: {matrix.metric}, {finished} of {len(report.statuses)} runs finished"
    tables = [_comparison(report.plan, report.rows, title=title, split="val")]
    if report.tested:
        title = f"{matrix.name}: test/{matrix.metric.partition('/')[2]}, read when the variants were chosen"
        tables.append(_comparison(report.plan, report.tested, title=title, split="test"))
    drawn = tuple(
        (_title(row), *(_cell(getattr(row.cost, name), form) if row.cost else "-" for name, form in COSTS.items()))
        for row in report.rows
    )
    tables.append(TextTable("Cost of a run", ("variant", *COST_HEADS), drawn, 1))
    return [*tables, *([_stages(report)] if report.shared else [])]


def _stages(report: Report) -> TextTable:
    """The stages that were trained once for several runs; their cost is in no run's."""
    drawn = []
    for status in report.shared:
        cost = cost_of(status.run) if status.is_finished else None
        cells = (_cell(getattr(cost, name), form) if cost else "-" for name, form in COSTS.items())
        drawn.append((status.run.label, status.state.value, str(len(users_of(report, status))), *cells))
    return TextTable("Stages that runs begin with", ("stage", "state", "used by", *COST_HEADS), tuple(drawn), 2)


def _comparison(plan: Plan, rows: Sequence[VariantRow], *, title: str, split: str) -> TextTable:
    also = [f"{split}/{name.partition('/')[2]}" for name in plan.matrix.also]
    interval = "95 % interval"
    header = ("variant", "value", interval, "difference", interval, "p", "p (Holm)", "p (seeds)", *also, "over", "seeds")
    drawn = []
    for row in rows:
        mark = " *" if row.is_different else "  "
        drawn.append(
            (
                _title(row),
                *estimate_cells(row.estimate, num=row.num_seeds),
                *estimate_cells(
                    row.difference, num=row.difference.num_seeds if row.difference else 0, form="+.3f", mark=mark
                ),
                _cell(row.difference.p if row.difference else np.nan, ".3g"),
                _cell(row.p_holm, ".3g"),
                _cell(row.difference.p_seeds if row.difference else np.nan, ".3g"),
                *(_cell(row.also[name], ".3f") for name in also),
                over(row),
                f"{row.num_seeds} of {len(plan.matrix.seeds)}",
            )
        )
    return TextTable(title, header, tuple(drawn), 1)


def _title(row: VariantRow) -> str:
    return f"{row.variant.name} (baseline)" if row.variant.is_baseline else row.variant.name


def estimate_cells(
    estimate: Estimate | Difference | None, *, num: int, form: str = ".3f", mark: str = ""
) -> tuple[str, str]:
    """Mean and interval; `num`: the seeds that it is of."""
    if estimate is None:
        return "-", "-"
    if np.isnan(estimate.low) and num < MIN_SEEDS:
        return _cell(estimate.mean, form) + mark, f"n = {num}, no interval"
    return _cell(estimate.mean, form) + mark, f"[{_cell(estimate.low, form)}, {_cell(estimate.high, form)}]"


def over(row: VariantRow) -> str:
    """What a row's test, or else its interval, is made over."""
    if row.difference is not None:
        parts = (count(row.difference.num_seeds, "seed"), count(row.difference.num_groups, "group"))
        return " x ".join(words for words in parts if not words.startswith("0 "))
    return count(row.estimate.num, row.estimate.over.removesuffix("s")) if row.estimate is not None else "-"


def count(number: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cell(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)
