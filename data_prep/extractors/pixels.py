"""A picture, a folder of frames, or a video to pixels of one size."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.media.container import VIDEO_SUFFIXES
from data_prep.media.frames import frames_at
from data_prep.media.span import WHOLE, Span
from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import DataError
from mmtrain.extras import require

SIDE = 224  # pixels, where nothing else is asked for


class Pixels:
    """The center square of each picture, `size` pixels wide and high: red, green and blue of 0 to 255.

    A file is one row (of an animated one, the first picture); a folder is one row for each picture in it, by name in natural
    order: 2.png before 10.png. EXIF orientation is applied, what is transparent becomes white, 16 bits become 8. The
    square is the middle of the picture resized to `size` on its shorter side, by Pillow's bilinear filter, which is wide
    enough to average what it shrinks. `frames_per_second`: that of the frames in a folder, where it is known, and that at
    which a video (told by its suffix) is read.
    """

    def __init__(self, *, size: int = SIDE, frames_per_second: float | None = None) -> None:
        try:
            import PIL.Image
        except ImportError:
            raise DataError("the extractor pixels needs the package pillow. Write: pip install 'mmtrain[prep]'") from None
        require("the extractor pixels", ("av",), extra="prep")
        PIL.Image.init()  # every format, so that a folder's pictures are told by their names
        self.size, self._suffixes, self.frames_per_second = size, frozenset(PIL.Image.EXTENSION), frames_per_second
        self.spec = FeatureSpec.pixels(
            size, size, rows_per_second=frames_per_second, extractor="pixels", extractor_version="1"
        )
        self.weights: dict[str, str] = {}

    def __call__(self, file: Path, span: Span = WHOLE) -> npt.NDArray[np.uint8]:
        """Pixels [T, 3, size, size] of a picture, folder or video. Errors: DataError naming what of it cannot be read."""
        if file.suffix.lower() in VIDEO_SUFFIXES and not file.is_dir():
            return self._video(file, span)
        if span != WHOLE:
            raise DataError("pictures have no time; leave start and end empty, or name them in the column 'image'")
        if not file.is_dir():
            return read_picture(file, self.size)[None]
        frames = self._frames(file)
        pixels = np.empty((len(frames), 3, self.size, self.size), np.uint8)
        for number, frame in enumerate(frames):
            try:
                pixels[number] = read_picture(frame, self.size)
            except DataError as error:
                raise DataError(f"{frame.name}: {error}") from None
        return pixels

    def _video(self, file: Path, span: Span) -> npt.NDArray[np.uint8]:
        from PIL import Image

        if self.frames_per_second is None:
            raise DataError("a video is read at a rate; say which by --frames-per-second")
        return np.stack(
            [_square(Image.fromarray(frame), self.size) for frame in frames_at(file, self.frames_per_second, span)]
        )

    def _frames(self, folder: Path) -> list[Path]:
        try:
            names = [file for file in folder.iterdir() if file.suffix.lower() in self._suffixes]
            found = [file for file in names if not file.name.startswith(".")]
            strangers = [file.name for file in found if not file.resolve().is_relative_to(folder.resolve())]
        except (OSError, RuntimeError) as error:
            raise DataError(f"not a readable folder ({error})") from None
        if strangers:
            raise DataError(f"{strangers[0]} leads out of the folder; put the picture itself there")
        if not found:
            raise DataError("the folder holds no picture")
        return sorted(found, key=lambda file: natural_order(file.name))


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key that sorts numbers inside names by their value."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def read_picture(file: Path, size: int) -> npt.NDArray[np.uint8]:
    """Pixels [3, size, size]. Errors: as `open_picture`."""
    return _square(open_picture(file), size)


def open_picture(file: Path) -> Any:
    """The upright picture in RGB. Errors: DataError where the file is none, is damaged or has pixels of another kind."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, on what the result does not depend on
        try:
            with Image.open(file) as opened:
                opened.load()
                picture = _to_rgb(ImageOps.exif_transpose(opened))
        except DataError:
            raise
        except Exception as error:  # a damaged or hostile file makes Pillow raise anything
            raise DataError(f"not a readable picture ({error or type(error).__name__})") from None
    return picture


def _square(picture: Any, size: int) -> npt.NDArray[np.uint8]:
    """The center square [3, size, size]."""
    from PIL import Image

    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = picture.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(square, np.uint8).transpose(2, 0, 1))


def _to_rgb(picture: Any) -> Any:
    from PIL import Image

    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        if picture.mode == "F" or values.min() < 0 or values.max() >= 1 << 16:
            raise DataError(
                f"its pixels are {values.dtype} from {values.min()} to {values.max()}; save it with 8 or 16 bits"
            )
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")  # 65535 -> 255
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
