"""One .npy file as rows: numbers alone are read, never objects, and whatever does not fit is named."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import DataError

Rows = npt.NDArray[np.number]
_DTYPES = {"float16": "float16", "float32": "float32", "float64": "float32"}  # of a file -> of the store


def read_array(file: Path) -> npt.NDArray[Any]:
    """Map the numbers of a .npy file. Errors: DataError where it is missing, damaged, or holds anything else."""
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except FileNotFoundError:
        raise DataError(f"{file} is missing") from None
    except Exception as error:  # damaged headers raise errors of every kind
        if "Python objects" in str(error):
            raise DataError(
                f"{file} holds Python objects, which could run code and are not read; save numbers by "
                "np.save(file, array.astype('float32'))"
            ) from None
        raise DataError(f"{file} is not a whole .npy file ({error})") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{file} holds {array.dtype}, numbers were expected")
    return array


def read_rows(file: Path) -> Rows:
    """Rows [T, D] of a .npy file; a vector [D] is one row; uint8 pictures [T, 3, H, W] stay as they are.

    Errors: DataError where the file cannot be read, has another shape, or has no rows.
    """
    array = read_array(file)
    is_pixels = array.ndim == 4 and array.dtype == np.uint8 and array.shape[1] == 3
    rows: Rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 and not is_pixels:
        raise DataError(f"{file} has shape {array.shape}; rows [T, D] were expected, or uint8 pictures [T, 3, H, W]")
    if not rows.size:
        raise DataError(f"{file} has shape {array.shape}: not one row; remove the file where the modality is missing")
    if rows.dtype == np.float64 or rows.dtype.kind in "iub":
        return rows if is_pixels else rows.astype(np.float32)
    return rows


def describe_rows(rows: Rows, **fields: Any) -> FeatureSpec:
    """What a modality is whose files are like this one; `fields`: rows_per_second, extractor, extractor_version."""
    if rows.ndim == 4:
        return FeatureSpec.pixels(*rows.shape[2:], **fields)
    return FeatureSpec.model_validate({"dim": rows.shape[1], "dtype": _DTYPES[rows.dtype.name], **fields})


def check_rows(file: Path, rows: Rows, spec: FeatureSpec, *, expected: str) -> None:
    """Errors: DataError where the rows are not what the modality is; `expected` says where that comes from."""
    if rows.shape[1:] != spec.row_shape:
        raise DataError(f"{file} has rows of {_shape(rows.shape[1:])}, {_shape(spec.row_shape)} were expected ({expected})")
    if spec.dtype == "float16" and rows.dtype != np.float16:
        raise DataError(f"{file} is {rows.dtype}, float16 was expected ({expected}); make all files float16 or none")


def file_name(sample: str) -> str:
    """`<id>.npy`; an id that cannot be a file's name is written as in a URL (a/b -> a%2Fb)."""
    is_plain = not set(sample) & set("/\\%\0") and not sample.startswith(".")
    return f"{sample if is_plain else quote(sample, safe=' ', errors='surrogatepass').replace('.', '%2E')}.npy"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + (" numbers" if len(shape) == 1 else "")
