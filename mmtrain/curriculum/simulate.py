"""A curriculum run alone, without a model: losses come from curves, and the rest is what a run would do."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import exp
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.curriculum import Curriculum
from mmtrain.curriculum.permutation import derive_key, hash_words
from mmtrain.curriculum.plan import WindowPlan
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import Integers

# (stream, task, step, samples of the stream that were drawn while the task was active) -> mean loss
Curve = Callable[[str, str, int, float], float]


def synthetic_curve(setting: Setting) -> Curve:
    """Losses that fall exponentially with the samples trained on, each stream and task at a speed and to a level of its own.

    loss = low + (high - low) exp(-n / (passes size)): high is the loss of a constant prediction (1 where unknown); stream
    and task number k = 0, 1, ... reach low = high (0.1 + 0.6 f) in passes = 1 + 4 g passes, f and g the fractions of
    k times the golden ratio and of k times the root of 2, so that every pair is another mix of easy and slow.
    """
    shapes: dict[tuple[str, str], tuple[float, float, float]] = {}
    for stream in setting.streams:
        for task in setting.tasks_of(stream):
            high, k = stream.chance.get(task, 1.0), len(shapes)
            low = high * (0.1 + 0.6 * (k * 1.6180339887 % 1))
            shapes[stream.name, task] = high, low, (1 + 4 * (k * 1.4142135624 % 1)) * stream.size

    def loss(stream: str, task: str, step: int, trained: float) -> float:  # noqa: ARG001 - a Curve
        high, low, scale = shapes[stream, task]
        return low + (high - low) * exp(-trained / scale)

    return loss


def recorded_curve(records: Sequence[Mapping[str, Any]], otherwise: Curve) -> Curve:
    """The losses that a run's curriculum.jsonl holds, by step: of the first window that ends later and drew the stream.

    After the last such window its loss stays; `otherwise` serves what the records never drew.
    """
    known: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for record in records:
        for stream, tasks in record["losses"].items():
            for task, value in tasks.items():
                steps, losses = known.setdefault((stream, task), ([], []))
                steps.append(record["step"])
                losses.append(value)

    def loss(stream: str, task: str, step: int, trained: float) -> float:
        if (stream, task) not in known:
            return otherwise(stream, task, step, trained)
        steps, losses = known[stream, task]
        return losses[min(bisect_right(steps, step), len(losses) - 1)]

    return loss


def simulate(
    curriculum: Curriculum,
    setting: Setting,
    curve: Curve,
    *,
    total_steps: int,
    eval_every: int,
    metrics: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """The records of curriculum.jsonl, window by window.

    Where a pacing listens, a sample's loss is its stream's mean times a factor of its own between 0.5 and 1.5. Windows end
    at evaluations, every `eval_every` steps. An evaluation gives the task's loss, `val/<task>/loss`, and the
    other `metrics` asked for, `val/<task>[@<stream>]/<metric>`, as 1 - loss / first loss: 0 at first, 1 at best.
    """
    trained = {(stream.name, task): 0.0 for stream in setting.streams for task in setting.tasks_of(stream)}
    first = {pair: curve(*pair, 0, 0.0) for pair in trained}
    while curriculum.step < total_steps:
        border = min((curriculum.step // eval_every + 1) * eval_every, total_steps)
        plan = curriculum.next_window(curriculum.step, min(curriculum.window, border - curriculum.step))
        if not plan.num_steps:
            return
        active = [set(curriculum.active_tasks(step)) for step in range(plan.first_step, plan.stop_step)]
        counts = dict(zip(curriculum.stream_names, plan.counts.sum(axis=0).tolist(), strict=True))
        now = {pair: curve(*pair, plan.first_step, samples) for pair, samples in trained.items()}
        losses = {
            stream.name: {task: now[stream.name, task] for task in setting.tasks_of(stream)}
            for stream in setting.streams
            if counts[stream.name]
        }
        own = _plan_losses(plan, now, setting) if curriculum.listens else None
        curriculum.finish_window(WindowReport(plan.stop_step, losses, counts, sample_losses=own))
        probes = curriculum.probes()
        curriculum.observe_losses({name: _sample_losses(name, at, now, setting) for name, at in probes.items()})
        for stream, task in trained:
            drawn = plan.counts[:, curriculum.stream_names.index(stream)]
            trained[stream, task] += int(drawn[[task in now_active for now_active in active]].sum())
        yield curriculum.record()
        if plan.ended:
            return
        if curriculum.step == border:
            found = {pair: curve(*pair, border, samples) for pair, samples in trained.items()}
            curriculum.observe_evaluation(EvalReport(border, _evaluate(found, first, setting, metrics)))


def _plan_losses(plan: WindowPlan, now: Mapping[tuple[str, str], float], setting: Setting) -> npt.NDArray[np.float32]:
    """The losses [S * B] of a plan's samples, in its order."""
    numbers, positions = plan.stream.ravel(), plan.position.ravel()
    losses = np.empty(len(numbers), np.float32)
    for k, name in enumerate(setting.stream_names):
        losses[numbers == k] = _sample_losses(name, positions[numbers == k], now, setting)
    return losses


def _sample_losses(
    stream: str, positions: Integers, now: Mapping[tuple[str, str], float], setting: Setting
) -> npt.NDArray[np.float32]:
    """Losses of samples [n]: the mean of their stream, times 0.5 to 1.5 by a hash of the position."""
    words = hash_words(positions.astype(np.uint64), derive_key(setting.seed, "simulated loss", stream))
    factors = 0.5 + (words >> np.uint64(11)) / (1 << 53)
    return (factors * _mean(now, [pair for pair in now if pair[0] == stream])).astype(np.float32)


def _evaluate(
    now: Mapping[tuple[str, str], float], first: Mapping[tuple[str, str], float], setting: Setting, metrics: Sequence[str]
) -> dict[str, float]:
    wanted = dict.fromkeys([*(f"val/{task}/loss" for task in setting.tasks), *metrics])
    values = {}
    for name in wanted:
        if name == "val/loss":
            values[name] = _mean(now, now)
            continue
        _, owner, kind = name.split("/", 2)
        task, _, stream = owner.partition("@")
        pairs = [pair for pair in now if pair[1] == task and stream in ("", pair[0])]
        loss = _mean(now, pairs)
        values[name] = loss if kind == "loss" else 1 - loss / max(_mean(first, pairs), 1e-8)
    return values


def _mean(values: Mapping[tuple[str, str], float], pairs: Iterable[tuple[str, str]]) -> float:
    return fmean(values[pair] for pair in pairs)
