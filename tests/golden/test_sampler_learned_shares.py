"""Shares learned from losses and evaluations: each paper's update worked out by hand, or by a plain loop."""

from math import exp, log, sqrt

import pytest
from pydantic import ValidationError

from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.doremi import DoremiConfig
from mmtrain.curriculum.samplers.exp3 import Exp3Config
from mmtrain.curriculum.samplers.importance import importance_weighted
from mmtrain.curriculum.samplers.learning_progress import LearningProgressConfig
from mmtrain.curriculum.samplers.odm import OdmConfig
from mmtrain.curriculum.samplers.progress import Progress
from mmtrain.curriculum.samplers.ucb import UcbConfig
from mmtrain.curriculum.samplers.validation_driven import ValidationDrivenConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.errors import ConfigError

AB = ("a", "b")


def setting(*names, tasks=("x",)):
    return Setting(streams=[StreamSpec(name=name, size=1) for name in names or AB], tasks=tasks)


def window(counts=None, shares=None, **losses):
    """A window's report; losses by stream, of the task "x" where a number."""
    by_task = {name: loss if isinstance(loss, dict) else {"x": loss} for name, loss in losses.items()}
    counts = counts or dict.fromkeys(losses, 10)
    asked = shares or {name: count / sum(counts.values()) for name, count in counts.items()}
    return WindowReport(step=5, losses=by_task, counts=counts, shares=asked)


def shares(sampler, *active):
    return sampler.decide(0)(0, active or AB)


def near(**values):
    return pytest.approx(values, rel=1e-9)


def test_the_fall_of_a_loss_is_a_part_of_it():
    progress = Progress()
    assert progress.falls(window(a={"x": 4.0, "y": 1.0}, b=2.0)) == {}
    assert progress.falls(window(a={"x": 3.0, "y": 1.5})) == near(a=-0.125)  # mean of 1/4 and -1/2
    assert progress.falls(window(a={"y": 0.75}, b=1.0)) == near(a=0.5, b=0.5)  # since each was last seen
    assert progress.falls(window(c=1.0)) == {}


def test_importance_weights():
    report = window(counts={"a": 1}, shares={"a": 0.25, "b": 0.75}, a=1.0)
    assert importance_weighted({"a": 0.5}, report) == near(a=2.0)  # one draw: r / p
    report = window(counts={"a": 30, "b": 10}, shares={"a": 0.5, "b": 0.5}, a=1.0, b=1.0)
    assert importance_weighted({"a": 0.4, "b": 0.4}, report) == near(a=0.6, b=0.2)
    assert importance_weighted({"c": 1.0}, report) == {}  # not drawn


def test_learning_progress_both_signs_and_falls_only():
    both = LearningProgressConfig(smoothing=0.5, floor=0.1).build(setting())
    falls = LearningProgressConfig(smoothing=0.5, floor=0.1, sign="falls").build(setting())
    for sampler in (both, falls):
        sampler.observe(window(a=1.0, b=1.0))
        assert shares(sampler) == near(a=0.5, b=0.5)
        sampler.observe(window(a=0.8, b=1.4))  # Q: 0.2 and -0.4
    assert shares(both) == near(a=0.1 + 0.8 / 3, b=0.1 + 1.6 / 3)
    assert shares(falls) == near(a=0.9, b=0.1)
    for sampler in (both, falls):
        sampler.observe(window(b=0.7))  # b fell by half: Q_b = (-0.4 + 0.5) / 2 = 0.05; a keeps its 0.2
        assert shares(sampler) == near(a=0.1 + 0.8 * 0.8, b=0.1 + 0.8 * 0.2)
    assert shares(both, "a", "b", "c") == near(a=0.1 + 0.7 * 0.2 / 0.375, b=0.1 + 0.7 * 0.05 / 0.375, c=0.1 + 0.7 / 3)


def test_learning_progress_without_any():
    sampler = LearningProgressConfig(sign="falls", floor=0.0).build(setting())
    for loss in (1.0, 2.0):
        sampler.observe(window(a=loss, b=loss))
    assert shares(sampler) == near(a=0.5, b=0.5)  # all rose: nothing to prefer


def test_exp3():
    """gamma 0.2, K 2. a: 1 -> 0.5, reward 1/2, drawn once at p = 1/2: x = 1; w_a = exp(0.2 * 1 / 2)."""
    sampler = Exp3Config(exploration=0.2).build(setting())
    assert shares(sampler) == near(a=0.5, b=0.5)
    sampler.observe(window(a=1.0, b=1.0))
    assert shares(sampler) == near(a=0.5, b=0.5)
    sampler.observe(window(counts={"a": 1}, shares={"a": 0.5, "b": 0.5}, a=0.5))
    a = 0.8 * exp(0.1) / (exp(0.1) + 1) + 0.1
    assert shares(sampler) == near(a=a, b=1 - a)
    assert shares(sampler, "b") == {"b": 1.0}
    sampler.observe(window(counts={"b": 1}, shares={"a": a, "b": 1 - a}, b=3.0))  # rose: earns 0
    assert shares(sampler) == near(a=a, b=1 - a)
    sampler.observe(window(counts={"b": 1}, shares={"a": a, "b": 1 - a}, b=0.0))  # vanished: earns 1
    b = exp(0.1 / (1 - a))
    assert shares(sampler)["b"] == pytest.approx(0.8 * b / (exp(0.1) + b) + 0.1)


