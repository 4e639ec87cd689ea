"""Samples of like length share a batch, as far as the guarantees of the plan allow."""

import numpy as np

from mmtrain.curriculum.permutation import derive_key, hash_words
from mmtrain.curriculum.streams import Integers


def group_by_length(positions: Integers, lengths: Integers, segments: Integers, steps: Integers, *, seed: int) -> Integers:
    """Redistribute drawn samples over their own slots; returns the index [N] of the sample that each slot takes.

    All [N] int64, slot by slot, segments ascending: `positions` and `lengths` of the samples drawn for the slots,
    `segments` the (stream, pass) that a slot belongs to, `steps` the batch that it lies in. Samples stay within their
    segment, so counts and passes are as they were. The batches have one random order, common to all streams; a segment's
    shortest samples go to its slots in the first batch of that order, and so on. Ties go by position.
    """
    rank = hash_words(steps.astype(np.uint64), derive_key(seed, "length order"))
    samples = np.lexsort((positions, lengths, segments))
    slots = np.lexsort((rank, segments))
    taken = np.empty(len(positions), np.int64)
    taken[slots] = samples
    return taken
