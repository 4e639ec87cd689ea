"""A compression's comparison as a table, for a terminal and a model card."""

from collections.abc import Iterator

from mmtrain.evaluation.metrics import LOSS_STATISTICS
from mmtrain.evaluation.table import TextTable
from mmtrain.inference.compression.record import Comparison, Pace

_MIB = 2**20


def comparison_table(method: str, found: Comparison) -> TextTable:
    """Size, speed and the metrics of every task, before and after."""
    return TextTable(f"Compressed by {method}, on {found.split}", ("", "before", "after", "change"), tuple(_rows(found)), 1)


def pace_note(pace: Pace) -> str:
    """How predictions per second were measured."""
    threads = f" with {pace.threads} thread{'s' * (pace.threads > 1)}" if pace.device == "cpu" else ""
    return (
        f"speed: {pace.samples} samples in batches of {pace.batch_size} on {pace.device}{threads}; medians of the clock "
        f"over {pace.rounds} rounds in which both take turns, and quartiles"
    )


def _rows(found: Comparison) -> Iterator[tuple[str, str, str, str]]:
    pace = found.pace
    sizes = found.bytes_before / _MIB, found.bytes_after / _MIB
    yield "weights on disk, MiB", f"{sizes[0]:.2f}", f"{sizes[1]:.2f}", f"x {sizes[1] / sizes[0]:.2f}"
    yield (
        "predictions per second",
        f"{pace.before:.1f}",
        f"{pace.after:.1f}",
        f"x {pace.ratio:.2f} ({pace.low:.2f}, {pace.high:.2f})",
    )
    yield "products in", found.products_before, found.products_after, ""
    shown = {name: value for name, value in found.metrics_before.items() if _is_shown(name)}
    for name, before in shown.items():
        after = found.metrics_after[name]
        difference = "-" if before is None or after is None else f"{after - before:+.4f}"
        yield name, _number(before), _number(after), difference
    yield "largest difference of a logit", "", "", f"{found.largest_difference:.2g}"


def _is_shown(name: str) -> bool:
    """Not the metrics of a task's streams apart, nor how its losses spread, which compression.json has besides."""
    return "@" not in name and name.rpartition("/")[2] not in set(LOSS_STATISTICS) - {"loss"}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
