"""Compressions of small models: folds are exact, int8 is what a loop in float64 says, half is what rounding says."""

import copy
import math
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmtrain import extras
from mmtrain.errors import CheckpointError, ConfigError, DataError
from mmtrain.inference.compress import check_exact
from mmtrain.inference.compression import METHODS, method_named
from mmtrain.inference.compression.fold import Fold
from mmtrain.inference.compression.folded import Folded
from mmtrain.inference.compression.half import BFloat16, Float16
from mmtrain.inference.compression.int8 import Int8
from mmtrain.inference.compression.record import Comparison
from mmtrain.models.heads.mlp import MlpHead
from mmtrain.models.heads.norm import LabelledBatchNorm


def shaken(model: nn.Module) -> nn.Module:
    """Random running statistics and factors, of which some are negative, in evaluation mode."""
    random = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=random)
            tensor.copy_(values.square() + 0.05 if name.endswith("running_var") else values)
    return model.eval()


LAYERS = {
    "linear": (nn.Linear(6, 5), nn.BatchNorm1d(5), (7, 6)),
    "linear without bias": (nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5, eps=0.1), (7, 6)),
    "linear, labelled rows": (nn.Linear(6, 5), LabelledBatchNorm(dim=5), (7, 6)),
    "conv1d": (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), (2, 4, 9)),
    "conv2d": (nn.Conv2d(3, 4, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(4), (2, 3, 8, 8)),
    "conv2d, no affine": (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), (2, 3, 8, 8)),
    "conv3d": (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), (2, 2, 4, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_fold_is_exact(name: str) -> None:
    layer, norm, shape = LAYERS[name]
    model = shaken(copy.deepcopy(nn.Sequential(layer, norm, nn.ReLU())))
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    expected = model(rows)
    applied = Fold().apply(model)
    assert applied.layers == (("0", "1"),)
    assert isinstance(model[1], Folded)
    torch.testing.assert_close(model(rows), expected, atol=1e-5, rtol=1e-5)
    fresh = shaken(copy.deepcopy(nn.Sequential(layer, norm, nn.ReLU())))
    for weight in fresh.parameters():
        nn.init.zeros_(weight)
    Fold().restore(fresh, Fold().stored(model, applied.layers), applied.layers, origin="here")
    torch.testing.assert_close(fresh(rows), model(rows), atol=0, rtol=0)


def test_a_head_is_folded_whatever_rows_have_labels() -> None:
    head = MlpHead(
        input_dim=6, num_outputs=3, hidden=(5, 4, 4), activation="gelu", dropout=0.3, batch_norm=True, bare_layers=1
    )
    head, rows = shaken(head), torch.randn(9, 6, generator=torch.Generator().manual_seed(2))
    expected = head(rows)
    applied = Fold().apply(head)
    assert applied.layers == (("layers.0", "norms.0"), ("layers.1", "norms.1"))
    torch.testing.assert_close(head(rows, torch.zeros(9, dtype=torch.bool)), expected, atol=1e-5, rtol=1e-5)


def test_a_model_in_training_mode_is_not_folded() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(ConfigError, match=r"fold: the model is in training mode.*call model\.eval\(\) first"):
        Fold().apply(model)
    model.eval()[1].train()
    with pytest.raises(ConfigError, match="training mode"):
        Fold().apply(model)
    assert isinstance(model[1], nn.BatchNorm1d)


def test_nothing_to_fold_is_said() -> None:
    with pytest.raises(ConfigError, match="fold: there is no batch normalization in this model"):
        Fold().apply(nn.Sequential(nn.Linear(2, 2)).eval())
    with pytest.raises(
        ConfigError, match="no batch normalization of this model can be folded; 1 is left as it is: before it is R"
    ):
        Fold().apply(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(2)).eval())


class Residual(nn.Module):
    """The convolution's own rows are read a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.layer(rows)
        return hidden + self.norm(hidden)


class Twice(Residual):
    def forward(self, rows: Tensor) -> Tensor:
        return self.norm(self.layer(rows)) + self.layer(rows + 1)


class Peeking(Residual):
    def forward(self, rows: Tensor) -> Tensor:
        return self.norm(self.layer(rows)) + self.layer.weight.sum()


class Branching(Residual):
    """Its pass depends on the data, that of what it holds does not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    def forward(self, rows: Tensor) -> Tensor:
        return self.inner(rows) if rows.sum() > 0 else self.norm(self.layer(rows))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("build", [Residual, Twice, Peeking, tied])
