"""Whether the statistics that dataset.json records are those of the rows of train."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmtrain.data.check_table import Defect
from mmtrain.data.moments import train_moments
from mmtrain.data.schema import ModalitySchema, Statistics

_TOLERANCE = 1e-6  # of the deviation; whoever measures in float64 in another order is far below


def check_statistics(path: Path, name: str, modality: ModalitySchema, is_train: npt.NDArray[np.bool_]) -> Iterator[Defect]:
    """Measure again, and compare; the modality's files are known to be whole, `is_train` is [N]."""
    told = modality.statistics
    if told is None:
        return
    moments = train_moments(path, name, modality, is_train)
    if moments.rows != told.rows:
        yield _again(name, f"statistics of {told.rows} rows are recorded, train has {moments.rows}")
        return
    found = moments.statistics(normalize=told.normalize)
    for word, own, other in (("mean", told.mean, found.mean), ("deviation", told.deviation, found.deviation)):
        wrong = np.flatnonzero(np.abs(np.array(own) - np.array(other)) > _allowed(found))
        if len(wrong):
            first = int(wrong[0])
            text = f"dimension {first}: {word} {own[first]:.6g} is recorded, that of train is {other[first]:.6g}"
            yield _again(name, text + (f" ({len(wrong)} dimensions differ)" if len(wrong) > 1 else ""))


def _allowed(found: Statistics) -> npt.NDArray[np.float64]:
    return np.asarray(_TOLERANCE * (np.array(found.deviation) + np.abs(np.array(found.mean)) * _TOLERANCE))


def _again(name: str, text: str) -> Defect:
    return Defect(None, name, f"{text}: measure again by `python -m data_prep stats`")
