"""Pixels in a store: bytes come back as they were, every wrong picture is named, stores of features are as before."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from mmtrain.data.check import check_store
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.info import print_info
from mmtrain.data.schema import FeatureSpec, ModalitySchema, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError
from mmtrain.evaluation.probe import pooled_rows

SHAPE = (3, 5, 4)  # 60 bytes a picture, no multiple of 8
COUNTS = (2, 0, 1, 3)  # pictures of the samples
TASKS = {"funny": TaskSchema(kind="binary")}


def pictures(sample: int) -> np.ndarray:
    return np.random.default_rng(sample).integers(0, 256, size=(COUNTS[sample], *SHAPE), dtype=np.uint8)


def write(path: Path, shard_bytes: int = 1 << 20) -> FeatureStore:
    modalities = {"image": FeatureSpec.pixels(5, 4, rows_per_second=2), "audio": FeatureSpec(dim=2)}
    with StoreWriter(path, name="clips", modalities=modalities, tasks=TASKS, shard_bytes=shard_bytes) as writer:
        for sample, count in enumerate(COUNTS):
            features = {"image": pictures(sample)} if count else {"audio": np.ones((1, 2))}
            writer.add(id=f"s{sample}", split="train", group=f"g{sample}", features=features, labels={"funny": sample % 2})
    return FeatureStore(path)


@pytest.mark.parametrize("shard_bytes", [1, 130, 1 << 20])
def test_pixels_come_back_as_they_were(tmp_path, shard_bytes):
    store = write(tmp_path / "store", shard_bytes)
    for sample, count in enumerate(COUNTS):
        rows = store.rows("image", sample)
        assert (rows.dtype, rows.shape) == (np.uint8, (count, *SHAPE))
        assert np.array_equal(rows, pictures(sample))
    assert store.lengths("image").tolist() == list(COUNTS)
    assert store.schema.modalities["image"].rows_per_second == 2
    assert check_store(tmp_path / "store") == []


def test_safetensors_reads_the_file_as_pictures(tmp_path):
    from safetensors.numpy import load_file

    write(tmp_path / "store")
    arrays = load_file(tmp_path / "store" / "image.safetensors")
    assert (arrays["values"].shape, arrays["values"].dtype) == ((6, *SHAPE), np.uint8)
    assert arrays["offsets"].tolist() == [0, 2, 2, 3, 6]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((1, 5, 4, 3), np.uint8), r"image rows have shape \(1, 5, 4, 3\), the store says \[T, 3, 5, 4\]"),
        (np.zeros(SHAPE, np.uint8), r"image rows have shape \(3, 5, 4\), the store says \[T, 3, 5, 4\]"),
        (np.zeros((1, 60), np.uint8), r"image rows have shape \(1, 60\)"),
        (np.zeros((1, *SHAPE)), r"image rows are float64, the store says uint8 pixels of 0 to 255; convert them by rows\."),
        (np.zeros((1, *SHAPE), np.int64), "image rows are int64, the store says uint8 pixels"),
    ],
)
def test_what_is_no_picture_of_the_store_is_named(tmp_path, rows, message):
    with StoreWriter(tmp_path / "store", name="clips", modalities={"image": FeatureSpec.pixels(5, 4)}) as writer:
        with pytest.raises(DataError, match=f"sample 'a': {message}"):
            writer.add(id="a", split="train", group="g", features={"image": rows})
        writer.add(id="a", split="train", group="g", features={"image": np.zeros((1, *SHAPE), np.uint8)})


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": 60, "dtype": "uint8"},
        {"dim": 60, "shape": SHAPE},
        {"dim": 61, "dtype": "uint8", "shape": SHAPE},
        {"dim": 20, "dtype": "uint8", "shape": (1, 5, 4)},
        {"dim": 60, "dtype": "uint8", "shape": (3, -5, -4)},
    ],
)
def test_a_description_that_does_not_fit_itself(fields):
    with pytest.raises(ValidationError, match=r"pixels have both dtype uint8 and a shape|and 3 \* H \* W were expected"):
        FeatureSpec(**fields)


def test_stores_of_features_are_described_as_before():
    """Their dataset.json and their fingerprint know no shape; a run on one goes on."""
    assert "shape" not in FeatureSpec(dim=3).model_dump()
    assert "shape" not in ModalitySchema(dim=3, shards=()).model_dump_json()
    assert ModalitySchema.model_validate_json('{"dim": 3, "shards": []}').row_shape == (3,)
    assert FeatureSpec.pixels(5, 4).model_dump()["shape"] == SHAPE


def test_damage_is_found_and_bytes_are_not_taken_for_numbers(tmp_path):
    store = write(tmp_path / "store").path
    file = store / "dataset.json"
    content = json.loads(file.read_text())
    content["modalities"]["image"] |= {"shape": [3, 4, 5]}
    file.write_text(json.dumps(content))
    (line,) = check_store(store)
    assert "an array is U8 (6, 3, 5, 4), dataset.json says U8 (6, 3, 4, 5)" in line
    content["modalities"]["image"] |= {"shape": [3, 5, 5]}
    file.write_text(json.dumps(content))
    assert "(3, H, W) and 3 * H * W were expected" in check_store(store)[0]
    content["modalities"]["image"] |= {"shape": [3, 5, 4], "dtype": "float32"}
    file.write_text(json.dumps(content))
    assert "pixels have both dtype uint8 and a shape" in check_store(store)[0]


def test_a_store_of_pixels_is_shown(tmp_path):
    out = io.StringIO()
    write(tmp_path / "store")
    print_info(tmp_path / "store", Console(file=out, width=120))
    assert "pictures of 3 x 5 x 4" in out.getvalue()


def test_a_stream_and_a_batch_of_pictures_stay_bytes(tmp_path):
    stream = Stream("clips", write(tmp_path / "store"), split="train", tasks=["funny"], modalities=["image"])
    assert stream.lengths().tolist() == list(COUNTS)
    samples = [stream.sample(position) for position in range(4)]
    batch = Collator(dims={}, frames={"image": SHAPE}, tasks=TASKS, tokenizer=None)(samples, [0] * 4)
    values, mask = batch.inputs["image"]
    assert (values.dtype, values.shape, mask.sum(dim=1).tolist()) == (torch.uint8, (4, 3, *SHAPE), list(COUNTS))
    for sample, count in enumerate(COUNTS):
        assert np.array_equal(values[sample, :count].numpy(), pictures(sample))
    assert not values[~mask].any()
    assert batch.to(torch.device("cpu")).inputs["image"].values.dtype == torch.uint8
    nothing = Collator(dims={}, frames={"image": SHAPE}, tasks=TASKS, tokenizer=None)([samples[1]], [0]).inputs["image"]
    assert (nothing.values.shape, nothing.present.tolist()) == ((1, 1, *SHAPE), [False])


def test_a_probe_pools_pictures_to_a_grid(tmp_path):
    """A picture of 16 x 16 in blocks of 2 x 2 is its blocks; the second of two differs by 2 everywhere."""
    blocks = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    first = np.kron(blocks, np.ones((2, 2), np.uint8))
    with StoreWriter(tmp_path / "s", name="s", modalities={"image": FeatureSpec.pixels(16, 16)}) as writer:
        writer.add(id="a", split="train", group="g", features={"image": np.stack([first, first + 2])})
    (pooled,) = pooled_rows(FeatureStore(tmp_path / "s"), "image", np.array([0]))
    assert pooled.tolist() == [*(blocks.ravel() + 1.0), *[1.0] * 192]