def test_what_would_not_be_exact_is_left(build: type[nn.Module]) -> None:
    good = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model, rows = shaken(nn.Sequential(good, build())), torch.randn(5, 3)
    expected = model(rows)
    applied = Fold().apply(model)
    assert applied.layers == (("0.0", "0.1"),)
    assert "is left as it is: it, or the layer before it, is used more than once" in applied.notes[1]
    torch.testing.assert_close(model(rows), expected, atol=1e-5, rtol=1e-5)


def test_inside_of_what_depends_on_the_data_is_folded() -> None:
    model, rows = shaken(Branching()), torch.randn(5, 3)
    expected = model(rows), model(-rows)
    assert Fold().apply(model).layers == (("inner.0", "inner.1"),)
    for found, wanted in zip((model(rows), model(-rows)), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_norm_without_statistics_is_left() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval()
    with pytest.raises(ConfigError, match="it keeps no running statistics"):
        Fold().apply(model)


def test_rows_with_time_behind_a_folded_norm_of_rows_are_refused() -> None:
    """BatchNorm1d would normalize the second axis of [B, 3, 3], the linear layer makes the third."""
    model = shaken(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    Fold().apply(model)
    with pytest.raises(DataError, match="reads values of 3 axes; it is the same for 2 alone"):
        model(torch.zeros(2, 3, 3))


def test_a_fold_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="here: this model has no 4 and 5 to fold"):
        Fold().restore(nn.Sequential(nn.Linear(2, 2)), {}, (("4", "5"),), origin="here")


def quantized_by_hand(rows: Tensor) -> tuple[list[list[int]], list[float]]:
    """Of each row the numbers of -128 to 127 nearest to it, and the step between them: its largest magnitude over 127.5."""
    numbers, steps = [], []
    for row in rows.double().tolist():
        step = max(max(abs(value) for value in row) / 127.5, torch.finfo(torch.float32).eps)
        numbers.append([max(-128, min(127, round(value / step))) for value in row])
        steps.append(step)
    return numbers, steps


def with_positive_extremes(rows: Tensor) -> Tensor:
    """A negative one would lie between -127 and -128, where a bit of float32 decides."""
    extremes = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return torch.where(extremes < 0, -rows, rows)


def product_by_hand(rows: Tensor, weight: Tensor, bias: Tensor) -> Iterator[list[float]]:
    numbers, steps = quantized_by_hand(rows)
    factors, scales = quantized_by_hand(weight)
    for row, step in zip(numbers, steps, strict=True):
        sums = [sum(a * b for a, b in zip(row, factor, strict=True)) for factor in factors]
        yield [total * step * scale + float(add) for total, scale, add in zip(sums, scales, bias, strict=True)]


def test_int8_is_what_a_loop_says() -> None:
    """To 1e-5 of products around one."""
    pytest.importorskip("torchao")
    random = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(19, 7)).eval()
    rows = with_positive_extremes(torch.randn(5, 19, generator=random))
    model[0].weight.data = with_positive_extremes(torch.randn(7, 19, generator=random) / 5)
    rows[2] *= 100
    rows[3] = 0
    expected = list(product_by_hand(rows, model[0].weight.detach(), model[0].bias.detach()))
    plain = model(rows).detach()
    applied = Int8().apply(model)
    with torch.inference_mode():
        found = model(rows).double().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
        assert 1e-3 < np.abs(found - plain.numpy())[[0, 1, 4]].max() < 0.05
        assert model(torch.zeros(0, 4, 19)).shape == (0, 4, 7)
    stored = Int8().stored(model, applied.layers)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in stored.items()} == {
        "0.weight": (torch.int8, (7, 19)),
        "0.weight_scale": (torch.float32, (7, 1)),
        "0.bias": (torch.float32, (7,)),
    }
    fresh = nn.Sequential(nn.Linear(19, 7)).eval()
    Int8().restore(fresh, stored, applied.layers, origin="here")
    with torch.inference_mode():
        np.testing.assert_array_equal(fresh(rows), model(rows))


