"""Heads: batch norm over labelled rows is torch's on those rows alone, and moves nothing where there are too few."""

import math

import pytest
import torch
from torch import nn

from mmtrain.errors import ConfigError
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.heads.norm import LabelledBatchNorm
from mmtrain.models.heads.scale import ScaleHeadConfig

LABELLED = torch.tensor([True, False, True, True, False])


def pair() -> tuple[LabelledBatchNorm, nn.BatchNorm1d]:
    torch.manual_seed(0)
    ours, theirs = LabelledBatchNorm(dim=3), nn.BatchNorm1d(3)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_batch_norm_is_torchs_on_the_labelled_rows() -> None:
    ours, theirs = (norm.double() for norm in pair())
    for seed in range(3):
        values = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()
        twin = values.detach()[LABELLED].requires_grad_()
        found, expected = ours(values, LABELLED)[LABELLED], theirs(twin)
        torch.testing.assert_close(found, expected)
        found.pow(3).sum().backward()
        expected.pow(3).sum().backward()
        torch.testing.assert_close(values.grad[LABELLED], twin.grad)
        assert not values.grad[~LABELLED].any()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    values = torch.randn(5, 3).double()
    torch.testing.assert_close(ours.eval()(values, LABELLED), theirs.eval()(values))


def test_batch_norm_over_all_rows_where_nothing_is_said() -> None:
    ours, theirs = pair()
    values = torch.randn(5, 3)
    torch.testing.assert_close(ours(values), theirs(values))


@pytest.mark.parametrize("count", [0, 1])
def test_batch_norm_falls_back_to_running_statistics(count: int) -> None:
    ours, theirs = pair()
    for norm in (ours, theirs):
        norm(torch.randn(8, 3, generator=torch.Generator().manual_seed(5)))
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    values = torch.randn(5, 3, requires_grad=True)
    found = ours(values, torch.arange(5) < count)
    torch.testing.assert_close(found, theirs.eval()(values))
    torch.testing.assert_close(ours.state_dict(), before)
    found.sum().backward()
    assert values.grad.isfinite().all()


def test_unlabelled_rows_move_no_statistics() -> None:
    ours, _ = pair()
    values = torch.randn(5, 3).masked_fill(~LABELLED[:, None], torch.nan)
    assert ours(values, LABELLED)[LABELLED].isfinite().all()
    assert ours.running_mean.isfinite().all()
    assert ours.running_var.isfinite().all()


def test_statistics_stay_single_precision_in_half() -> None:
    ours, _ = pair()
    assert ours(torch.randn(5, 3).bfloat16()).dtype == torch.bfloat16
    assert ours.running_var.dtype == torch.float32


@pytest.mark.parametrize("config", [LinearHeadConfig(), MlpHeadConfig(hidden=(4, 3)), MlpHeadConfig(batch_norm=True)])
def test_heads_give_a_column_per_output(config: LinearHeadConfig | MlpHeadConfig) -> None:
    head = config.build(input_dim=6, num_outputs=2)
    assert head(torch.randn(5, 6)).shape == (5, 2)
    assert head(torch.randn(5, 6), LABELLED).shape == (5, 2)


def test_mlp_widths() -> None:
    head = MlpHeadConfig(hidden=(4, 3), activation="relu").build(input_dim=6, num_outputs=2)
    assert [tuple(layer.weight.shape) for layer in [*head.layers, head.output]] == [(4, 6), (3, 4), (2, 3)]


def test_a_scale_keeps_the_order_and_takes_one_number() -> None:
    head = ScaleHeadConfig().build(input_dim=1, num_outputs=1)
    cosines = torch.tensor([[-1.0], [0.25], [1.0]])
    assert torch.equal(head(cosines), cosines)
    with torch.no_grad():
        head.log_scale.fill_(math.log(5))
        head.bias.fill_(-2)
    torch.testing.assert_close(head(cosines), torch.tensor([[-7.0], [-0.75], [3.0]]))
    with pytest.raises(ConfigError, match="the fusion gives 8 numbers a sample and the task wants 3, both must be 1"):
        ScaleHeadConfig().build(input_dim=8, num_outputs=3)