def test_odm_against_a_plain_loop():
    """Algorithm 1 with one draw a step (G = 1), in plain arithmetic: cumulative over 40 rounds of three streams."""
    names, alpha = ("a", "b", "c"), 0.7
    sampler = OdmConfig(smoothing=alpha).build(setting(*names))
    estimate, before = dict.fromkeys(names, 0.0), 1 / 3
    for t in range(1, 41):
        now = min(1 / 3, sqrt(log(3) / (3 * t)))
        total = sum(exp(before * estimate[name]) for name in names)
        policy = {name: (1 - 3 * now) * exp(before * estimate[name]) / total + now for name in names}
        assert shares(sampler, *names) == near(**policy)
        drawn = names[t * t % 3]
        loss = 1 + (t * 7 % 5) / 4
        sampler.observe(window(counts={drawn: 1}, shares=policy, **{drawn: loss}))
        estimate[drawn] = alpha * estimate[drawn] + (1 - alpha) * loss / policy[drawn]
        before = now
    assert max(policy.values()) - min(policy.values()) > 0.01


def test_odm_by_hand():
    """K = 2: e_1 = 1/2 (sqrt(ln 2 / 2) = 0.589 is more), e_2 = sqrt(ln 2 / 4) = 0.41628."""
    sampler = OdmConfig(smoothing=0.9).build(setting())
    assert shares(sampler) == near(a=0.5, b=0.5)
    sampler.observe(window(counts={"a": 6, "b": 6}, a=4.0, b=2.0))  # R: 0.4 and 0.2
    rest, top = 1 - 2 * sqrt(log(2) / 4), exp(0.5 * 0.4) / (exp(0.5 * 0.4) + exp(0.5 * 0.2))
    assert shares(sampler)["a"] == pytest.approx(rest * top + sqrt(log(2) / 4))
    assert shares(sampler, "a") == {"a": 1.0}


def test_ucb1():
    """Floor 0: each stream is played until it has a reward, then the largest m + sqrt(2 ln n / n_t)."""
    sampler = UcbConfig(floor=0.0).build(setting())
    plays = [("a", 1.0), ("a", 0.6), ("b", 1.0), ("b", 0.9)]  # rewards: a 0.4, b 0.1
    for name, loss in plays:
        assert shares(sampler) == {"a": float(name == "a"), "b": float(name == "b")}
        sampler.observe(window(**{name: loss}))
    assert shares(sampler)["a"] == 1  # 0.4 + sqrt(2 ln 2) over 0.1 + sqrt(2 ln 2)
    sampler.observe(window(a=0.6))  # a: mean 0.2 of 2 plays, 0.2 + sqrt(2 ln 3 / 2) = 1.248; b: 0.1 + sqrt(2 ln 3) = 1.582
    assert shares(sampler)["b"] == 1
    assert shares(sampler, "a") == {"a": 1.0}
    cautious = UcbConfig(floor=0.0, exploration=0.1).build(setting())
    cautious.load_state_dict(sampler.state_dict())  # 0.2 + 0.105 over 0.1 + 0.148
    assert shares(cautious)["a"] == 1


def test_ucb1_s_bound_has_the_factor_of_the_paper():
    """a: mean 0.47 of 2 plays + sqrt(2 ln 3 / 2) = 1.518; b: 0.1 of 1 + sqrt(2 ln 3) = 1.582. Without the 2, a led."""
    sampler = UcbConfig(floor=0.0).build(setting())
    sampler.load_state_dict({"losses": {}, "plays": {"a": 2.0, "b": 1.0}, "earned": {"a": 0.94, "b": 0.1}})
    assert shares(sampler)["b"] == 1
    sampler.load_state_dict({"losses": {}, "plays": {"a": 2.0, "b": 1.0}, "earned": {"a": 1.1, "b": 0.1}})
    assert shares(sampler)["a"] == 1


def test_ucb_with_floors_counts_parts_of_plays():
    sampler = UcbConfig(floor=0.1).build(setting())
    assert shares(sampler) == near(a=0.9, b=0.1)
    sampler.observe(window(a=1.0, b=1.0))
    sampler.observe(window(counts={"a": 9, "b": 1}, a=0.5, b=0.5))
    assert sampler.state_dict()["plays"] == near(a=0.9, b=0.1)
    assert sampler.state_dict()["earned"] == near(a=0.45, b=0.05)
    assert shares(sampler) == near(a=0.9, b=0.1)  # ln max(n, 1) = 0: both stand at 0.5, the first is played


