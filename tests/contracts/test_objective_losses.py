"""What every row of the loss table promises, alone and inside an objective."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mmtrain.data.batch import Batch
from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.models.outputs import Outputs
from mmtrain.objectives.losses import LOSSES, AnyLoss, TaskLoss, default_loss
from mmtrain.objectives.objective import Objective
from mmtrain.objectives.regularizers.r_drop import two_views

B, C = 6, 3
CLASSES = ("a", "b", "c")
# each row as it is by default, and with every knob that changes the training loss
VARIANTS = [(config(), kind) for config, kind in LOSSES]
VARIANTS += [
    (config.model_validate({"pos_weight": "auto", "label_smoothing": 0.1}), kind)
    for config, kind in LOSSES
    if "pos_weight" in config.model_fields
]
VARIANTS += [
    (config.model_validate({"class_weight": "auto", "label_smoothing": 0.1}), kind)
    for config, kind in LOSSES
    if "class_weight" in config.model_fields
]
VARIANTS += [(config(standardize=False), kind) for config, kind in LOSSES if "standardize" in config.model_fields]
every_loss = pytest.mark.parametrize(("config", "kind"), VARIANTS, ids=lambda value: getattr(value, "name", value))


def schema(kind: TaskKind) -> TaskSchema:
    return TaskSchema(kind=kind, classes=CLASSES if kind in ("multiclass", "multilabel") else ())


def values(kind: TaskKind, count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if kind == "regression":
        return generator.normal(5, 3, count)
    if kind == "multiclass":
        return generator.permutation(np.arange(count) % C).astype(np.float64)
    shape = (count, C) if kind == "multilabel" else (count,)
    drawn = (generator.random(shape) < 0.4).astype(np.float64)
    drawn[0], drawn[1] = 0, 1
    return drawn


def example(config: AnyLoss, kind: TaskKind) -> tuple[TaskLoss, Tensor, Tensor]:
    loss = config.build(values(kind, 40), schema(kind))
    targets = torch.from_numpy(values(kind, B, seed=1)).to(torch.int64 if kind == "multiclass" else torch.float32)
    shape = (B, C) if kind in ("multiclass", "multilabel") else (B,)
    return loss, torch.randn(shape, generator=torch.Generator().manual_seed(2)), targets


def batch_of(targets: Tensor, labelled: Tensor) -> Batch:
    zeroed = targets.clone()
    zeroed[~labelled] = 0
    count = torch.arange(len(targets))
    ids = tuple(map(str, count.tolist()))
    return Batch(
        ids=ids,
        stream=count,
        index=count,
        inputs={},
        targets={"t": zeroed},
        labelled={"t": labelled},
        group=count,
        text_key=count,
    )


def outputs_of(logits: Tensor) -> Outputs:
    return Outputs(logits={"t": logits}, joint=torch.zeros(len(logits), 1), per_modality={})


@every_loss
def test_one_finite_float32_value_per_sample(config: AnyLoss, kind: TaskKind) -> None:
    loss, logits, targets = example(config, kind)
    assert loss.kind == kind
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for function in (loss.training, loss.reported):
            found = function(logits.to(dtype), targets)
            assert found.shape == (B,)
            assert found.dtype == torch.float32
            assert found.isfinite().all()
            assert (found >= 0).all()
        prediction = loss.prediction(logits.to(dtype))
        assert prediction.shape == logits.shape
        assert prediction.dtype == torch.float32


@every_loss
def test_samples_do_not_see_each_other(config: AnyLoss, kind: TaskKind) -> None:
    loss, logits, targets = example(config, kind)
    for function in (loss.training, loss.reported):
        together = function(logits, targets)
        alone = torch.cat([function(logits[row : row + 1], targets[row : row + 1]) for row in range(B)])
        torch.testing.assert_close(together, alone)


@every_loss
def test_extreme_logits_stay_finite(config: AnyLoss, kind: TaskKind) -> None:
    loss, logits, targets = example(config, kind)
    huge = (1e4 * logits).requires_grad_()
    found = loss.training(huge, targets)
    found.sum().backward()
    assert found.isfinite().all()
    assert huge.grad.isfinite().all()


@every_loss
def test_gradient_is_the_numerical_one(config: AnyLoss, kind: TaskKind) -> None:
    loss, logits, targets = example(config, kind)
    assert torch.autograd.gradcheck(lambda x: loss.training(x, targets), logits.double().requires_grad_())


@every_loss
def test_shapes_that_would_broadcast_are_refused(config: AnyLoss, kind: TaskKind) -> None:
    loss, logits, targets = example(config, kind)
    for bad in (logits.unsqueeze(-1), logits.unsqueeze(0), logits[:-1]):
        for function in (loss.training, loss.reported):
            with pytest.raises(ValueError, match="must"):
                function(bad, targets)


@every_loss
def test_another_kind_of_task_is_refused(config: AnyLoss, kind: TaskKind) -> None:
    from mmtrain.errors import ConfigError, DataError

    other: TaskKind = "binary" if kind != "binary" else "regression"
    with pytest.raises(ConfigError, match=rf"here: loss '{config.name}' is for {kind} tasks, but the store says {other}"):
        config.build(values(other, 40), schema(other), where="here")
    with pytest.raises(DataError, match="here: no training sample carries a label"):
        config.build(values(kind, 40)[:0], schema(kind), where="here")


@every_loss
@pytest.mark.parametrize("filler", [0.0, 1e4, float("nan"), float("inf")])
def test_unlabelled_rows_give_no_loss_and_no_gradient(config: AnyLoss, kind: TaskKind, filler: float) -> None:
    loss, logits, targets = example(config, kind)
    labelled = torch.tensor([True, False, True, True, False, True])
    logits[~labelled] = filler
    logits.requires_grad_()
    terms = Objective(losses={"t": loss})(outputs_of(logits), batch_of(targets, labelled))
    terms.training["t"].sum().backward()
    for found in (terms.training["t"].detach(), terms.reported["t"]):
        assert found.dtype == torch.float32
        assert (found[~labelled] == 0).all()
    assert (logits.grad[~labelled] == 0).all()
    assert (logits.grad[labelled] != 0).any()
    assert not terms.reported["t"].requires_grad
    expected = loss.reported(logits.detach()[labelled], targets[labelled])
    torch.testing.assert_close(terms.reported["t"][labelled], expected)


@every_loss
def test_a_batch_without_labels_still_reaches_its_head(config: AnyLoss, kind: TaskKind) -> None:
    loss, logits, targets = example(config, kind)
    logits.requires_grad_()
    batch = batch_of(targets, torch.zeros(B, dtype=torch.bool))
    Objective(losses={"t": loss})(outputs_of(logits), batch).training["t"].sum().backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@every_loss
def test_consistency_of_two_views(config: AnyLoss, kind: TaskKind) -> None:
    loss, logits, targets = example(config, kind)
    labelled = torch.tensor([True, False, True, True, False, True])
    objective = Objective(losses={"t": loss}, r_drop=2.0)
    assert objective.num_views == 2
    batch = two_views(batch_of(targets, labelled))
    both = torch.cat([logits, logits + torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)])
    both[torch.cat([~labelled, ~labelled])] = float("nan")
    both.requires_grad_()
    found = objective.consistency({"t": both}, batch)["t"]
    assert found.shape == (B,)
    assert (found[~labelled] == 0).all()
    assert (found[labelled] > 0).all()
    found.sum().backward()
    assert both.grad.isfinite().all()
    same = objective.consistency({"t": torch.cat([logits, logits])}, batch)["t"]
    assert (same == 0).all()
    with pytest.raises(ValueError, match="2B rows"):
        objective.consistency({"t": logits}, batch)


@every_loss
def test_chance_is_what_the_best_constant_scores(config: AnyLoss, kind: TaskKind) -> None:
    """No other constant reports less on the same labels."""
    loss = config.build(values(kind, 40), schema(kind))
    labels = values(kind, 30, seed=3)
    targets = torch.from_numpy(labels).to(torch.int64 if kind == "multiclass" else torch.float64)
    constant = torch.zeros(C if kind in ("multiclass", "multilabel") else (), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([constant], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        mean = loss.reported(constant.expand(len(targets), *constant.shape), targets).mean()
        mean.backward()
        return mean.item()

    optimizer.step(closure)
    assert closure() == pytest.approx(loss.chance(labels), abs=1e-6)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_every_kind_has_a_default(kind: TaskKind) -> None:
    config = default_loss(kind)
    assert config.build(values(kind, 10), schema(kind)).kind == kind


def test_two_views_repeat_every_column() -> None:
    batch = batch_of(torch.tensor([1.0, 0.0]), torch.tensor([True, True]))
    doubled = two_views(replace(batch, ids=("x", "y")))
    assert doubled.ids == ("x", "y", "x", "y")
    assert doubled.index.tolist() == [0, 1, 0, 1]
    assert doubled.targets["t"].tolist() == [1, 0, 1, 0]
