"""Every row of the weightings' table: weights that are weights, pure in the step, and the same after a resume."""

import json
import random

import pytest
import torch

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.simulate import simulate, synthetic_curve
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.curriculum.weighting.gradients import GradientSection
from mmtrain.curriculum.weighting.protocol import ByGradients, ByLosses, Learned

TASKS = ("gory", "funny", "sad")
SETTING = Setting(
    streams=[StreamSpec(name="x", size=10), StreamSpec(name="y", size=20)],
    tasks=TASKS,
    kinds={"gory": "binary", "funny": "multiclass", "sad": "regression"},
    seed=5,
    steps_per_epoch=10,
)
NAMES = {config: config.model_fields["name"].default for config in WEIGHTINGS}
rows = pytest.mark.parametrize("config", WEIGHTINGS, ids=NAMES.get)
gradient_rows = pytest.mark.parametrize("config", [c for c in WEIGHTINGS if issubclass(c, GradientSection)], ids=NAMES.get)
OWN_SCALE = {"uncertainty"}  # weights that sum to nothing in particular
SUBSETS = (TASKS, ("funny",), ("gory", "sad"))


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


def matrix(tasks, step, width=7):
    """Gradients with conflicts, the same for the same step; now and then one is zero."""
    generator = torch.Generator().manual_seed(step)
    values = torch.randn(len(tasks), width, generator=generator, dtype=torch.float64)
    values[0] *= step % 5 > 0
    return values


def losses_of(tasks, step):
    return {task: torch.tensor(0.3 + (step * 7 + k) % 5, dtype=torch.float64) for k, task in enumerate(tasks)}


def train(weighting, step):
    """What one step of training does to a weighting: the answer, and whatever it learns by it."""
    tasks = SUBSETS[step % 4 % 3]
    if isinstance(weighting, ByGradients):
        combined = weighting.combine(matrix(tasks, step), losses_of(tasks, step), step=step)
        weighting.learn()
        return combined.gradient.tolist()
    if isinstance(weighting, ByLosses):
        return {task: float(weight) for task, weight in weighting.weigh(losses_of(tasks, step)).items()}
    if isinstance(weighting, Learned):
        for parameter in weighting.module.parameters():
            parameter.grad = None
        weighting.objective(losses_of(tasks, step)).backward()
        with torch.no_grad():
            for parameter in weighting.module.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.1 * parameter.grad)
    return weighting.weights(step, tasks)


@rows
def test_weights_are_those_of_the_active_tasks_not_negative_sum_to_their_number_and_asking_changes_nothing(config):
    weighting = config().build(SETTING)
    for report in reports(40):
        weighting.observe(report)
        train(weighting, report.step)
        for step in (report.step, report.step + 3):
            for active in SUBSETS:
                weights = weighting.weights(step, active)
                assert weighting.weights(step, active) == weights
                if weights is None:
                    assert isinstance(weighting, ByLosses | ByGradients)
                    continue
                assert tuple(weights) == active
                assert all(0 <= weight < float("inf") for weight in weights.values())
                if NAMES[config] not in OWN_SCALE:
                    assert sum(weights.values()) == pytest.approx(len(active))


@rows
def test_a_weighting_taken_up_from_json_goes_on_as_if_never_stopped(config):
    whole, before = config().build(SETTING), config().build(SETTING)
    heard = list(reports(30))
    for number, report in enumerate(heard):
        taken_up = config().build(SETTING)
        taken_up.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
        for step in (report.step, report.step + 1):
            assert train(taken_up, step) == train(whole, step), number
        for weighting in (whole, taken_up):
            weighting.observe(report)
        assert taken_up.weights(report.step, TASKS) == whole.weights(report.step, TASKS), number
        assert taken_up.state_dict() == whole.state_dict()
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
            train(curriculum.weighting, 5 * number)
            curriculum.finish_window(report)
        assert resumed.record() == whole.record()
        weights = whole.record()["weights"]
        assert (weights is None) == (whole.weighting.weights(report.step, TASKS) is None)
        assert weights is None or weights.keys() == set(TASKS)
        assert resumed.weights(report.step) == whole.weights(report.step)


