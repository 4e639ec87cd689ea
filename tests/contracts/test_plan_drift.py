"""G1 over long runs: realized counts stay within a fixed bound of the shares at every step, whatever the shares do."""

import random
from math import sin

import numpy as np
import pytest

from mmtrain.curriculum.apportion import UNIT, apportion, to_units
from mmtrain.curriculum.decision import Decision
from mmtrain.curriculum.plan import Planner
from mmtrain.curriculum.streams import StreamSpec

NUM_STREAMS, BATCH, WINDOW = 12, 32, 50
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


def largest_drift(kind, num_steps):
    planner = Planner(streams=STREAMS, batch_size=BATCH, seed=0)
    decision, state = rule(kind), planner.start()
    drift, largest = np.zeros(NUM_STREAMS), 0.0
    for first in range(0, num_steps, WINDOW):
        plan, state = planner.plan(state, decision, first_step=first, num_steps=WINDOW)
        for step in range(first, first + WINDOW):
            shares = decision.shares(step, decision.active(step))
            drift += [BATCH * shares.get(name, 0.0) for name in NAMES] - plan.counts[step - first]
            largest = max(largest, np.abs(drift).max())
    assert np.allclose(drift, np.array(state.carries) / UNIT, atol=1e-4)
    return largest


@pytest.mark.parametrize("kind", ["constant", "moving", "switching"])
def test_drift_of_a_short_run(kind):
    assert largest_drift(kind, 3000) <= (NUM_STREAMS - 1) / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "moving", "switching"])
def test_drift_of_a_long_run(kind):
    assert largest_drift(kind, 100_000) <= (NUM_STREAMS - 1) / 2


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
