"""What the page of a matrix says: rows, how they were compared, and what is missing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from json import JSONDecodeError, loads

import numpy as np

from mmtrain.ablation.plan import Plan
from mmtrain.ablation.rows import VariantRow, variant_rows
from mmtrain.ablation.status import State, Status
from mmtrain.evaluation.comparing import LEVEL
from mmtrain.evaluation.crossed import MIN_SEEDS


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


def made_at(report: Report) -> str:
    """The commits of the code that made the finished runs."""
    counts = Counter(commit_of(status) or "no known commit" for status in report.statuses if status.is_finished)
    return (
        f"made at {', '.join(f'{name} ({count} runs)' for name, count in counts.items())}" if counts else "nothing made yet"
    )


def commit_of(status: Status) -> str:
    """Where a run began, and whether files were changed since that commit; '' where nothing says it."""
    try:
        git = loads(status.run.folder.environment.read_text(encoding="utf-8"))[0]["git"]
    except (OSError, JSONDecodeError, LookupError, TypeError):
        return ""
    return f"commit {git['commit'][:10]}{' with changes' if git['diff'] else ''}" if git.get("commit") else ""


def legend(report: Report) -> list[str]:
    """How the numbers were made."""
    baseline, others = report.plan.variants[0].name, len(report.plan.variants) - 1
    differences = [row.difference for row in (*report.rows, *report.tested) if row.difference is not None]
    lines = [
        "value: of a run's best evaluation, which selection.metric chose on the validation samples that it is scored on: a "
        "little too hopeful, for all variants alike",
        f"difference: to {baseline}; * where p < {LEVEL} after Holm's correction for the matrix's comparisons ({others})",
    ]
    if any(found.num_seeds > 1 and found.num_groups for found in differences):
        lines.append(
            "over seeds x groups: differences of equal seeds on equal samples; seeds and whole groups of samples are both "
            "resampled, so it speaks of other seeds and other samples (quantiles of t, weighted after Cochran and Cox). "
            "p (seeds): the paired t-test over seeds alone, which speaks of other seeds on these very samples"
        )
    if any(found.num_seeds >= MIN_SEEDS and not found.num_groups for found in differences):
        lines.append(
            "over seeds: differences of equal seeds, and the paired t-test; groups could not be resampled, for want of "
            "predictions of the metric, or of groups. It speaks of other seeds on these very samples"
        )
    if len(report.plan.matrix.seeds) > 1:
        lines.append(
            f"the interval of a value is Student's t over its seeds, cut at what the metric can be; fewer than "
            f"{MIN_SEEDS} have no interval and no p"
        )
    if any(found.num_seeds == 1 and found.num_groups for found in differences):
        lines.append(
            "over groups: one seed; bootstrap over the groups of predictions/val.parquet, the same samples for both of a "
            "difference; p is of the difference over its deviation there (t, groups - 1 degrees). It speaks of other "
            "samples for these very weights, and not of other seeds"
        )
    lines.append(made_at(report))
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
