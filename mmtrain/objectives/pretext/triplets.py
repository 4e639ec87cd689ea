"""What the triplet losses share: a match should be nearer than a negative that is chosen by its distance, by a margin."""

from collections.abc import Callable

from torch import Tensor

from mmtrain.objectives.pretext.pairs import PairRows

# distances [b, B] to all, to the match [b, 1], who is a negative [b, B] -> the distance [b] to the chosen negative
Choose = Callable[[Tensor, Tensor, Tensor], Tensor]


def triplet(rows: PairRows, choose: Choose, *, margin: float) -> Tensor:
    """[b]: max(0, d(a, p) - d(a, n) + margin), d the squared Euclidean distance, the mean of both directions.

    A sample without a negative has no loss. Distances of unit vectors are 2 - 2 cos.
    """
    return (
        _hinge(rows.first, rows.all_second, rows, choose, margin) + _hinge(rows.second, rows.all_first, rows, choose, margin)
    ) / 2


def _hinge(anchors: Tensor, others: Tensor, rows: PairRows, choose: Choose, margin: float) -> Tensor:
    distances = 2 - 2 * anchors @ others.T  # [b, B]
    match = distances.gather(1, rows.own[:, None])  # [b, 1]
    loss = (match[:, 0] - choose(distances, match, rows.negatives) + margin).clamp(min=0)
    return loss.masked_fill(~rows.negatives.any(dim=1), 0)
