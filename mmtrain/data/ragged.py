"""The rows of one modality for several samples at a time, from whichever files they lie in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import ModalitySchema
from mmtrain.data.shard_file import ShardFile
from mmtrain.errors import DataError


@dataclass(frozen=True)
class Ragged:
    """Rows of B samples behind each other."""

    values: npt.NDArray[np.number]  # [R, D], of pixels [R, 3, H, W]
    cuts: Sequence[int]  # B + 1 places between them

    def split(self) -> list[npt.NDArray[np.number]]:
        """The rows [T, D] of each sample, as views."""
        values = self.values
        return [values[begin:end] for begin, end in pairwise(self.cuts)]


class _Part(NamedTuple):
    """What is wanted of one file: rows of the samples at some places of the batch, [n] each."""

    file: ShardFile
    places: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


class Request:
    """Rows that are read: what is in memory at once; the rest of all modalities is announced before the first is filled."""

    def __init__(self, schema: ModalitySchema, parts: Sequence[_Part], num_samples: int) -> None:
        counts = np.zeros(num_samples + 1, np.int64)
        for part in parts:
            counts[part.places + 1] = part.counts
        cuts = counts.cumsum()
        self._cuts: list[int] = cuts.tolist()
        dtype = np.dtype(schema.dtype).newbyteorder("<")
        self._values: npt.NDArray[np.number] = np.empty((self._cuts[-1], *schema.row_shape), dtype)
        bytes_, bounds = self._values.reshape(-1).view(np.uint8).data, (cuts * (schema.dim * dtype.itemsize)).tolist()
        self._left = []
        for part in parts:
            targets = [bytes_[bounds[place] : bounds[place + 1]] for place in part.places.tolist()]
            if left := part.file.read_cached(part.file.pieces(part.begins, targets)):
                self._left.append((part.file, left))

    def announce(self) -> None:
        for file, pieces in self._left:
            file.announce(pieces)

    def fill(self) -> Ragged:
        """The rows, read-only. Errors: DataError where a file cannot be read."""
        for file, pieces in self._left:
            file.read(pieces)
        self._values.flags.writeable = False
        return Ragged(self._values, self._cuts)


class ModalityFiles:
    """The open files of one modality."""

    def __init__(self, folder: Path, schema: ModalitySchema) -> None:
        self._schema, self._folder = schema, folder
        self._files = [ShardFile(folder / shard.file, schema, shard) for shard in schema.shards]
        self._firsts = np.array([shard.first for shard in schema.shards], dtype=np.int64)

    def lengths(self) -> npt.NDArray[np.int64]:
        """Rows of each sample, [N]."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(file.offsets) for file in self._files)])

    def lengths_of(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of these samples, [n]."""
        which, found = np.searchsorted(self._firsts, indices, side="right") - 1, np.zeros(len(indices), np.int64)
        for number in np.unique(which).tolist():
            own, offsets = which == number, self._files[number].offsets
            places = indices[own] - self._firsts[number]
            found[own] = offsets[places + 1] - offsets[places]
        return found

    def request(self, indices: npt.NDArray[np.int64], describe: Callable[[int], str]) -> Request:
        """Of the samples [B]. `describe`: the index of a sample -> its name in an error.

        Errors: DataError where the rows of a sample lie outside of its file.
        """
        if len(self._files) == 1:
            return Request(self._schema, [self._part(0, indices, np.arange(len(indices)), describe)], len(indices))
        which = np.searchsorted(self._firsts, indices, side="right") - 1
        parts = []
        for number in dict.fromkeys(which.tolist()):
            places = np.flatnonzero(which == number)
            parts.append(self._part(number, indices[places], places, describe))
        return Request(self._schema, parts, len(indices))

    def _part(
        self,
        number: int,
        indices: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        describe: Callable[[int], str],
    ) -> _Part:
        file, local = self._files[number], indices - self._firsts[number]
        begins, ends = file.offsets[local], file.offsets[local + 1]
        outside = (begins < 0) | (begins > ends) | (ends > file.rows)
        if outside.any():
            place = outside.argmax()
            raise DataError(
                f"{describe(int(indices[place]))}: offsets {begins[place]}:{ends[place]} lie outside the "
                f"{file.rows} rows. Run `mmtrain data check {self._folder}`"
            )
        return _Part(file, places, begins, ends - begins)
