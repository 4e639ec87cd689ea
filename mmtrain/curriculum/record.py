"""What curriculum.jsonl says of a window: its numbers, and the pools that changed in it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mmtrain.curriculum.allocation import Exhausted
from mmtrain.curriculum.pacing.pacer import Pacer
from mmtrain.curriculum.plan import PlanState, WindowPlan
from mmtrain.curriculum.reports import WindowReport, round_significant
from mmtrain.curriculum.schedules.protocol import TaskRule
from mmtrain.curriculum.streams import StreamSpec


def describe_window(
    plan: WindowPlan, report: WindowReport, streams: Sequence[StreamSpec], after: PlanState
) -> dict[str, Any]:
    """The part of a record that plan, report and the state `after` the window tell."""
    totals = plan.counts.sum(axis=0).tolist()
    sizes = [turn.pool_size(stream.size) for stream, turn in zip(streams, after.turns, strict=True)]
    walked = [turn.number + turn.offset / size for turn, size in zip(after.turns, sizes, strict=True)]
    names = [stream.name for stream in streams]
    return {
        "step": plan.stop_step,
        "steps": plan.num_steps,
        "shares": {name: round_significant(share) for name, share in report.shares.items()},
        "counts": dict(zip(names, totals, strict=True)),
        "passes": {name: round_significant(value) for name, value in zip(names, walked, strict=True)},
        "pools": dict(zip(names, sizes, strict=True)),
        "losses": {stream: dict(tasks) for stream, tasks in report.losses.items()},
    }


def count_active(plan: WindowPlan, active: TaskRule) -> dict[str, int]:
    """Task -> at how many of the window's steps it was trained."""
    return dict(Counter(task for step in range(plan.first_step, plan.stop_step) for task in active(step)))


def pool_changes(
    before: PlanState, after: PlanState, *, streams: Sequence[StreamSpec], pacer: Pacer, step: int
) -> Iterator[str]:
    """In words, every pool whose size changed in the window that began at `step`; asked before the pacer hears of it."""
    for stream, old, new in zip(streams, before.turns, after.turns, strict=True):
        sizes = old.pool_size(stream.size), new.pool_size(stream.size)
        if sizes[0] != sizes[1]:
            why = pacer.words(stream.name, new.next_number() - 1, step=step)
            yield f"{stream.name}: pool {sizes[0]} -> {sizes[1]} of {stream.size}, {why}"


def streams_used_up(
    before: PlanState, after: PlanState, plan: WindowPlan, *, streams: Sequence[StreamSpec], exhausted: Exhausted
) -> Iterator[str]:
    """In words, what ran out in a window, where streams do not begin anew."""
    if exhausted == "repeat":
        return
    for stream, old, new in zip(streams, before.turns, after.turns, strict=True):
        if new.number > 0 == old.number:
            what = "; its share goes to the others" if exhausted == "drop" else ""
            yield f"{stream.name}: all samples of its first pool are drawn{what}"
    if plan.ended:
        yield f"step {plan.stop_step}: the stage ends, no further batch can be filled"
