"""Penalties change the gradient, never the reported task loss; their state survives a restart."""

import pytest
import torch
from torch import nn

from mmtrain.data.batch import Batch
from mmtrain.errors import CheckpointError
from mmtrain.models.outputs import Outputs
from mmtrain.objectives.losses.binary import BinaryLoss
from mmtrain.objectives.objective import Objective
from mmtrain.objectives.regularizers import PENALTIES, L2Config
from mmtrain.objectives.regularizers.l2 import L2
from mmtrain.objectives.regularizers.l2_initial import L2Initial, L2InitialConfig

every_penalty = pytest.mark.parametrize("config", PENALTIES, ids=lambda config: config.__name__)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 1))


def batch() -> Batch:
    rows = torch.arange(4)
    return Batch(
        ids=("a", "b", "c", "d"),
        stream=rows,
        index=rows,
        inputs={},
        targets={"t": torch.tensor([0.0, 1.0, 1.0, 0.0])},
        labelled={"t": torch.tensor([True, True, True, False])},
        group=rows,
        text_key=rows,
    )


def step(network: nn.Module, objective: Objective) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Reported losses and gradients of one backward pass."""
    network.zero_grad()
    outputs = Outputs(logits={"t": network(torch.arange(4)).squeeze(1)}, joint=torch.zeros(4, 1), per_modality={})
    terms = objective(outputs, batch())
    total = terms.training["t"].sum() / 3
    for penalty in objective.penalties(network.named_parameters()).values():
        total = total + penalty
    total.backward()
    return terms.reported["t"], {name: value.grad.clone() for name, value in network.named_parameters()}


@every_penalty
def test_a_penalty_moves_the_gradient_and_leaves_the_reported_loss_alone(config: type) -> None:
    """The predecessor summed norms, took `.item()` (no gradient) and showed a task loss of 530."""
    network = model()
    penalty = config(strength=0.5).build(network.named_parameters())
    with torch.no_grad():
        for value in network.parameters():
            value.add_(100.0)  # far from zero and from the start: a penalty in the hundreds or more
    plain_loss, plain = step(network, Objective(losses={"t": BinaryLoss()}))
    loss, gradients = step(network, Objective(losses={"t": BinaryLoss()}, regularizers={"pull": penalty}))
    assert torch.equal(loss, plain_loss)
    assert penalty(network.named_parameters()).item() > 500
    for name, value in network.named_parameters():
        pulled = (gradients[name] - plain[name]).abs().max().item()
        if value.ndim >= 2:
            assert pulled == pytest.approx(50, rel=0.05), name
        else:
            assert pulled == 0, name


def test_penalties_are_reported_apart_by_name() -> None:
    network = model()
    objective = Objective(losses={"t": BinaryLoss()}, regularizers={"one": L2(strength=1), "two": L2(strength=2)})
    penalties = objective.penalties(network.named_parameters())  # a generator: both must see all of it
    assert set(penalties) == {"one", "two"}
    assert penalties["two"].item() == pytest.approx(2 * penalties["one"].item())
    assert penalties["one"].dtype == torch.float32


@every_penalty
def test_a_model_without_matrices_is_free(config: type) -> None:
    network = nn.LayerNorm(3)
    assert config(strength=1).build(network.named_parameters())(network.named_parameters()).item() == 0


@every_penalty
def test_half_precision_weights_are_summed_in_float32(config: type) -> None:
    network = model().bfloat16()
    found = config(strength=1).build(network.named_parameters())(network.named_parameters())
    assert found.dtype == torch.float32


def test_initial_weights_survive_a_restart() -> None:
    network = model()
    before = Objective(losses={}, regularizers={"l2_initial": L2InitialConfig(strength=1).build(network.named_parameters())})
    saved = {name: dict(state) for name, state in before.state_dict().items()}
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1.0)
    expected = before.penalties(network.named_parameters())["l2_initial"].item()
    assert expected > 0
    after = Objective(losses={}, regularizers={"l2_initial": L2InitialConfig(strength=1).build(network.named_parameters())})
    assert after.penalties(network.named_parameters())["l2_initial"].item() == 0  # built from weights that had moved
    after.load_state_dict(saved)
    assert after.penalties(network.named_parameters())["l2_initial"].item() == expected


def test_the_reference_is_a_copy() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    penalty = L2Initial(strength=2, initial={"w": weight})
    with torch.no_grad():
        weight.zero_()
    assert penalty([("w", weight)]).item() == 4


def test_foreign_state_is_refused() -> None:
    penalty = L2Initial(strength=1, initial={"w": torch.ones(2, 2)})
    with pytest.raises(CheckpointError, match=r"'w' is \(2, 2\) in the model and \(3, 2\) in the checkpoint"):
        penalty.load_state_dict({"w": torch.ones(3, 2)})
    with pytest.raises(CheckpointError, match=r"'w' is .* in the model and absent in the checkpoint"):
        penalty.load_state_dict({})
    with pytest.raises(CheckpointError, match="l2 keeps no state"):
        L2(strength=1).load_state_dict({"w": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"has regularizers \['other'\], the config has \['decay'\]"):
        Objective(losses={}, regularizers={"decay": L2(strength=1)}).load_state_dict({"other": {}})


def test_a_parameter_unknown_at_the_start_is_named() -> None:
    penalty = L2Initial(strength=1, initial={})
    with pytest.raises(ValueError, match=r"no initial weights of 'module\.w'"):
        penalty([("module.w", nn.Parameter(torch.ones(2, 2)))])


def test_one_view_without_r_drop() -> None:
    objective = Objective(losses={"t": BinaryLoss()})
    assert objective.num_views == 1
    assert objective.consistency({"t": torch.zeros(4)}, batch()) == {}


def test_a_strength_is_positive() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        L2Config(strength=0)
