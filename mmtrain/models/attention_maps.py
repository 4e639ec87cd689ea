"""The attention of a fusion in one sample, recorded on request: other forward passes pay nothing for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.attending import Attends, Attentive
from mmtrain.models.model import MultimodalModel

Floats = npt.NDArray[np.float32]
Block = tuple[str, str, Floats]  # query, key, weights [T, S]


@dataclass(frozen=True)
class AttentionMap:
    """What the rows of one part read of another's: weights [T, S], the mean over heads.

    A row sums to 1 over all the parts that it reads in one call of an attention, which may be several maps.
    """

    call: int  # maps of one call have one number, counted from 0
    name: str
    query: str
    key: str
    weights: Floats


@dataclass(frozen=True)
class Recorded:
    """The maps of one sample, and how many rows each part had: 0 for a modality that is missing."""

    maps: tuple[AttentionMap, ...]
    num_rows: dict[str, int]


@torch.inference_mode()
def record_maps(model: MultimodalModel, inputs: Mapping[str, MaskedSequence]) -> Recorded:
    """Of a model in eval mode with an Attentive fusion; inputs: one sample, [1, T, ...]. A part without rows has no map."""
    fusion = model.fusion
    assert isinstance(fusion, Attentive)
    calls = list(fusion.attends())
    found: dict[nn.Module, list[Tensor]] = {call.attention: [] for call in calls}
    read: dict[str, MaskedSequence] = {}

    def keep_rows(_: nn.Module, arguments: tuple[Mapping[str, MaskedSequence]]) -> None:
        read.update(arguments[0])

    def keep_weights(attention: nn.Module, arguments: tuple[Tensor, ...], _: Tensor) -> None:
        found[attention].append(attention.weights(*arguments)[0].mean(dim=0))  # type: ignore[operator]

    handles = [fusion.register_forward_pre_hook(keep_rows)]
    handles += [attention.register_forward_hook(keep_weights) for attention in found]
    try:
        model.fuse(model.encode(inputs))
    finally:
        for handle in handles:
            handle.remove()
    num_rows = {name: int(rows.mask.sum()) for name, rows in read.items()}
    widths = {name: rows.mask.shape[1] for name, rows in read.items()}
    own = {part: len(names) for part, names in fusion.own_rows().items()}
    maps = [
        AttentionMap(number, f"{call.layer}, {query} to {key}", query, key, weights)
        for number, call in enumerate(calls)
        for query, key, weights in _cut(call, found[call.attention][call.call], num_rows, widths | own)
    ]
    return Recorded(tuple(maps), num_rows)


def _cut(call: Attends, weights: Tensor, num_rows: Mapping[str, int], widths: Mapping[str, int]) -> Iterator[Block]:
    """The blocks of weights [T, S] that go from one part to one part, both with rows of the sample."""
    values = weights.float().cpu().numpy()
    modalities = [part for part in {*call.queries, *call.keys} if part in num_rows]
    if modalities and not any(num_rows[part] for part in modalities):
        return
    for query, top in _places(call.queries, widths, values.shape[0]):
        for key, left in _places(call.keys, widths, values.shape[1]):
            if num_rows.get(query, 1) and num_rows.get(key, 1):
                yield query, key, values[top, left]


def _places(parts: Sequence[str], widths: Mapping[str, int], total: int) -> Iterator[tuple[str, slice]]:
    """Where each part lies; one whose width is not known before has what the others leave."""
    start, rest = 0, total - sum(widths[part] for part in parts)
    for part in parts:
        width = widths[part] or rest
        yield part, slice(start, start + width)
        start += width
