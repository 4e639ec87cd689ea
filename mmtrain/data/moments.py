"""Mean and deviation of every dimension of a modality over train: measured piece by piece, in flat memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import ModalitySchema, Statistics
from mmtrain.data.shard_file import map_shard
from mmtrain.errors import DataError

_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Moments:
    """Number of rows, and for every dimension their mean and the sum of squared distances from it, float64 [D]."""

    rows: int
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    def statistics(self, *, normalize: bool) -> Statistics:
        """As dataset.json records them; `rows` is not 0."""
        deviation = np.sqrt(self.squares / self.rows)
        return Statistics(
            rows=self.rows, mean=tuple(self.mean.tolist()), deviation=tuple(deviation.tolist()), normalize=normalize
        )


def measure(pieces: Iterable[npt.NDArray[np.number]], dim: int) -> Moments:
    """The moments of all rows of all pieces, [R, D] each, in float64; memory is that of one piece.

    Pieces are joined by the rule of Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances (1979), equation 2.1.
    """
    total, mean, squares = 0, np.zeros(dim), np.zeros(dim)
    for piece in pieces:
        count = len(piece)
        if not count:
            continue
        values = piece.astype(np.float64)
        own = values.mean(axis=0)
        values -= own
        difference = own - mean
        squares += np.square(values, out=values).sum(axis=0) + np.square(difference) * (total * count / (total + count))
        mean += difference * (count / (total + count))
        total += count
    return Moments(total, mean, squares)


def train_moments(path: Path, name: str, modality: ModalitySchema, is_train: npt.NDArray[np.bool_]) -> Moments:
    """Of one modality's rows in the samples of train, [N]; reads all of its files once, in pieces.

    Errors: DataError for a damaged file, and for NaN or Inf.
    """
    return measure(_train_pieces(path, name, modality, is_train), modality.dim)


def _train_pieces(
    path: Path, name: str, modality: ModalitySchema, is_train: npt.NDArray[np.bool_]
) -> Iterator[npt.NDArray[np.number]]:
    for shard in modality.shards:
        values, offsets = map_shard(path / shard.file, modality, shard)
        if offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
            raise DataError(f"{path / shard.file}: offsets out of order; `mmtrain data check {path}` names them")
        for piece in _pieces_of(values, offsets, is_train[shard.first : shard.first + shard.samples]):
            if not np.isfinite(piece).all():
                raise DataError(f"NaN or Inf in {name} of train; `mmtrain data check {path}` names the samples")
            yield piece


def _pieces_of(
    values: npt.NDArray[np.number], offsets: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_]
) -> Iterator[npt.NDArray[np.number]]:
    """The rows [R, D] of the wanted samples [N] of one file, in pieces; `offsets` [N + 1] lie in order within the rows."""
    step = max(1, _PIECE_BYTES // (values.shape[1] * values.itemsize))
    for begin in range(0, len(values), step):
        end = min(begin + step, len(values))
        first = int(np.searchsorted(offsets, begin, side="right")) - 1
        last = int(np.searchsorted(offsets, end, side="left"))
        lengths = np.minimum(offsets[first + 1 : last + 1], end) - np.maximum(offsets[first:last], begin)
        taken = np.repeat(wanted[first:last], lengths)
        if taken.any():
            yield values[begin:end] if taken.all() else values[begin:end][taken]
