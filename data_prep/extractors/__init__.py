"""What turns a media file into rows: one file per extractor, and these tables of them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from data_prep.extractors.clip_backbone import VIDEO_BACKBONES, ClipBackbone
from data_prep.extractors.frame_backbone import IMAGE_BACKBONES, FrameBackbone
from data_prep.extractors.hf_audio import HuggingFaceAudio
from data_prep.extractors.hf_vision import HuggingFaceVision
from data_prep.extractors.image_rows import ImageRows
from data_prep.extractors.logmel import LogMel
from data_prep.extractors.mfcc import Mfcc
from data_prep.extractors.opensmile import OpenSmile
from data_prep.extractors.pixels import Pixels
from data_prep.extractors.vggish_rows import VggishRows
from data_prep.media.span import Span
from mmtrain.data.schema import FeatureSpec


class Extractor(Protocol):
    """Rows [T, D] or pixels [T, 3, H, W] of a media file, described by `spec`.

    `weights` gives the sha256 of each weight file it uses. An unreadable or empty file is a DataError that gives the reason.
    `frames_per_second`: at which the pictures of a video are read. Extractors are called by several threads at a time.
    """

    spec: FeatureSpec
    weights: dict[str, str]

    @property
    def frames_per_second(self) -> float | None: ...

    def __call__(self, file: Path, span: Span, /) -> npt.NDArray[np.number]: ...


Table = Mapping[str, Callable[..., Extractor]]  # by name; what an extractor is called with are its own options

AUDIO: Table = {"logmel": LogMel, "mfcc": Mfcc, "vggish-rows": VggishRows, "opensmile": OpenSmile}
VIDEO: Table = {
    "image-rows": ImageRows,
    "pixels": Pixels,
    **{model: partial(FrameBackbone, model=model) for model in IMAGE_BACKBONES},
    **{model: partial(ClipBackbone, model=model) for model in VIDEO_BACKBONES},
}
IMAGE: Table = {
    "image-rows": ImageRows,
    "pixels": Pixels,
    **{model: partial(FrameBackbone, model=model, frames_per_second=None) for model in IMAGE_BACKBONES},
}
# by PREFIX and the name or folder of the model, which is the option `path`
HUGGING_FACE: Table = {
    "audio": HuggingFaceAudio,
    "image": partial(HuggingFaceVision, frames_per_second=None),
    "video": HuggingFaceVision,
}
PREFIX = "hf:"
TABLES: Mapping[str, Table] = {"audio": AUDIO, "image": IMAGE, "video": VIDEO}
