"""Pickles of arrays are read as numpy wrote them; one that asks for more is refused by that name, and never runs."""

import builtins
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from data_prep.importers.restricted_pickle import read_pickle
from mmtrain.errors import DataError

RAN = []  # what an attack would put something into


def attack(*_arguments):
    RAN.append("ran")


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return (self.function, self.arguments, *(() if self.state is None else (self.state,)))


def reconstruct(shape, dtype, state):
    return Calls(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, state))


def refusal(tmp_path, content):
    file = tmp_path / "data.pkl"
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    with pytest.raises(DataError) as error:
        read_pickle(file)
    assert RAN == []
    assert not (tmp_path / "pwned").exists()
    return str(error.value)


@pytest.mark.parametrize("protocol", range(6))
def test_what_numpy_writes_comes_back_in_every_protocol(tmp_path, protocol):
    arrays = {
        "rows": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">i4"),
        "half": np.array([0.5, -np.inf], np.float16),
        "flags": np.array([True, False]),
        "texts": np.array(["ab", "c\u00e9"]),
        "none": np.zeros((0, 3), np.float32),
        "one": np.array(2.5),
    }
    rest = {"text": "a", "list": [1, (2.5, None)], "set": {1}, "frozen": frozenset({2}), "bytes": b"\xff", "empty": b""}
    objects = np.array(["a", "bc"], object)
    scalars = [np.float64(0.1), np.int64(-7), np.bool_(True), np.str_("x")]
    (tmp_path / "data.pkl").write_bytes(pickle.dumps([arrays, rest, objects, scalars], protocol))
    found, plain, texts, numbers = read_pickle(tmp_path / "data.pkl")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)
    assert (plain, texts, numbers) == (rest, ["a", "bc"], scalars)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, f"{os.name}.system"),
        (builtins.eval, "eval"),
        (builtins.getattr, "getattr"),
        (builtins.__import__, "__import__"),
        (subprocess.Popen, ".Popen"),
        (np.load, "load"),
        (np.fromfile, ".fromfile"),
        (np.memmap, ".memmap"),
        (attack, "test_restricted_pickle.attack"),
    ],
)
def test_a_call_is_refused_by_its_name_and_never_made(tmp_path, function, name, protocol):
    text = refusal(tmp_path, pickle.dumps({"train": {"id": Calls(function, f"touch {tmp_path}/pwned")}}, protocol))
    assert name in text
    assert (
        "is not let in: a pickle may hold dicts, lists, texts, numbers and arrays of numbers. Nothing of it was run" in text
    )


def test_the_same_calls_do_run_without_the_restriction(tmp_path):
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {tmp_path}/pwned")))  # noqa: S301
    assert (tmp_path / "pwned").exists()


def test_old_opcodes_reach_nothing_either(tmp_path):
    assert "posix.system" in refusal(tmp_path, b"(S'touch pwned'\niposix\nsystem\n.")  # INST
    assert "builtins.eval" in refusal(tmp_path, b"(cbuiltins\neval\nS'1'\no.")  # OBJ
    assert "extension 7" in refusal(tmp_path, b"\x82\x07.")  # EXT1
    assert "not a whole pickle" in refusal(tmp_path, b"Pabc\n.")  # a persistent id
    dotted = b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93."  # numpy's own names with a path behind
    assert "numpy.ndarray.__class__" in refusal(tmp_path, dotted)


def test_numpys_own_helpers_are_no_way_around(tmp_path):
    """With numpy's own these build arrays whose bytes are taken for pointers, or that are larger than the file."""
    f4 = np.dtype("f4")
    pointers = Calls(np.dtype, "V8", False, True, state=(3, "|", None, ("x",), {"x": (np.dtype("O"), 0)}, 8, 8, 0))
    assert "dtype 'V8'" in refusal(tmp_path, reconstruct((1,), pointers, b"A" * 8))
    fields = Calls(np.dtype, "f8", False, True, state=(3, "<", None, ("x",), {"x": (np.dtype("O"), 0)}, 8, 8, 0))
    assert "a dtype with fields" in refusal(tmp_path, reconstruct((1,), fields, b"A" * 8))
    assert "of Python objects" in refusal(tmp_path, reconstruct((1,), np.dtype("O"), b"A" * 8))
    assert "of Python objects" in refusal(tmp_path, reconstruct((2, 1), np.dtype("O"), ["a", "b"]))
    assert "in 4 bytes" in refusal(tmp_path, reconstruct((1 << 40,), f4, b"abcd"))
    assert "without bytes" in refusal(tmp_path, reconstruct((-1, -1), f4, b"abcd"))
    assert "without bytes" in refusal(tmp_path, reconstruct((1,), f4, ["abcd"]))
    assert "unknown state" in refusal(tmp_path, reconstruct((1,), "f4", b"abcd"))
    assert "unknown dtype" in refusal(tmp_path, Calls(np._core.multiarray.scalar, np.dtype("O"), b"abcd"))
    assert "a call of a type" in refusal(tmp_path, Calls(np.ndarray, (3,)))
    subclass = Calls(np._core.multiarray._reconstruct, np.memmap, (0,), b"b")
    assert "numpy.memmap" in refusal(tmp_path, subclass)
    assert "an encoding" in refusal(tmp_path, b"c_codecs\nencode\n(Vx\nVrot13\ntR.")


def test_nothing_can_be_written_into_what_a_name_leads_to(tmp_path):
    """BUILD sets attributes: of a function with a __dict__ the file could change what the next file meets."""
    assert "not a whole pickle" in refusal(tmp_path, b"cnumpy\ndtype\n}Vx\nVy\nsb.")
    text = refusal(tmp_path, b"cnumpy\ndtype\n(N}V_call\nVy\nstb.")  # the state of slots
    assert "to set '_call' of a function" in text
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(np.ones(2)))
    assert read_pickle(tmp_path / "good.pkl").tolist() == [1, 1]


def test_damage_is_named(tmp_path):
    whole = pickle.dumps({"a": np.arange(100.0), "b": ["x"] * 5})
    for length in range(0, len(whole), 7):
        assert "is not a whole pickle of arrays" in refusal(tmp_path, whole[:length])
    loop = []
    loop.append(loop)
    assert "nesting beyond 20 levels" in refusal(tmp_path, loop)
    with pytest.raises(DataError, match="is missing"):
        read_pickle(tmp_path / "other.pkl")


def test_one_index_does_not_take_the_memory(tmp_path):
    """LONG_BINPUT and a length of 2 ** 62: where the reader fills a table up to the index, this takes 32 GB."""
    content = b"\x80\x04Nr\xff\xff\xff\x7f."
    (tmp_path / "data.pkl").write_bytes(content)
    assert read_pickle(tmp_path / "data.pkl") is None
    assert "not a whole pickle" in refusal(tmp_path, b"\x80\x05\x96" + (1 << 62).to_bytes(8, "little") + b".")
    assert sys.getsizeof(content) < 100
