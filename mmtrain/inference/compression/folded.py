"""What stands in the place of a batch normalization that the layer before it does now."""

from torch import Tensor, nn

from mmtrain.errors import DataError


class Folded(nn.Module):
    """Values as they are. `rank`: how many axes they need to have for the fold to be the same; None: any."""

    def __init__(self, *, rank: int | None = None) -> None:
        super().__init__()
        self._rank = rank

    def forward(self, values: Tensor, _labelled: Tensor | None = None) -> Tensor:
        if self._rank is not None and values.dim() != self._rank:
            raise DataError(
                f"a batch normalization was folded into a linear layer, and reads values of {values.dim()} axes; it is the "
                f"same for {self._rank} alone. Use the model as it was before the fold"
            )
        return values