def test_doremi():
    """eta 2, c 0.1: a is 0.5 behind its reference, b ahead of its own: weights 1/2 exp(1) and 1/2."""
    config = DoremiConfig(reference_losses={"a": {"x": 1.0}, "b": {"x": 3.0}}, rate=2.0, smoothing=0.1)
    sampler = config.build(setting())
    assert shares(sampler) == near(a=0.5, b=0.5)
    sampler.observe(window(a=1.5, b=2.0))
    a = 0.9 * exp(1) / (exp(1) + 1) + 0.05
    assert shares(sampler) == near(a=a, b=1 - a)
    sampler.observe(window(b=3.25))  # a keeps its excess of 0.5, b has 0.25
    grown = a * exp(1.0), (1 - a) * exp(0.5)
    assert shares(sampler)["a"] == pytest.approx(0.9 * grown[0] / sum(grown) + 0.05)
    assert shares(sampler, "b") == {"b": 1.0}


def test_doremi_means_over_tasks_and_streams_not_drawn():
    references = {name: {"x": 1.0, "y": 2.0} for name in ("a", "b", "c")}
    sampler = DoremiConfig(reference_losses=references, smoothing=0.5).build(setting("a", "b", "c", tasks=("x", "y")))
    sampler.observe(window(a={"x": 2.0, "y": 4.0}, b={"x": 1.0, "y": 1.0}))  # a: 1.5, b: 0 (cut), c: their mean
    parts = [exp(1.5), 1.0, exp(0.75)]
    expected = [0.5 * part / sum(parts) + 0.5 / 3 for part in parts]
    assert list(shares(sampler, "a", "b", "c").values()) == pytest.approx(expected)


def test_doremi_needs_a_reference_for_every_stream_and_task():
    with pytest.raises(ConfigError, match="reference_losses: nothing is written for stream b"):
        DoremiConfig(reference_losses={"a": {"x": 1}}).build(setting())
    with pytest.raises(ConfigError, match=r"reference_losses.b: unknown task 'y'; The stage has x"):
        DoremiConfig(reference_losses={"a": {"x": 1}, "b": {"y": 1}}).build(setting())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "reference .* or reference_losses .*; neither stands here"),
        ({"reference": "runs/uniform", "reference_losses": {"a": {"x": 1}}}, "both stand here; make one null"),
        ({"reference_losses": {"a": {"x": 1}}, "reference_epoch": 2}, "with reference_losses leave it out"),
    ],
)
def test_doremi_has_one_reference(given, message):
    with pytest.raises(ValidationError, match=message):
        DoremiConfig(**given)


def test_doremi_reads_no_files():
    with pytest.raises(ConfigError, match="reference runs/uniform is read by a run alone; here give reference_losses"):
        DoremiConfig(reference="runs/uniform").build(setting())


def test_validation_driven():
    targets = {
        "a": {"metric": "val/x/f1", "target": 0.9},
        "b": {"metric": "val/y/loss", "target": 0.5, "mode": "min", "scale": 2.0},
    }
    sampler = ValidationDrivenConfig(targets=targets, floor=0.1).build(setting())
    assert shares(sampler) == near(a=0.5, b=0.5)
    sampler.observe(EvalReport(step=5, metrics={"val/x/f1": 0.6, "val/y/loss": 0.7}))  # gaps 0.3 and 0.2 / 2
    assert shares(sampler) == near(a=0.1 + 0.8 * 0.75, b=0.1 + 0.8 * 0.25)
    sampler.observe(EvalReport(step=9, metrics={"val/x/f1": 0.95, "val/y/loss": float("nan")}))  # a is there, b as it was
    assert shares(sampler) == near(a=0.1, b=0.9)
    sampler.observe(EvalReport(step=9, metrics={"val/x/f1": 0.95, "val/y/loss": 0.5}))
    assert shares(sampler) == near(a=0.5, b=0.5)


def test_validation_driven_messages():
    targets = {"a": {"metric": "val/x/f2", "target": 1}, "b": {"metric": "val/x/f1", "target": 1}}
    sampler = ValidationDrivenConfig(targets=targets).build(setting())
    with pytest.raises(ConfigError, match=r"targets.a.metric: the evaluations have no 'val/x/f2'; the nearest .* val/x/f1"):
        sampler.observe(EvalReport(step=5, metrics={"val/x/f1": 0.5, "val/loss": 1.0}))
    with pytest.raises(ConfigError, match="nothing is written for stream c"):
        ValidationDrivenConfig(targets=targets).build(setting("a", "b", "c"))


@pytest.mark.parametrize("config", [LearningProgressConfig, UcbConfig])
def test_floors_that_cannot_be_kept(config):
    with pytest.raises(ConfigError, match=r"floor 0.4 for each of 3 streams makes 1.2, more than 1. Write floor: 0.333 or"):
        config(floor=0.4).build(setting("a", "b", "c"))
