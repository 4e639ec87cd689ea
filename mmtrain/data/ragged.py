"""The rows of one modality for several samples at a time, from whichever files they lie in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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

    def of(self, place: int) -> npt.NDArray[np.number]:
        """The rows [T, D] of one of them."""
        return self.values[self.cuts[place] : self.cuts[place + 1]]


@dataclass(frozen=True)
class _Part:
    """What is wanted of one file: rows [begin, end) for the samples at some places of the batch."""

    file: ShardFile
    places: list[int]
    begins: list[int]
    ends: list[int]


class Request:
    """Rows that are read: what is in memory at once; the rest of all modalities is announced before the first is filled."""

    def __init__(self, schema: ModalitySchema, parts: Sequence[_Part], num_samples: int) -> None:
        counts = [0] * num_samples
        for part in parts:
            for place, begin, end in zip(part.places, part.begins, part.ends, strict=True):
                counts[place] = end - begin
        self._cuts: list[int] = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        dtype = np.dtype(schema.dtype).newbyteorder("<")
        self._values: npt.NDArray[np.number] = np.empty((self._cuts[-1], *schema.row_shape), dtype)
        bytes_, width = self._values.reshape(-1).view(np.uint8).data, schema.dim * dtype.itemsize
        self._left = []
        for part in parts:
            targets = [bytes_[self._cuts[place] * width : self._cuts[place + 1] * width] for place in part.places]
            if left := part.file.read_cached(part.begins, targets):
                self._left.append((part.file, [part.begins[place] for place in left], [targets[place] for place in left]))

    def announce(self) -> None:
        for file, begins, targets in self._left:
            file.announce(begins, targets)

    def fill(self) -> Ragged:
        """The rows, read-only. Errors: DataError where a file cannot be read."""
        for file, begins, targets in self._left:
            file.read(begins, targets)
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
            return Request(self._schema, [self._part(0, indices, list(range(len(indices))), describe)], len(indices))
        which = np.searchsorted(self._firsts, indices, side="right") - 1
        parts = []
        for number in dict.fromkeys(which.tolist()):
            places = np.flatnonzero(which == number)
            parts.append(self._part(number, indices[places], places.tolist(), describe))
        return Request(self._schema, parts, len(indices))

    def _part(self, number: int, indices: npt.NDArray[np.int64], places: list[int], describe: Callable[[int], str]) -> _Part:
        file, local = self._files[number], indices - self._firsts[number]
        begins, ends = file.offsets[local], file.offsets[local + 1]
        outside = (begins < 0) | (begins > ends) | (ends > file.rows)
        for place in np.flatnonzero(outside).tolist():
            raise DataError(
                f"{describe(int(indices[place]))}: offsets {begins[place]}:{ends[place]} lie outside the "
                f"{file.rows} rows. Run `mmtrain data check {self._folder}`"
            )
        return _Part(file, places, begins.tolist(), ends.tolist())
