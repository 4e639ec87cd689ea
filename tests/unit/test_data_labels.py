"""Label columns: what each task allows, and how the first wrong one is named."""

import numpy as np
import pyarrow as pa
import pytest

from mmtrain.data.labels import decode_labels, describe_labels
from mmtrain.data.schema import TaskSchema

BINARY = TaskSchema(kind="binary")
CLASSES = TaskSchema(kind="multiclass", classes=("a", "b", "c"))
TAGS = TaskSchema(kind="multilabel", classes=("x", "y"))
SCORE = TaskSchema(kind="regression")


@pytest.mark.parametrize(
    ("task", "column", "wrong"),
    [
        (BINARY, [0, 1, None, 2, -1], [3, 4]),
        (BINARY, [True, False, None], []),
        (BINARY, [0.0, 0.5], [1]),
        (CLASSES, [0, 2, 3, None], [2]),
        (SCORE, [1.5, float("nan"), float("inf"), None], [1, 2]),
        (TAGS, [[0, 1], None, [1], [0, 7], [0, None], [], [1, 1]], [2, 3, 4, 5]),
    ],
)
def test_wrong_labels(task, column, wrong):
    values, labelled, found = decode_labels(task, pa.array(column))
    assert np.flatnonzero(found).tolist() == wrong
    assert labelled.tolist() == [item is not None for item in column]
    for value, item, bad in zip(values, column, found, strict=True):
        if item is None or not bad:
            np.testing.assert_array_equal(value, 0 if item is None else item)


@pytest.mark.parametrize("task", [BINARY, CLASSES, SCORE])
def test_digits_in_strings_are_no_labels(task):
    with pytest.raises(TypeError, match="holds string, a number was expected"):
        decode_labels(task, pa.array(["1"]))


def test_lists_of_strings_or_no_lists_are_no_labels():
    with pytest.raises(TypeError, match="holds int64, lists of numbers were expected"):
        decode_labels(TAGS, pa.array([1]))
    with pytest.raises(TypeError, match="holds string, a number was expected"):
        decode_labels(TAGS, pa.array([["a", "b"]]))


def test_expectations_in_words():
    told = [describe_labels(task) for task in (BINARY, CLASSES, TAGS, SCORE)]
    assert told[:2] == ["0 or 1 (binary)", "a class 0 .. 2 (multiclass)"]
    assert told[2:] == ["a list of 2 numbers, each 0 or 1 (multilabel)", "a finite number"]
