"""Every combination of sampler, schedule, pacing and weighting builds, and trains where any two of a kind meet."""

import json
import math
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from covering import pairwise_covering
from curriculum_rows import PACING_ROWS, SAMPLER_ROWS, SCHEDULE_ROWS, TASKS, WEIGHTING_ROWS, Row

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.engine.loop import train_epoch
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState

NAMES = ("clips", "calls")
PARTS = ("sampler", "schedule", "pacing", "weighting")
TABLES = (SAMPLER_ROWS, SCHEDULE_ROWS, PACING_ROWS, WEIGHTING_ROWS)
COVER = pairwise_covering(TABLES)
STORED = "text_length"  # the difficulty that the tests' stores have, in place of a column that they lack
GROUPS = 8  # tests that share the covering set out between them, for several workers


def section(rows: tuple[Row, ...]) -> dict[str, Any]:
    configs = {part: row(NAMES).model_dump(mode="json") for part, row in zip(PARTS, rows, strict=True)}
    if configs["pacing"].get("difficulty", {}).get("name") == "column":
        configs["pacing"]["difficulty"] = {"name": STORED}
    return configs


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["covering", "every"])
def test_a_combination_is_a_config_that_builds_and_plans(every: bool) -> None:
    hard = np.arange(31, dtype=np.float32)
    streams = [StreamSpec(name=name, size=31 - k, tasks=TASKS[: 2 - k], difficulty=hard[k:]) for k, name in enumerate(NAMES)]
    for rows in product(*TABLES) if every else COVER:
        config = CurriculumConfig.model_validate(section(rows) | {"window": 2})
        curriculum = config.build(streams=streams, tasks=TASKS, batch_size=5, seed=1)
        assert curriculum.next_window(0, 2).stream.shape == (2, 5), rows
        state = json.dumps(curriculum.state_dict())
        curriculum.load_state_dict(json.loads(state), curriculum.arrays())
        assert json.dumps(curriculum.state_dict()) == state, rows


def test_the_covering_set_lets_every_pair_meet() -> None:
    for b, a in combinations(range(len(TABLES)), 2):
        met = {(rows[a].name, rows[b].name) for rows in COVER}
        assert met == {(one.name, other.name) for one, other in product(TABLES[a], TABLES[b])}
    assert len(COVER) < 2 * len(TABLES[0]) * max(len(TABLES[1]), len(TABLES[2]))


@pytest.mark.parametrize("group", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, GROUPS))])
def test_a_step_of_every_pair_trains(small_run: Callable[..., Run], group: int) -> None:
    """A real step: finite, every active task's head moves, and the window's record is one that a file can hold."""
    streams = {name: {"dataset": name, "tasks": list(TASKS[: 2 - k])} for k, name in enumerate(NAMES)}
    for rows in COVER[group::GROUPS]:
        training = {"epochs": 1, "steps_per_epoch": 1, "eval_every": None, "checkpoint_every": None}
        training["optimizer"] = {"lr": 0.01, "weight_decay": 0.0}
        run = small_run(streams=streams, curriculum=section(rows) | {"window": 1}, training=training, batch={"size": 12})
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        active = run.curriculum.active_tasks(0)
        state = RunState()
        assert train_epoch(run, state, until=1, interrupted=lambda: False)
        assert state.step == 1
        record = run.curriculum.record()
        assert json.loads(json.dumps(record)) == record
        assert sum(record["counts"].values()) == 12, rows
        for name, value in run.model.state_dict().items():
            assert torch.isfinite(value).all(), (rows, name)
        moved = {task for task in TASKS for name, value in run.model.state_dict().items()
                 if f"heads.{task}_head" in name and not torch.equal(value, before[name])}  # fmt: skip
        drawn = {task for tasks in record["losses"].values() for task in tasks}
        assert moved == set(active) & drawn, rows
        assert all(math.isfinite(value) for tasks in record["losses"].values() for value in tasks.values())
        run.close()
