"""What turns a media file into rows: one file per extractor, and these tables of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from data_prep.extractors.image_rows import ImageRows
from data_prep.extractors.logmel import LogMel
from data_prep.extractors.pixels import Pixels
from mmtrain.data.schema import FeatureSpec


class Extractor(Protocol):
    """Rows [T, D] or pixels [T, 3, H, W] of a media file, described by `spec`.

    `weights` gives the sha256 of each weight file it uses. An unreadable or empty file is a DataError that gives the reason.
    """

    spec: FeatureSpec
    weights: dict[str, str]

    def __call__(self, file: Path) -> npt.NDArray[np.number]: ...


Table = Mapping[str, Callable[..., Extractor]]  # by name; what an extractor is called with are its own options

AUDIO: Table = {"logmel": LogMel}
VIDEO: Table = {"image-rows": ImageRows, "pixels": Pixels}
IMAGE: Table = {"image-rows": ImageRows, "pixels": Pixels}
