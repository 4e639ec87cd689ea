"""A simulated curriculum by hand: the curves, what was trained, and the evaluations that it hears."""

from math import exp

import numpy as np
import pytest

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.simulate import recorded_curve, simulate, synthetic_curve
from mmtrain.curriculum.streams import StreamSpec

STREAMS = [StreamSpec(name="a", size=40, tasks=("x",), chance={"x": 2.0}), StreamSpec(name="b", size=100, tasks=("y",))]
SETTING = Setting(streams=STREAMS, tasks=("x", "y"), steps_per_epoch=10)


def run(curve, total=20, metrics=(), **options):
    config = CurriculumConfig(window=4, **options)
    curriculum = config.build(streams=STREAMS, tasks=("x", "y"), batch_size=8, seed=0, steps_per_epoch=10)
    return list(simulate(curriculum, SETTING, curve, total_steps=total, eval_every=10, metrics=metrics))


def test_a_synthetic_curve_falls_from_chance():
    """Number 0 falls from 2 to a tenth of it, by 1 / e in a pass of 40; number 1 to 0.1 + 0.6 * 0.618 in 1 + 4 * 0.414."""
    curve = synthetic_curve(SETTING)
    assert curve("a", "x", 7, 0.0) == pytest.approx(2.0)
    assert curve("a", "x", 7, 40.0) == pytest.approx(0.2 + 1.8 / exp(1))
    assert curve("b", "y", 7, 0.0) == pytest.approx(1.0)
    assert curve("b", "y", 7, 1e9) == pytest.approx(0.1 + 0.6 * 0.6180339887)
    assert curve("b", "y", 7, 100 * (1 + 4 * 0.4142135624)) == pytest.approx(0.4708204 + 0.5291796 / exp(1))


def test_windows_end_at_evaluations_and_losses_go_by_the_samples_drawn():
    heard = []

    def curve(stream, _, step, trained):
        heard.append((stream, step, trained))
        return 1.0

    records = run(curve)
    assert [record["step"] for record in records] == [4, 8, 10, 14, 18, 20]
    assert [trained for stream, step, trained in heard if (stream, step) == ("a", 8)] == [32.0]  # 4 a step
    assert {trained for stream, step, trained in heard if (stream, step) == ("b", 20)} == {80.0}


def test_only_samples_of_an_active_task_are_learned_from():
    trained = {}

    def curve(stream, _task, _step, samples):
        trained[stream] = samples
        return 1.0

    phases = [{"tasks": ["x"], "end": 6}, {"tasks": ["y"], "start": 6}]
    records = run(curve, schedule={"name": "staged", "unit": "steps", "phases": phases})
    assert trained == {"a": 48, "b": 112}  # 6 and 14 steps of 8
    assert [record["active"] for record in records[:3]] == [{"x": 4}, {"x": 2, "y": 2}, {"y": 2}]


def test_a_sample_with_labels_of_an_inactive_task_teaches_nothing_of_it():
    trained = {}

    def curve(stream, task, _step, samples):
        trained[stream, task] = samples
        return 1.0

    setting = Setting(streams=[StreamSpec(name="c", size=40)], tasks=("x", "y"), steps_per_epoch=10)
    phases = [{"tasks": ["x"], "end": 6}, {"tasks": ["y"], "start": 6}]
    config = CurriculumConfig(window=4, schedule={"name": "staged", "unit": "steps", "phases": phases})
    curriculum = config.build(streams=setting.streams, tasks=("x", "y"), batch_size=8, seed=0)
    for _ in simulate(curriculum, setting, curve, total_steps=20, eval_every=10):
        pass
    assert trained == {("c", "x"): 6 * 8, ("c", "y"): 14 * 8}


def test_evaluations_drive_the_schedule():
    flat = run(lambda stream, _task, step, _: 1.0 if stream == "a" else 1 / (1 + step), total=60,
               schedule={"name": "stop_and_go", "patience": 2})  # fmt: skip
    assert [(r["step"], r["events"]) for r in flat if r["events"]] == [
        (34, ["x: go -> stop, no gain over 0.1 % in 2 evaluations"])
    ]
    targets = {"a": {"metric": "val/x/f1", "target": 1}, "b": {"metric": "val/y@b/f1", "target": 1}}
    metrics = [target["metric"] for target in targets.values()]
    falling = run(lambda stream, _task, step, _: 1.0 if step < 5 else {"a": 0.25, "b": 0.75}[stream],
                  metrics=metrics, sampler={"name": "validation_driven", "targets": targets, "floor": 0.0})  # fmt: skip
    assert falling[3]["shares"] == {"a": 0.25, "b": 0.75}  # metrics 1 - loss / first: gaps 1/4 and 3/4


def test_recorded_losses_are_replayed_by_step():
    records = [
        {"step": 10, "losses": {"a": {"x": 3.0}}},
        {"step": 20, "losses": {}},
        {"step": 30, "losses": {"a": {"x": 1.0}}},
    ]
    curve = recorded_curve(records, otherwise=lambda *_: 9.0)
    assert [curve("a", "x", step, 0.0) for step in (0, 9, 10, 29, 30, 99)] == [3.0, 3.0, 1.0, 1.0, 1.0, 1.0]
    assert curve("b", "y", 0, 0.0) == 9.0


def test_a_pacing_that_listens_hears_its_samples_between_half_and_three_halves_of_the_mean():
    """All means are 1 by the curve. A pass of 40 steps, one of the 2000 below the median, one of what is below 1.4 of it."""
    setting = Setting(streams=[StreamSpec(name="c", size=4000)], tasks=("x",), seed=3)
    config = CurriculumConfig(window=10, pacing={"name": "self_paced", "start": 0.5, "growth": 1.4})
    curriculum = config.build(streams=setting.streams, tasks=("x",), batch_size=100, seed=3)
    records = list(simulate(curriculum, setting, lambda *_: 1.0, total_steps=120, eval_every=1000))
    losses = curriculum.arrays()["losses/c"]
    assert (losses.min(), losses.mean(), losses.max()) == pytest.approx((0.5, 1.0, 1.5), abs=0.02)
    assert losses.min() >= 0.5
    assert losses.max() <= 1.5
    sizes = [record["pools"]["c"] for record in records]
    assert sizes[:4] == [4000] * 4
    assert sizes[4:6] == [2000] * 2
    assert sizes[6] == pytest.approx((losses < 1.4 * np.median(losses)).sum(), abs=1)
    assert sizes[-1] == 4000
    again = config.build(streams=setting.streams, tasks=("x",), batch_size=100, seed=3)
    assert list(simulate(again, setting, lambda *_: 1.0, total_steps=120, eval_every=1000)) == records
