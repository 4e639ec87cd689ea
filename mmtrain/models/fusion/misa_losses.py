"""The batch terms of MISA: central moments of shared parts, orthogonality of private ones, reconstruction."""

from itertools import combinations

import torch
from einops import einsum
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.models.masks import blank, masked_mean

MOMENTS = 5  # of the central moment discrepancy; the paper's K


def similarity(shared: Tensor, present: Tensor) -> Tensor:
    """Mean over pairs of modalities of the discrepancy of their shared parts [B, M, d] in (0, 1): L_sim.

    A modality's distribution is that of the samples that have it; a pair of which one is nowhere counts 0.
    """
    parts, masks = shared.unbind(dim=1), present.unbind(dim=1)
    pairs = list(combinations(range(len(parts)), 2))
    return torch.stack([moment_discrepancy(parts[a], masks[a], parts[b], masks[b]) for a, b in pairs]).mean()


def moment_discrepancy(first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor) -> Tensor:
    """CMD_K (Zellinger et al. 2017) between the real rows of two [B, d] in (0, 1), as one number.

    |E(X) - E(Y)| + sum over k = 2 .. K of |C_k(X) - C_k(Y)|, Euclidean lengths, C_k the central moment feature by feature.
    """
    means = _mean(first, first_mask), _mean(second, second_mask)
    distance: Tensor = torch.linalg.vector_norm(means[0] - means[1])
    for order in range(2, MOMENTS + 1):
        moments = _mean((first - means[0]) ** order, first_mask) - _mean((second - means[1]) ** order, second_mask)
        distance = distance + torch.linalg.vector_norm(moments)
    return distance.masked_fill(~(first_mask.any() & second_mask.any()), 0)


def difference(shared: Tensor, private: Tensor, present: Tensor) -> Tensor:
    """Orthogonality of each modality's shared and private part, and of every two private parts: L_diff.

    The sum of |X^T Y|_F^2 / d^2 over the samples that have what the term speaks of; columns of X and Y have mean 0, then
    rows length 1. The mean over the d^2 entries is the authors' code's; the paper prints their sum.
    """
    masks = present.unbind(dim=1)
    own, common = private.unbind(dim=1), shared.unbind(dim=1)
    terms = [orthogonality(one, other, mask) for one, other, mask in zip(own, common, masks, strict=True)]
    for a, b in combinations(range(len(own)), 2):
        terms.append(orthogonality(own[a], own[b], masks[a] & masks[b]))
    return torch.stack(terms).sum()


def orthogonality(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Mean square of X^T Y over the real rows of two [B, d]; 0 where fewer than two are real."""
    first, second = (_unit(rows, mask) for rows in (first, second))
    product: Tensor = einsum(first, second, "b i, b j -> i j")
    return product.square().mean()


def reconstruction(own: Tensor, rebuilt: Tensor, present: Tensor) -> Tensor:
    """Mean over modalities, their samples and features of (u - rebuilt u)^2, [B, M, d] each: L_recon."""
    errors = (own - rebuilt).square().mean(dim=2)  # [B, M]
    return torch.stack([_mean(*pair) for pair in zip(errors.unbind(dim=1), present.unbind(dim=1), strict=True)]).mean()


def _mean(rows: Tensor, mask: Tensor) -> Tensor:
    """Over the real entries of the batch: rows [B, ...] and mask [B] -> [...]."""
    return masked_mean(rows[None], mask[None])[0]


def _unit(rows: Tensor, mask: Tensor) -> Tensor:
    """Rows [B, d] less their mean, each of length 1; zeros under the mask."""
    return F.normalize(blank(rows - _mean(rows, mask), mask), dim=1, eps=1e-6)