@rows
def test_one_task_at_a_time_counts_exactly_one(config):
    """Where nothing is written down or learned of a scale, a task alone is trained with its own loss."""
    weighting = config().build(SETTING)
    for report in reports(10):
        weighting.observe(report)
        weights = weighting.weights(report.step, ("funny",))
        if weights is not None:
            assert weights == {"funny": 1.0}
        if isinstance(weighting, ByLosses):
            assert weighting.weigh({"funny": torch.tensor(0.37)})["funny"] == pytest.approx(1.0)
        if isinstance(weighting, ByGradients):
            row = matrix(("funny",), 3)
            combined = weighting.combine(row, losses_of(("funny",), 3), step=3)
            assert combined.gradient.tolist() == row[0].tolist()
            assert combined.weights is not None
            assert {task: float(weight) for task, weight in combined.weights.items()} == {"funny": 1.0}


@rows
def test_every_weighting_can_be_simulated(config):
    section = CurriculumConfig(weighting=config(), window=5)
    streams = [StreamSpec(name=name, size=30, tasks=TASKS) for name in ("x", "y")]
    curriculum = section.build(streams=streams, tasks=TASKS, batch_size=4, seed=1, kinds=SETTING.kinds)
    setting = Setting(streams=streams, tasks=TASKS, steps_per_epoch=10)
    for record in simulate(curriculum, setting, synthetic_curve(setting), total_steps=20, eval_every=10):
        json.dumps(record, allow_nan=False)
        weights = record["weights"]
        assert weights is None or set(weights) == set(TASKS)
        assert record["conflicts"] is None
        if NAMES[config] == "uncertainty":
            assert weights == {"gory": 1.0, "funny": 1.0, "sad": 0.5}
        if NAMES[config] == "gradnorm":
            assert weights == dict.fromkeys(TASKS, 1.0)


@gradient_rows
def test_gradients_are_combined_the_same_however_often_and_the_random_state_stays(config):
    first, again = config().build(SETTING), config().build(SETTING)
    for step in range(12):
        before = torch.get_rng_state()
        torch.rand(step)  # wherever the global generator stands
        state = torch.get_rng_state()
        combined = first.combine(matrix(TASKS, step), losses_of(TASKS, step), step=step)
        assert torch.equal(torch.get_rng_state(), state)
        torch.set_rng_state(before)
        repeated = again.combine(matrix(TASKS, step), losses_of(TASKS, step), step=step)
        for weighting in (first, again):
            weighting.learn()
        assert torch.equal(combined.gradient, repeated.gradient)
        assert combined.gradient.shape == (7,)
        assert combined.gradient.dtype == torch.float64
        assert torch.isfinite(combined.gradient).all()
        if combined.weights is not None:
            assert tuple(combined.weights) == TASKS
            rebuilt = sum(weight * row for weight, row in zip(combined.weights.values(), matrix(TASKS, step), strict=True))
            assert combined.gradient.tolist() == pytest.approx(rebuilt.tolist())


@gradient_rows
@pytest.mark.parametrize("factor", [1e-8, 2.0, 1e8])
def test_the_scale_of_the_gradients_is_the_scale_of_the_update(config, factor):
    """Twice the loss is twice the step, and a small gradient is no missing one."""
    for step in (1, 2, 3):
        one, other = (config().build(SETTING) for _ in range(2))
        plain = one.combine(matrix(TASKS, step), losses_of(TASKS, step), step=step).gradient
        scaled = other.combine(factor * matrix(TASKS, step), losses_of(TASKS, step), step=step).gradient
        assert (scaled / factor).tolist() == pytest.approx(plain.tolist(), rel=1e-6, abs=1e-6)
        assert plain.abs().max() > 1e-3


@gradient_rows
def test_no_gradient_at_all_gives_none(config):
    weighting = config().build(SETTING)
    combined = weighting.combine(torch.zeros(3, 7), losses_of(TASKS, 1), step=1)
    assert combined.gradient.tolist() == [0.0] * 7
