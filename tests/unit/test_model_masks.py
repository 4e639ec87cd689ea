"""The mask helpers: nothing under a mask survives, and no softmax runs over no keys (which some kernels answer with NaN)."""

import math

import torch

from mmtrain.models.masks import blank, key_mask, masked_softmax, with_one_visible

MASK = torch.tensor([[True, True, False], [False, False, False], [False, True, True]])


def test_a_sample_without_rows_keeps_one_visible() -> None:
    expected = [[True, True, False], [True, False, False], [False, True, True]]
    assert with_one_visible(MASK).tolist() == expected
    assert key_mask(MASK)[:, 0, 0].tolist() == expected
    assert key_mask(MASK).shape == (3, 1, 1, 3)


def test_blank_is_no_multiplication() -> None:
    values = torch.full((3, 3, 2), math.nan).masked_fill(MASK[..., None], 5.0).requires_grad_()
    found = blank(values, MASK)
    assert found.tolist() == (MASK[..., None] * 5.0).expand(3, 3, 2).tolist()
    found.sum().backward()
    assert values.grad.tolist() == MASK[..., None].float().expand(3, 3, 2).tolist()


def test_softmax_over_real_entries() -> None:
    scores = torch.tensor([[0.0, math.log(3), math.nan], [math.nan] * 3, [9e9, 1.0, 1.0]])
    expected = [[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]]
    torch.testing.assert_close(masked_softmax(scores, MASK)[[0, 2]], torch.tensor(expected))
    assert masked_softmax(scores.nan_to_num(), MASK)[1].isfinite().all()
