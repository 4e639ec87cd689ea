"""The pictures that a file holds, one after the other: those of a video at a rate, or the one of a picture."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from data_prep.extractors.pixels import open_picture
from data_prep.media.container import VIDEO_SUFFIXES
from data_prep.media.frames import frames_at
from data_prep.media.span import WHOLE, Span
from mmtrain.errors import DataError

Item = TypeVar("Item")


def pictures_of(file: Path, rate: float | None, span: Span) -> Iterator[npt.NDArray[np.uint8]]:
    """Pictures [H, W, 3]; a video is told by its suffix. Errors: DataError where the file cannot be read."""
    if file.suffix.lower() in VIDEO_SUFFIXES:
        if rate is None:
            raise DataError("a video, where a picture was expected; name it in the column 'video'")
        yield from frames_at(file, rate, span)
        return
    if span != WHOLE:
        raise DataError("a picture has no time; leave start and end empty, or name it in the column 'image'")
    yield np.asarray(open_picture(file), np.uint8)


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last of what is left."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
