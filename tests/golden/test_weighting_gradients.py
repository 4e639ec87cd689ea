"""Weightings of gradients against the papers' algorithms, written down once more in plain float64."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from mmtrain.curriculum.permutation import derive_key
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.aligned_mtl import AlignedMtlConfig
from mmtrain.curriculum.weighting.cagrad import CagradConfig
from mmtrain.curriculum.weighting.conflict_free import ConflictFreeConfig
from mmtrain.curriculum.weighting.geometric import Geometric
from mmtrain.curriculum.weighting.graddrop import GraddropConfig
from mmtrain.curriculum.weighting.gradnorm import Gradnorm
from mmtrain.curriculum.weighting.imtl_g import ImtlGConfig
from mmtrain.curriculum.weighting.mgda import MgdaConfig
from mmtrain.curriculum.weighting.pcgrad import PcgradConfig
from mmtrain.curriculum.weighting.uncertainty import Uncertainty
from mmtrain.curriculum.weighting.upgrad import UpgradConfig

SEED = 7
steps = pytest.mark.parametrize("step", range(4))


def drawn(step, tasks=3, width=6):
    """Gradients of unlike lengths with conflicts among them."""
    draw = np.random.default_rng(step)
    gradients = draw.standard_normal((tasks, width)) * (1 + 3 * np.arange(tasks))[:, None]
    gradients[1] -= 1.5 * gradients[0]
    return gradients


def combine(config, gradients, *, step=0):
    names = [f"t{k}" for k in range(len(gradients))]
    weighting = config.build(Setting(streams=(), tasks=names, seed=SEED))
    losses = {name: torch.tensor(1.0, dtype=torch.float64) for name in names}
    return weighting.combine(torch.tensor(gradients), losses, step=step)


def update(config, gradients, *, step=0):
    return combine(config, gradients, step=step).gradient.numpy()


@steps
def test_pcgrad_is_algorithm_1(step):
    gradients = drawn(step)
    torch.manual_seed(derive_key(SEED, "aggregation", step))
    total, conflicts = np.zeros(6), 0
    for i, own in enumerate(gradients):
        projected = own.copy()
        for j in torch.randperm(3).tolist():
            product = sum(projected[p] * gradients[j][p] for p in range(6))
            if j != i and product < 0:
                conflicts += 1
                projected = projected - product / sum(value**2 for value in gradients[j]) * gradients[j]
        total += projected
    assert conflicts > 1
    assert update(PcgradConfig(), gradients, step=step) == pytest.approx(total)


def test_pcgrad_without_conflict_is_the_sum():
    gradients = np.abs(drawn(0))
    assert update(PcgradConfig(), gradients) == pytest.approx(gradients.sum(axis=0))


@steps
def test_mgda_of_two_tasks_is_the_closed_form(step):
    """Sener and Koltun, algorithm 1: where on the line between both the shortest vector lies."""
    first, second = drawn(step, tasks=2)
    share = np.clip((second - first) @ second / ((first - second) @ (first - second)), 0.0, 1.0)
    expected = share * first + (1 - share) * second
    combined = combine(MgdaConfig(epsilon=1e-9), np.stack([first, second]))
    assert combined.gradient.numpy() == pytest.approx(expected)
    assert float(sum(combined.weights.values())) == pytest.approx(1.0)
    assert expected @ first >= -1e-9
    assert expected @ second >= -1e-9


@steps
def test_imtl_g_is_equation_4_and_projects_alike_on_every_direction(step):
    gradients = drawn(step)
    units = gradients / np.linalg.norm(gradients, axis=1)[:, None]
    differences, directions = gradients[0] - gradients[1:], units[0] - units[1:]
    others = gradients[0] @ directions.T @ np.linalg.inv(differences @ directions.T)
    weights = np.array([1 - others.sum(), *others])
    found = update(ImtlGConfig(), gradients)
    assert found == pytest.approx(weights @ gradients)
    assert units @ found == pytest.approx(np.full(3, units[0] @ found))


@pytest.mark.parametrize(("mode", "scale"), [("min", np.min), ("median", np.median), ("rmse", np.mean)])
@steps
def test_aligned_mtl_makes_all_singular_values_one(step, mode, scale):
    gradients = drawn(step)
    left, values, right = np.linalg.svd(gradients, full_matrices=False)
    aligned = math.sqrt(scale(values**2)) * left @ right  # rows are orthogonal and equally long
    assert update(AlignedMtlConfig(scale_mode=mode), gradients) == pytest.approx(aligned.mean(axis=0))


@steps
def test_conflict_free_is_equation_2_and_makes_one_angle_with_all(step):
    gradients = drawn(step)
    units = gradients / np.linalg.norm(gradients, axis=1)[:, None]
    direction = np.linalg.lstsq(units, np.ones(3), rcond=None)[0]
    direction /= np.linalg.norm(direction)
    found = update(ConflictFreeConfig(), gradients)
    assert found == pytest.approx((gradients @ direction).sum() * direction)
    assert units @ found == pytest.approx(np.full(3, units[0] @ found))


@steps
def test_graddrop_is_algorithm_1(step):
    gradients = drawn(step)
    torch.manual_seed(derive_key(SEED, "aggregation", step))
    uniform = torch.rand(6, dtype=torch.float64).tolist()
    expected = []
    for p in range(6):
        column = gradients[:, p]
        purity = (1 + column.sum() / np.abs(column).sum()) / 2
        keeps_positive = purity > uniform[p]
        expected.append(sum(value for value in column if (value > 0) == keeps_positive))
    combined = combine(GraddropConfig(), gradients, step=step)
    assert combined.gradient.numpy() == pytest.approx(expected)
    assert combined.weights is None


@steps
def test_upgrad_averages_projections_to_where_no_task_loses(step):
    """g_i + sum_j l_j g_j with the l >= 0 that make it shortest, found by another solver.

    As in torchjd, the Gramian is divided by its trace and 1e-4 is added to its diagonal.
    """
    gradients = drawn(step)
    gramian = gradients @ gradients.T
    root = np.linalg.cholesky(gramian / np.trace(gramian) + 1e-4 * np.eye(3)).T
    weights = np.mean([own + nnls(root, -root @ own)[0] for own in np.eye(3)], axis=0)
    found = update(UpgradConfig(), gradients)
    assert found == pytest.approx(weights @ gradients, rel=1e-6)
    assert (gradients @ found > -2e-2 * np.linalg.norm(gradients, axis=1)).all()


def test_the_mean_of_the_gradients_would_conflict():
    """Control of the test above."""
    assert any((drawn(step) @ drawn(step).mean(axis=0)).min() < -0.1 for step in range(4))


@steps
def test_cagrad_is_the_dual_of_algorithm_1(step):
    gradients, c = drawn(step, tasks=2), 0.4
    mean = gradients.mean(axis=0)
    radius = c * np.linalg.norm(mean)
    grid = np.linspace(0, 1, 100_001)[:, None]
    mixed = grid * gradients[0] + (1 - grid) * gradients[1]
    best = mixed[np.argmin(mixed @ mean + radius * np.linalg.norm(mixed, axis=1))]
    found = update(CagradConfig(c=c), gradients)
    assert found == pytest.approx(mean + radius * best / np.linalg.norm(best), rel=1e-3, abs=1e-3)
    assert np.linalg.norm(found - mean) == pytest.approx(radius, rel=1e-4)
    assert min(gradients @ found) > min(gradients @ mean)


def plain_gradnorm(observed, *, alpha, lr):
    """Algorithm 1 with Adam written out, over (norms, losses) of the steps; the weights before each step and after all."""
    count = len(observed[0][0])
    weights, first, second, history = [1.0] * count, [0.0] * count, [0.0] * count, []
    initial = observed[0][1]
    for number, (norms, losses) in enumerate(observed, start=1):
        history.append(list(weights))
        sizes = [weight * norm for weight, norm in zip(weights, norms, strict=True)]
        ratios = [loss / start for loss, start in zip(losses, initial, strict=True)]
        rates = [ratio / (sum(ratios) / count) for ratio in ratios]
        for k in range(count):
            target = sum(sizes) / count * rates[k] ** alpha
            slope = norms[k] * (1 if sizes[k] > target else -1 if sizes[k] < target else 0)
            first[k] = 0.9 * first[k] + 0.1 * slope
            second[k] = 0.999 * second[k] + 0.001 * slope**2
            step = (first[k] / (1 - 0.9**number)) / (math.sqrt(second[k] / (1 - 0.999**number)) + 1e-8)
            weights[k] = max(weights[k] - lr * step, 1e-3)
        weights = [count * weight / sum(weights) for weight in weights]
    return [*history, weights]


def test_gradnorm_is_algorithm_1():
    draw = np.random.default_rng(1)
    weighting = Gradnorm(tasks=("a", "b", "c"), alpha=1.5, lr=0.1)
    observed = []
    for step in range(25):
        gradients, losses = drawn(step), draw.uniform(0.5, 2.0, 3)
        observed.append((np.linalg.norm(gradients, axis=1).tolist(), losses.tolist()))
        by_task = dict(zip("abc", torch.tensor(losses), strict=True))
        combined = weighting.combine(torch.tensor(gradients), by_task, step=step)
        before, after = plain_gradnorm(observed, alpha=1.5, lr=0.1)[-2:]
        assert combined.gradient.numpy() == pytest.approx(np.array(before) @ gradients, rel=1e-4, abs=1e-4)
        assert [float(weight) for weight in combined.weights.values()] == pytest.approx(before, rel=1e-4)
        assert combined.heads == combined.weights
        assert list(weighting.weights(step, ("a", "b", "c")).values()) == pytest.approx(before, rel=1e-4), (
            "before the update"
        )
        weighting.learn()
        assert list(weighting.weights(step, ("a", "b", "c")).values()) == pytest.approx(after, rel=1e-4)
    assert max(after) > 3 * min(after), "the weights have moved"


def test_gradnorm_leaves_out_what_is_not_there():
    """A task without a gradient keeps its weight until all are scaled; its first loss is the first that it has."""
    weighting = Gradnorm(tasks=("a", "b", "c"), alpha=1.0, lr=0.2)
    rows = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    combined = weighting.combine(rows, {"a": torch.tensor(1.0), "c": torch.tensor(2.0)}, step=0)
    assert combined.gradient.tolist() == [1.0, 3.0]
    weighting.learn()
    state = weighting.state_dict()
    assert state["initial"] == {"a": 1.0, "c": 2.0}
    assert state["adam"]["b"] == {}
    # mean norm 2: a moves up by lr, c down by lr, b stays
    assert state["weights"] == pytest.approx({"a": 1.2, "b": 1.0, "c": 0.8})
    assert weighting.weights(1, ("a", "b")) == pytest.approx({"a": 2 * 1.2 / 2.2, "b": 2 * 1.0 / 2.2})


def test_gradnorm_does_not_learn_from_a_loss_that_is_not_finite():
    weighting = Gradnorm(tasks=("a", "b"))
    before = weighting.state_dict()
    weighting.combine(torch.eye(2), {"a": torch.tensor(math.inf), "b": torch.tensor(1.0)}, step=0)
    weighting.learn()
    assert weighting.state_dict() == before


def test_uncertainty_is_kendalls_likelihood():
    weighting = Uncertainty(tasks=("c", "r", "x"), regressions=("r",))
    with torch.no_grad():
        for value, s in zip(weighting.module, (0.2, -0.4, 9.0), strict=True):
            value.fill_(s)
    losses = {"c": torch.tensor(0.7), "r": torch.tensor(1.9)}
    objective = weighting.objective(losses)
    objective.backward()
    expected = 0.7 * math.exp(-0.2) + 0.1 + 1.9 * math.exp(0.4) / 2 - 0.2
    assert objective.item() == pytest.approx(expected)
    slopes = [None if value.grad is None else value.grad.item() for value in weighting.module]
    assert slopes[:2] == pytest.approx([0.5 - 0.7 * math.exp(-0.2), 0.5 - 1.9 * math.exp(0.4) / 2])
    assert slopes[2] is None, "a task that is not there contributes neither term"
    assert weighting.weights(0, ("r", "c")) == pytest.approx({"r": math.exp(0.4) / 2, "c": math.exp(-0.2)})


def test_the_geometric_mean_by_hand():
    weighting = Geometric()
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(8.0)}
    assert float(weighting.objective(losses)) == pytest.approx(4.0)  # the root of 16
    assert {task: float(weight) for task, weight in weighting.weigh(losses).items()} == pytest.approx({"a": 1.0, "b": 0.25})
    none = {"a": torch.tensor(0.0), "b": torch.tensor(1.0)}
    assert float(weighting.objective(none)) == pytest.approx(1e-4)  # the root of 1e-8
    assert {task: float(weight) for task, weight in weighting.weigh(none).items()} == pytest.approx({"a": 5e3, "b": 5e-5})
