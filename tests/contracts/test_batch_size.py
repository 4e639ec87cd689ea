"""Every global batch has exactly the configured number of samples, under every sampler, for as long as it trains (G1)."""

import numpy as np
import pytest
from curriculum_rows import SAMPLER_ROWS, TASKS

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.streams import StreamSpec

STEPS, WINDOW, BATCH = 10_000, 50, 13
SIZES = {"s0": 3, "s1": 401, "s2": 10**6, "s3": 12_345}


@pytest.mark.parametrize("make", SAMPLER_ROWS, ids=lambda row: row.name)
def test_a_batch_never_drifts_from_its_size_in_ten_thousand_steps(make):
    """Under losses that jump over four orders of magnitude; shares as small as they get never add a sample."""
    streams = [
        StreamSpec(name=name, size=size, tasks=TASKS, chance=dict.fromkeys(TASKS, 0.7)) for name, size in SIZES.items()
    ]
    config = CurriculumConfig(window=WINDOW, sampler=make(list(SIZES)), group_by_length=False)
    curriculum = config.build(streams=streams, tasks=TASKS, batch_size=BATCH, seed=1)
    draw, sizes = np.random.default_rng(0), np.array(list(SIZES.values()))
    for first in range(0, STEPS, WINDOW):
        plan = curriculum.next_window(first, WINDOW)
        assert plan.stream.shape == (WINDOW, BATCH)
        assert (plan.counts.sum(axis=1) == BATCH).all()
        assert ((plan.position >= 0) & (plan.position < sizes[plan.stream])).all(), "an index past the end of a stream"
        losses = {name: {task: float(10 ** draw.uniform(-2, 2)) for task in TASKS} for name in SIZES}
        counts = dict(zip(SIZES, plan.counts.sum(axis=0).tolist(), strict=True))
        curriculum.finish_window(WindowReport(first + WINDOW, losses, counts))
        metrics = {f"val/{task}/{kind}": float(draw.uniform()) for task in TASKS for kind in ("loss", "macro_f1")}
        curriculum.observe_evaluation(EvalReport(first + WINDOW, metrics | {"val/loss": float(draw.uniform())}))
