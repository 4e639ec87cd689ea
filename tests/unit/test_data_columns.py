"""Columns as numpy arrays: as pyarrow itself gives them, with nulls as nothing, and without pandas."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.synth import synthesize
from mmtrain.data.columns import equals, flags, integers, numbers


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_()])
def test_numbers_of_any_kind(kind: pa.DataType) -> None:
    values = [1, None, 0, 1, 1, None, 0, 0, 1, 1]
    column = pa.array([value if value is None else kind.to_pandas_dtype()(value) for value in values], kind)
    expected = [0 if value is None else value for value in values]
    for found in (numbers(column), numbers(pa.chunked_array([column[:3], column[3:]]))):
        assert found.dtype == np.float64
        assert found.tolist() == expected
    assert numbers(column[4:9]).tolist() == expected[4:9]  # a slice begins inside its buffer
    assert integers(column[4:9]).tolist() == expected[4:9]
    assert flags(column.is_valid()).tolist() == [value is not None for value in values]
    assert flags(column.is_valid()[5:8]).tolist() == [False, True, True]


def test_nothing_and_nothing_but_nulls() -> None:
    for empty in (pa.array([], pa.int64()), pa.chunked_array([], pa.int64())):
        assert integers(empty).shape == (0,)
    assert numbers(pa.nulls(3)).tolist() == numbers(pa.array([None] * 3, pa.float32())).tolist() == [0, 0, 0]
    assert np.isnan(numbers(pa.array([float("nan")])))[0]


def test_strings_that_are_one() -> None:
    column = pa.chunked_array([["val", "train", None], ["train", "test"]])
    assert equals(column, "train").tolist() == [False, True, False, True, False]
    assert not equals(column, "dev").any()
    assert equals(column.slice(1, 3), "train").tolist() == [True, False, True]
    assert equals(pa.chunked_array([], pa.string()), "train").tolist() == []


def test_a_stream_is_made_without_pandas(tmp_path: Path) -> None:
    store = synthesize(tmp_path / "store", samples=20, modalities={"audio": 2})
    code = (
        "import sys; from mmtrain.data.store import FeatureStore; from mmtrain.data.dataset import Stream\n"
        "store = FeatureStore(sys.argv[1])\n"
        "stream = Stream('a', store, split='train', tasks=list(store.schema.tasks), modalities=['text', 'audio'])\n"
        "stream.lengths()\n"
        "sys.exit('pandas' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store)], check=False).returncode == 0
