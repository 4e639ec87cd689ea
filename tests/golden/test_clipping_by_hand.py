"""Norms of gradients by group, and what clippings make of them: by hand, and against numpy in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mmtrain.engine.clipping import CLIPPINGS
from mmtrain.engine.clipping.none import NoClipping
from mmtrain.engine.clipping.norm import NormClipping
from mmtrain.engine.clipping.value import ValueClipping
from mmtrain.engine.gradient_norms import gradient_norms, gradients_of


def group(name: str, *gradients: list[float] | None) -> dict[str, Any]:
    """A parameter group; None is a parameter without a gradient."""
    parameters = []
    for gradient in gradients:
        parameters.append(nn.Parameter(torch.zeros(len(gradient or [0.0]))))
        parameters[-1].grad = None if gradient is None else torch.tensor(gradient)
    return {"name": name, "params": parameters}


def test_norms_of_groups_and_of_all() -> None:
    """sqrt(9 + 16) = 5 over two tensors, sqrt(144) = 12 beside a tensor without gradient, and sqrt(25 + 144) = 13."""
    norms = gradient_norms([group("a", [3.0], [0.0, -4.0]), group("b", None, [12.0]), group("still", None)])
    assert norms.groups == {"a": 5.0, "b": 12.0, "still": 0.0}
    assert norms.total == 13.0
    nothing = gradient_norms([group("still", None)])
    assert (nothing.groups, nothing.total) == ({"still": 0.0}, 0.0)


def test_one_copy_leaves_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many groups and tensors there are."""
    copies: list[int] = []
    to_list = torch.Tensor.tolist

    def counted(self: torch.Tensor) -> Any:
        copies.append(self.numel())
        return to_list(self)

    def refuse(_: torch.Tensor) -> Any:
        raise AssertionError("a number is copied on its own")

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    for name in ("item", "__float__", "__bool__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    assert gradient_norms([group("a", [3.0], [4.0]), group("b", [12.0])]).total == 13.0
    assert copies == [3]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
def test_no_group_hides_what_is_not_finite(wrong: float, place: int) -> None:
    values = [[1.0, 2.0], [3.0], [4.0]]
    values[place][-1] = wrong
    norms = gradient_norms([group("a", values[0], values[1]), group("b", values[2])])
    assert not math.isfinite(norms.total)
    assert [math.isfinite(norm) for norm in norms.groups.values()] == [place == 2, place != 2]


def test_a_tensor_whose_own_norm_overflows_is_not_finite_and_a_sum_of_tensors_is() -> None:
    """In float32 two squares of 1e30 add up to Inf, and so would three of 1.2e19; but norms are added up in float64."""
    assert gradient_norms([group("a", [1e30, 1e30])]).total == math.inf
    assert gradient_norms([group("a", [1.2e19], [1.2e19], [1.2e19])]).total == pytest.approx(math.sqrt(3) * 1.2e19, rel=1e-6)


def test_a_float64_model_with_a_float32_weighting() -> None:
    both = [group("a", [3.0]), group("b", [4.0])]
    both[0]["params"][0].data = torch.zeros(1, dtype=torch.float64)
    both[0]["params"][0].grad = torch.tensor([3.0], dtype=torch.float64)
    assert gradient_norms(both).total == 5.0


def clipped(clipping: Any, *gradients: list[float], norm: float) -> list[list[float]]:
    tensors = [torch.tensor(gradient) for gradient in gradients]
    clipping.clip(tensors, norm=norm)
    return [tensor.tolist() for tensor in tensors]


def test_by_hand() -> None:
    assert clipped(NormClipping(max_norm=6.5), [3.0, 4.0], [12.0], norm=13.0) == [
        pytest.approx([1.5, 2.0], rel=1e-6),
        pytest.approx([6.0], rel=1e-6),
    ]
    assert clipped(NormClipping(max_norm=13.5), [3.0, 4.0], [12.0], norm=13.0) == [[3.0, 4.0], [12.0]], "short enough"
    assert clipped(ValueClipping(max_value=3.5), [3.0, -4.0], [12.0], norm=13.0) == [[3.0, -3.5], [3.5]]
    assert clipped(NoClipping(), [3.0, -4.0], [12.0], norm=13.0) == [[3.0, -4.0], [12.0]]


@pytest.mark.parametrize("bound", [0.03, 1.0, 2.5, 100.0])
def test_against_numpy_in_float64(bound: float) -> None:
    random = np.random.default_rng(5)
    arrays = [random.normal(size=shape) * 3 for shape in ((4, 3), (7,), (), (2, 1, 5))]
    groups = [{"name": name, "params": [nn.Parameter(torch.zeros(a.shape)) for a in part]}
              for name, part in (("a", arrays[:1]), ("b", arrays[1:]))]  # fmt: skip
    flat = [parameter for each in groups for parameter in each["params"]]

    def fill() -> float:
        for parameter, array in zip(flat, arrays, strict=True):
            parameter.grad = torch.tensor(array, dtype=torch.float32)
        return gradient_norms(groups).total

    total = math.sqrt(sum(float((a**2).sum()) for a in arrays))
    expected: list[tuple[Any, Callable[[np.ndarray], np.ndarray]]] = [
        (NormClipping(max_norm=bound), lambda a: a * min(1.0, bound / (total + 1e-6))),
        (ValueClipping(max_value=bound), lambda a: np.minimum(np.maximum(a, -bound), bound)),
        (NoClipping(), lambda a: a),
    ]
    for clipping, formula in expected:
        norm = fill()
        assert norm == pytest.approx(total, rel=1e-6)
        clipping.clip(gradients_of(groups), norm=norm)
        for parameter, array in zip(flat, arrays, strict=True):
            assert parameter.grad is not None
            assert parameter.grad.numpy() == pytest.approx(formula(array), rel=1e-5), type(clipping)
    assert len(expected) == len(CLIPPINGS)


def test_norm_clipping_is_torchs_own() -> None:
    mine, theirs = ([nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))] for _ in range(2))
    for parameters in (mine, theirs):
        parameters[0].grad, parameters[1].grad = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 7.0])
    groups = [{"name": "all", "params": mine}]
    norm = gradient_norms(groups).total
    NormClipping(max_norm=0.7).clip(gradients_of(groups), norm=norm)
    assert norm == pytest.approx(float(nn.utils.clip_grad_norm_(theirs, 0.7)), rel=1e-6)
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own.grad, other.grad)
