"""docs/curriculum.md: what it shows is a config that builds and plans, and it names every field of the record."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.reports import WindowReport
from mmtrain.curriculum.streams import StreamSpec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "curriculum.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
HARD = np.arange(60, dtype=np.float32)
STREAMS = [
    StreamSpec(name="clips", size=60, tasks=("funny", "mood"), chance={"funny": 0.7, "mood": 1.1}, difficulty=HARD),
    StreamSpec(name="calls", size=60, tasks=("funny", "pitch"), chance={"funny": 0.7, "pitch": 1.0}, difficulty=HARD),
]


def build(section):
    config = CurriculumConfig.model_validate(section)
    return config.build(streams=STREAMS, tasks=("funny", "mood", "pitch"), batch_size=8, seed=0, steps_per_epoch=10)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_builds_and_plans(example):
    section = yaml.safe_load(example)
    assert build(section).next_window(0, 5).counts.sum() == 40


def test_there_is_an_example_of_every_choice_and_of_all_at_once():
    parts = [set(yaml.safe_load(example)) for example in EXAMPLES]
    assert {"sampler", "schedule", "pacing", "weighting", "window"} in parts
    assert all({part} in parts for part in ("sampler", "schedule", "pacing"))


def test_every_field_of_the_record_is_explained_and_no_other():
    curriculum = build({})
    curriculum.next_window(0, 5)
    curriculum.finish_window(WindowReport(5, {}, {}))
    table = PAGE.split("## What curriculum.jsonl says")[1]
    named = [name for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(curriculum.record())


def test_shares_of_0_that_a_schedule_leaves_alone_are_even():
    """As the page says of `scheduled` beside a schedule."""
    points = [{"at": 0, "shares": {"clips": 0, "calls": 0.0, "more": 1}}]
    streams = [*STREAMS, StreamSpec(name="more", size=60, tasks=("pitch",), chance={"pitch": 1.0})]
    config = CurriculumConfig.model_validate(
        {
            "sampler": {"name": "scheduled", "points": points},
            "schedule": {"name": "staged", "phases": [{"tasks": ["funny"]}]},
        }
    )
    curriculum = config.build(streams=streams, tasks=("funny", "mood", "pitch"), batch_size=8, seed=0)
    assert curriculum.next_window(0, 5).counts.sum(axis=0).tolist() == [20, 20, 0]
