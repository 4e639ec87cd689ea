"""`cast`: numbers in another type, what that costs in numbers counted by hand, and what does not fit."""

import numpy as np
import pytest

from data_prep.cast import cast_store
from data_prep.stats import measure_store
from mmtrain.data.check import check_store
from mmtrain.data.schema import FeatureSpec
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError


def _write(path, rows, **specs):
    specs = specs or {"audio": FeatureSpec(dim=2, rows_per_second=5, extractor="x"), "image": FeatureSpec.pixels(1, 1)}
    with StoreWriter(path, name="clips", modalities=specs) as writer:
        for index, audio in enumerate(rows):
            features = {"audio": np.array(audio)} if audio else {}
            if "image" in specs:
                features["image"] = np.full((1, 3, 1, 1), index, np.uint8)
            writer.add(id=f"s{index}", split="train", group=f"g{index}", text="hi", features=features)
    return path


def test_errors_are_those_of_the_numbers(tmp_path):
    # float16 has 11 bits: 2049 lies between 2048 and 2050 and goes to the even one; 1e-9 is below its smallest number
    path = _write(tmp_path / "source", [[[2049, 1]], [], [[1e-9, 0], [0.5, -4]]])
    errors, notes = cast_store(path, out=tmp_path / "new", dtype="float16")
    found = errors["audio"]
    assert list(errors) == ["audio"]
    assert (found.values, found.largest, found.vanished) == (6, 1.0, 1)
    assert found.largest_relative == pytest.approx(1 / 2049)
    assert found.root_mean_square == pytest.approx((1 / 6) ** 0.5)
    assert notes == []
    store = FeatureStore(tmp_path / "new")
    audio = store.schema.modalities["audio"]
    assert (audio.dtype, audio.rows_per_second, audio.extractor) == ("float16", 5, "x")
    assert store.rows("audio", 0).tolist() == [[2048, 1]]
    assert store.rows("audio", 2).tolist() == [[0, 0], [0.5, -4]]
    assert store.rows("image", 2).tolist() == [[[[2]], [[2]], [[2]]]]
    assert check_store(tmp_path / "new") == []
    kept = store.schema.provenance["errors"]["audio"]
    assert kept.keys() == {"values", "largest", "largest_relative", "vanished", "root_mean_square"}
    assert kept["largest"] == 1.0


def test_the_way_back_is_exact(tmp_path):
    path = _write(tmp_path / "source", [[[2048, 1]], [[0.1, 3]]], audio=FeatureSpec(dim=2, dtype="float16"))
    errors, _ = cast_store(path, out=tmp_path / "new", dtype="float32")
    assert (errors["audio"].largest, errors["audio"].largest_relative, errors["audio"].vanished) == (0, 0, 0)
    assert FeatureStore(tmp_path / "new").rows("audio", 1)[0, 0] == np.float32(np.float16(0.1))


def test_no_rows_cost_nothing(tmp_path):
    errors, _ = cast_store(_write(tmp_path / "source", [[], []]), out=tmp_path / "new", dtype="float16")
    assert (errors["audio"].values, errors["audio"].root_mean_square) == (0, 0.0)


def test_what_float16_cannot_hold_is_named(tmp_path):
    fits = [[65519, -65519]]  # rounds to 65504, the largest
    cast_store(_write(tmp_path / "fits", [fits]), out=tmp_path / "new", dtype="float16")
    path = _write(tmp_path / "source", [fits, [[1, 2], [65520, -7e4]], [], [[1e6, 1]], [[1e5, 1]], [[2e5, 1]]])
    words = (
        r"beyond the range of float16 \(up to 65504\) in .*source: sample 's1', audio: -70000; sample 's3', audio: 1e\+06; "
        r"sample 's4', audio: 100000 and 1 more\. Keep the store as it is, scale such features before, or leave"
    )
    with pytest.raises(DataError, match=words):
        cast_store(path, out=tmp_path / "other", dtype="float16")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fits", "new", "source"]


def test_nothing_to_cast_is_said_and_statistics_do_not_come_over(tmp_path):
    path = _write(tmp_path / "source", [[[1, 2]]])
    with pytest.raises(DataError, match="has no features that are not float32 already; nothing to do"):
        cast_store(path, out=tmp_path / "new", dtype="float32")
    measure_store(path, out=tmp_path / "normalized", normalize=True)
    _, (note,) = cast_store(tmp_path / "normalized", out=tmp_path / "new", dtype="float16")
    assert "are not kept" in note
    assert FeatureStore(tmp_path / "new").rows("audio", 0).tolist() == [[1, 2]]
