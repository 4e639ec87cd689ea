"""Pickles of arrays and plain data, read so that no file can run code: no function of Python or numpy is called.

The names that numpy writes into a pickle lead to the stand-ins here. numpy's own take a dtype and its flags from the file,
by which bytes could be passed off as pointers to objects. Every other name ends the reading before anything is called.
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.errors import DataError

_CODE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|U[1-9][0-9]{0,5}|S[1-9][0-9]{0,5})")
_OBJECTS = re.compile(r"\|?O8?")


class Refused(Exception):
    """The file asks for what is not let in; the message says for what."""


class _Dtype:
    """A dtype's code, with the byte order that its state adds."""

    __slots__ = ("_code",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not (_CODE.fullmatch(code) or _OBJECTS.fullmatch(code)):
            raise Refused(f"an array of dtype {str(code)[:40]!r}")
        self._code = code

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise Refused("a dtype with fields")
        self._code = state[1] + self._code.lstrip("<>|=")

    @property
    def has_objects(self) -> bool:
        return bool(_OBJECTS.fullmatch(self._code.lstrip("<>=")))

    def view(self, content: Any, shape: Any) -> npt.NDArray[Any]:
        """The bytes as numbers; every number of the shape has its bytes in the file."""
        dtype = np.dtype(self._code)
        if not isinstance(content, bytes | bytearray) or not _is_shape(shape):
            raise Refused("an array without bytes")
        if math.prod(shape) * dtype.itemsize != len(content):
            raise Refused(f"an array {shape} of {dtype} in {len(content)} bytes")
        return np.frombuffer(content, dtype) if content else np.empty(0, dtype)


class _Array:
    """An array whose state is still to come."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: npt.NDArray[Any] | list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise Refused("an array with an unknown state")
        _, shape, dtype, is_fortran, content = state
        if not dtype.has_objects:
            self.value = dtype.view(content, shape).reshape(shape, order="F" if is_fortran else "C")
        elif isinstance(content, list) and shape == (len(content),):
            self.value = content  # a column of texts
        else:
            raise Refused(f"an array {shape} of Python objects")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)


def _new_dtype(code: Any, *_flags: Any) -> _Dtype:
    return _Dtype(code)


def _new_array(*_type_shape_and_code: Any) -> _Array:
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.has_objects:
        raise Refused("a number of an unknown dtype")
    return dtype.view(content, (1,))[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":  # how protocols 0 to 2 write bytes
        raise Refused("an encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""  # how protocols 0 to 2 write them where there are none


class _Name:
    """What a name of a pickle leads to; without a __dict__, so that no file can write into it."""

    __slots__ = ("_call",)

    _call: Callable[..., Any] | None

    def __init__(self, call: Callable[..., Any] | None = None) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused(f"to set '{name}' of a function")

    def __call__(self, *arguments: Any) -> Any:
        if self._call is None:
            raise Refused("a call of a type")
        return self._call(*arguments)


_NAMES = {
    ("numpy", "dtype"): _Name(_new_dtype),
    ("numpy", "ndarray"): _Name(),
    ("_codecs", "encode"): _Name(_encode),
}
for _module in ("builtins", "__builtin__"):
    _NAMES[_module, "set"], _NAMES[_module, "frozenset"] = _Name(set), _Name(frozenset)
    _NAMES[_module, "bytes"] = _Name(_no_bytes)
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Name(_new_array)
    _NAMES[f"{_core}.multiarray", "scalar"] = _Name(_scalar)
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _Name(_from_buffer)


class _Unpickler(pickle._Unpickler):  # the one in Python: that in C can be made to take memory without bound by one index
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise Refused(f"{module}.{name}")
        return _NAMES[module, name]

    def get_extension(self, code: int) -> Any:
        raise Refused(f"extension {code}")


def read_pickle(file: Path) -> Any:
    """Dicts, lists, texts, numbers and arrays of a pickle. Errors: DataError naming what it asked for beyond them."""
    try:
        with file.open("rb") as handle:
            return _plain(_Unpickler(handle).load())
    except FileNotFoundError:
        raise DataError(f"{file} is missing") from None
    except Refused as error:
        raise DataError(
            f"{file} asks for {error}, which is not let in: a pickle may hold dicts, lists, texts, numbers and arrays of "
            "numbers. Nothing of it was run"
        ) from None
    except Exception as error:  # damaged opcodes raise errors of every kind
        raise DataError(f"{file} is not a whole pickle of arrays ({type(error).__name__}: {str(error)[:80]})") from None


def _plain(value: Any, depth: int = 0) -> Any:
    """The value with arrays for their stand-ins."""
    if depth > 20:
        raise Refused("nesting beyond 20 levels")
    if isinstance(value, _Array):
        return _plain(value.value, depth + 1) if isinstance(value.value, list) else value.value
    if isinstance(value, dict):
        return {key: _plain(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(entry, depth + 1) for entry in value)
    return value