def test_int8_leaves_what_is_no_linear_layer_of_its_own() -> None:
    pytest.importorskip("torchao")
    attention, embedding = nn.MultiheadAttention(4, 2), nn.Embedding(4, 4)
    tied_to_it = nn.Linear(4, 4, bias=False)
    tied_to_it.weight = embedding.weight
    model = nn.ModuleList([attention, embedding, tied_to_it, nn.LSTM(4, 4), nn.Linear(4, 4, bias=False)])
    assert Int8().apply(model).layers == (("4",),)
    with pytest.raises(ConfigError, match="int8: there is no linear layer in this model"):
        Int8().apply(nn.Sequential(nn.LSTM(4, 4)))


def test_an_int8_file_without_its_scales_is_refused() -> None:
    pytest.importorskip("torchao")
    model = nn.Sequential(nn.Linear(2, 3))
    whole = {"0.weight": torch.zeros(3, 2, dtype=torch.int8), "0.weight_scale": torch.ones(3, 1), "0.bias": torch.zeros(3)}
    for wrong in ({"0.weight": torch.zeros(3, 2)}, {"0.weight_scale": torch.ones(3)}):
        with pytest.raises(CheckpointError, match="here: 0 has no int8 weight with a scale for each of its outputs"):
            Int8().restore(copy.deepcopy(model), whole | wrong, (("0",),), origin="here")


def test_without_torchao_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"--method int8 needs torchao, .*pip install 'mmtrain\[compress\]'"):
        Int8().check()


@pytest.mark.parametrize(("method", "digits"), [(BFloat16(), 8), (Float16(), 11)])
def test_half_rounds_matrices_alone(method: BFloat16 | Float16, digits: int) -> None:
    """To `digits` binary digits, by frexp; a tie does not occur in random numbers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    applied = method.apply(model)
    for value, old in zip(model[0].weight.flatten().tolist(), before["0.weight"].flatten().tolist(), strict=True):
        mantissa, exponent = math.frexp(old)
        assert value == math.ldexp(round(mantissa * 2**digits), exponent - digits)
    stored = method.stored(model, applied.layers)
    assert {name: value.dtype for name, value in stored.items()} == {
        "0.weight": method.dtype,
        **dict.fromkeys(("0.bias", "1.weight", "1.bias"), torch.float32),
    }
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(stored[name], before[name])
    fresh = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    method.restore(fresh, stored, applied.layers, origin="here")
    assert all(torch.equal(fresh.state_dict()[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("method", [BFloat16(), Float16()], ids=lambda method: method.name)
def test_a_matrix_of_two_names_is_stored_in_half_under_both(method: BFloat16 | Float16) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    stored = method.stored(model, method.apply(model).layers)
    assert stored["0.weight"].dtype == stored["1.weight"].dtype == method.dtype


def test_what_does_not_fit_into_half_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight[0, 1] = -1e5
    with pytest.raises(ConfigError, match=r"fp16: 0\.weight holds 1e\+05, and fp16 ends at 65504; write --method bf16"):
        Float16().apply(model)
    BFloat16().apply(model)


def test_names_are_their_own() -> None:
    assert [method.name for method in METHODS] == ["fold", "int8", "bf16", "fp16"]
    with pytest.raises(ConfigError, match="--method int4: write one of fold, int8, bf16, fp16"):
        method_named("int4")


@pytest.mark.parametrize(
    ("method", "products", "difference", "refused"),
    [
        (Fold(), "float32", 0.1, True),
        (Fold(), "float32", 1e-5, False),
        (Fold(), "bfloat16", 0.1, False),
        (BFloat16(), "float32", 0.1, False),
    ],
)
def test_a_fold_that_changed_an_answer_is_not_written(
    method: Fold | BFloat16, products: str, difference: float, refused: bool
) -> None:
    found = Comparison.model_construct(products_after=products, largest_difference=difference)
    with (
        pytest.raises(ConfigError, match=r"fold: a logit differs by 0\.1 from the model's own") if refused else nullcontext()
    ):
        check_exact(method, found)
