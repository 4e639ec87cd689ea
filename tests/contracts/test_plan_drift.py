"""G1 over long runs: realized counts stay within a fixed bound of the shares at every step, whatever the shares do."""

import random
from math import sin

import numpy as np
import pytest

from mmtrain.curriculum.apportion import UNIT, apportion, to_units
from mmtrain.curriculum.decision import Decision
from mmtrain.curriculum.plan import Planner
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.dynamic_difficulty import DynamicDifficultyConfig
from mmtrain.curriculum.schedules.stop_and_go import StopAndGoConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec

NUM_STREAMS, BATCH, WINDOW = 12, 32, 50
LONG_RUN = 100_000  # steps
STREAMS = [StreamSpec(name=f"s{k}", size=10 ** (k % 7) + k) for k in range(NUM_STREAMS)]
NAMES = tuple(stream.name for stream in STREAMS)


def raw(kind, step, k):
    if kind == "constant":
        return 10 ** (k - 6)
    if kind == "moving":
        return 10 ** (3 * sin(0.01 * step * (k + 1)))
    return 1.0 + k if (step // 7 * 2654435761 >> (k + 3)) & 1 or k == step // 900 % NUM_STREAMS else 0.0  # switching


def rule(kind):
    def active(step):
        return tuple(name for k, name in enumerate(NAMES) if raw(kind, step, k) > 0)

    def shares(step, names):
        weights = {name: raw(kind, step, NAMES.index(name)) for name in names}
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    return Decision(shares=shares, active=active)


def constant(kind):
    """The rule of a kind at every window."""
    decision = rule(kind)
    return lambda first, counts: decision  # noqa: ARG005 - a function of the window's first step and its last counts


def learning():
    """A sampler and a schedule that switch by what they hear: difficulties under stop-and-go, one task for each stream."""
    setting = Setting(streams=STREAMS, tasks=NAMES, steps_per_epoch=100)
    sampler = DynamicDifficultyConfig(temperature=0.3, floor=0.01).build(setting)
    schedule = StopAndGoConfig(gap=3, patience=1, restart_below=0.1).build(setting)

    def decide(first, counts):
        if counts is not None:
            losses = {name: {name: 1.01 + sin(first * (k + 1) / 700)} for k, name in enumerate(NAMES) if counts[k]}
            drawn = dict(zip(NAMES, counts, strict=True))
            sampler.observe(WindowReport(step=first, losses=losses, counts=drawn))
            metrics = {f"val/{name}/loss": 2 + sin(first * (k + 2) / 900) for k, name in enumerate(NAMES)}
            schedule.observe(EvalReport(step=first, metrics=metrics))
        return Decision(shares=sampler.decide(first), active=schedule.decide(first))

    return decide


RULES = {"constant": constant, "moving": constant, "switching": constant, "learning": lambda _: learning()}


def largest_drift(kind, num_steps):
    planner = Planner(streams=STREAMS, batch_size=BATCH, seed=0)
    decide, state, counts = RULES[kind](kind), planner.start(), None
    drift, largest, sets = np.zeros(NUM_STREAMS), 0.0, set()
    for first in range(0, num_steps, WINDOW):
        decision = decide(first, counts)
        plan, state = planner.plan(state, decision, first_step=first, num_steps=WINDOW)
        given = []
        for step in range(first, first + WINDOW):
            active = decision.active(step)
            sets.add(active)
            shares = decision.shares(step, active)
            given.append([BATCH * shares.get(name, 0.0) for name in NAMES])
        drifts = drift + np.cumsum(given - plan.counts, axis=0)  # after each step
        largest, drift = max(largest, np.abs(drifts).max()), drifts[-1]
        counts = plan.counts.sum(axis=0).tolist()
    carried = np.array(state.carries) / UNIT  # and what shares lose as integers, which a million steps make less than 1e-4
    np.testing.assert_allclose(drift, carried, rtol=0, atol=1e-10 * num_steps)
    assert (len(sets) > 10) == (kind in ("switching", "learning"))
    return largest


KINDS = pytest.mark.parametrize("kind", list(RULES))


@KINDS
def test_drift_of_a_short_run(kind):
    assert largest_drift(kind, 3000) <= (NUM_STREAMS - 1) / 2


@pytest.mark.slow
@KINDS
def test_drift_of_a_long_run(kind):
    assert largest_drift(kind, LONG_RUN) <= (NUM_STREAMS - 1) / 2


@pytest.mark.parametrize("count", [2, 3, 12])
def test_drift_under_an_adversary(count):
    """Active sets chosen to push the carries apart: always those furthest behind, or furthest ahead."""
    for trial in range(12):
        rng, carries = random.Random(trial), [0] * count
        for step in range(500):
            order = sorted(range(count), key=carries.__getitem__, reverse=bool(trial % 2 and step % 3))
            on = set(order[: rng.randint(1, count)])
            weights = [10 ** rng.uniform(-6, 6) if k in on else 0.0 for k in range(count)]
            units = to_units(tuple(weight / sum(weights) for weight in weights))
            counts, after = apportion(units, carries, rng.choice([1, 2, 7, 32]))
            assert min(counts) >= 0
            assert sum(after) == 0
            assert all(after[k] == carries[k] and counts[k] == 0 for k in range(count) if k not in on)
            assert max(map(abs, after)) <= (count - 1) * UNIT // 2
            carries = after
