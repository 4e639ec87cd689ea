"""A group on two sides of a split: refused where a store is made, said where a foreign store is trained on."""

import pytest

from data_prep.manifest import read_manifest
from mmtrain.compatibility import group_warnings
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError


def test_a_manifest_that_splits_a_group_is_refused_with_both_lines(tmp_path):
    file = tmp_path / "clips.csv"
    file.write_text("id,split,group,text\na,train,film,x\nb,train,other,x\nc,val,film,x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 4: group 'film' is in val, in line 2 it is in train; .* Change the split"):
        read_manifest(file)
    file.write_text("id,split,group,text\na,train,film,x\nb,val,other,x\n", encoding="utf-8")
    assert [entry.split for entry in read_manifest(file).entries] == ["train", "val"]


@pytest.mark.parametrize(("second", "expected"), [("film", 1), ("other", 0)])
def test_training_says_that_a_store_splits_a_group(tmp_path, second, expected):
    with StoreWriter(tmp_path / "s", name="s") as writer:
        writer.add(id="a", split="train", group="film", text="x")
        writer.add(id="b", split="val", group=second, text="x")
        writer.add(id="c", split="val", group=second, text="x")
    warnings = group_warnings({"clips": FeatureStore(tmp_path / "s")})
    assert len(warnings) == expected
    for warning in warnings:
        assert warning.startswith("warning: dataset 'clips': 1 groups stand in more than one split (such as 'film')")
