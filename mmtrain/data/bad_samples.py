"""Samples that nothing can be learned from: rows that hold NaN or Inf, or that lie outside their file."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import SPLITS, ModalitySchema, Shard
from mmtrain.data.shard_file import map_shard
from mmtrain.data.store import FeatureStore

_PIECE_BYTES = 32 << 20


def find_bad_samples(store: FeatureStore, name: str, modality: ModalitySchema, shard: Shard) -> dict[int, str]:
    """Index -> what is wrong, of the samples of one file of a store. Reads all of it once, in pieces: memory stays flat."""
    values, offsets = map_shard(store.path / shard.file, modality, shard)
    begins, ends = offsets[:-1], offsets[1:]
    outside = (begins > ends) | (begins < 0) | (ends > len(values))
    rows = np.concatenate([np.empty(0, np.int64), *rows_not_finite(values)])
    num_bad = np.searchsorted(rows, ends) - np.searchsorted(rows, begins)  # rows in each sample, [N]
    found = {int(i): f"NaN or Inf in {name}" for i in np.flatnonzero(num_bad > 0)}
    found |= {int(i): f"offsets of {name} lie outside its rows" for i in np.flatnonzero(outside)}
    return {shard.first + number: what for number, what in sorted(found.items())}


def rows_not_finite(values: npt.NDArray[np.number]) -> Iterator[npt.NDArray[np.int64]]:
    """The numbers of the rows of [R, D] that hold NaN or Inf, ascending, piece by piece; any byte is a pixel."""
    if values.dtype == np.uint8:
        return
    step = max(1, _PIECE_BYTES // (values.shape[1] * values.itemsize))
    for begin in range(0, len(values), step):
        yield begin + np.flatnonzero(~np.isfinite(values[begin : begin + step]).all(axis=1))


def bad_sample_records(stores: Mapping[str, FeatureStore]) -> Iterator[dict[str, str]]:
    """A record of each sample that the stores leave out: data set, id, split, and what is wrong with it."""
    for dataset, store in stores.items():
        splits = store.column("split")
        for index, what in store.left_out.items():
            yield {"dataset": dataset, "id": store.sample_id(index), "split": str(splits[index]), "found": what}


def bad_sample_notes(stores: Mapping[str, FeatureStore]) -> Iterator[str]:
    """A sentence for each data set with such samples."""
    for dataset, store in stores.items():
        splits = [record["split"] for record in bad_sample_records({dataset: store})]
        parts = ", ".join(f"{splits.count(split)} {split}" for split in SPLITS if split in splits)
        if splits:
            were = "sample is" if len(splits) == 1 else "samples are"
            yield f"warning: dataset '{dataset}': {len(splits)} bad {were} left out ({parts}; batch.on_bad_sample: skip)"
