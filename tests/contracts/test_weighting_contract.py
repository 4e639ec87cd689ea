"""Every row of the weightings' table: weights that are weights, pure in the step, and the same after a resume."""

import json
import random

import pytest

from mmtrain.curriculum.curriculum import CurriculumConfig
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.curriculum.weighting import WEIGHTINGS

TASKS = ("gory", "funny", "sad")
SETTING = Setting(
    streams=[StreamSpec(name="x", size=10), StreamSpec(name="y", size=20)], tasks=TASKS, seed=5, steps_per_epoch=10
)
rows = pytest.mark.parametrize("config", WEIGHTINGS, ids=lambda config: config.model_fields["name"].default)


def reports(count, seed=0):
    """Windows with losses over six orders of magnitude, tasks and streams left out now and then, and zeros."""
    draw = random.Random(seed)
    for number in range(1, count + 1):
        losses = {
            stream: {task: draw.choice([0.0, 10 ** draw.uniform(-4, 2)]) for task in TASKS if draw.random() < 0.7}
            for stream in ("x", "y")
        }
        yield WindowReport(step=5 * number, losses=losses, counts={"x": 1, "y": 1})
        if number % 3 == 0:
            yield EvalReport(step=5 * number, metrics={"val/gory/loss": 1.0})


@rows
def test_weights_are_not_negative_sum_to_the_tasks_and_asking_changes_nothing(config):
    weighting = config().build(SETTING)
    for report in reports(40):
        weighting.observe(report)
        for step in (report.step, report.step + 3):
            weights = weighting.weights(step)
            assert set(weights) == set(TASKS)
            assert all(0 <= weight < float("inf") for weight in weights.values())
            assert sum(weights.values()) == pytest.approx(len(TASKS))
            assert weighting.weights(step) == weights


@rows
def test_a_weighting_taken_up_from_json_goes_on_as_if_never_stopped(config):
    whole, before = config().build(SETTING), config().build(SETTING)
    heard = list(reports(30))
    for number, report in enumerate(heard):
        whole.observe(report)
        taken_up = config().build(SETTING)
        taken_up.load_state_dict(json.loads(json.dumps(before.state_dict())))
        taken_up.observe(report)
        assert taken_up.weights(report.step) == whole.weights(report.step), number
        before = taken_up


@rows
def test_the_curriculum_saves_records_and_restores_the_weighting(config):
    section = CurriculumConfig(weighting=config(), window=5)
    streams = [StreamSpec(name=name, size=30, tasks=TASKS) for name in ("x", "y")]
    make = lambda: section.build(streams=streams, tasks=TASKS, batch_size=4, seed=1)  # noqa: E731
    whole = make()
    for number, report in enumerate(r for r in reports(6) if isinstance(r, WindowReport)):
        resumed = make()
        resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())), {})
        for curriculum in (whole, resumed):
            curriculum.next_window(5 * number, 5)
            curriculum.finish_window(report)
        assert resumed.record() == whole.record()
        assert whole.record()["weights"].keys() == set(TASKS)
        assert resumed.weights(report.step) == whole.weights(report.step)
