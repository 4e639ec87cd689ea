"""A stream: the labelled samples of one split, addressed by position, with damage named when it is read."""

import numpy as np
import pytest

from data_prep.synth import synthesize
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError


@pytest.fixture
def store(tmp_path):
    tasks = {"funny": TaskSchema(kind="binary"), "mood": TaskSchema(kind="regression")}
    with StoreWriter(tmp_path / "store", name="clips", modalities={"audio": FeatureSpec(dim=1)}, tasks=tasks) as writer:
        add = writer.add
        add(id="a", split="train", group="1", text="fish", features={"audio": np.ones((3, 1))}, labels={"funny": 1})
        add(id="b", split="train", group="2", text="sad fish")
        add(id="c", split="val", group="3", labels={"funny": 0})
        add(id="d", split="train", group="4", text="king", labels={"mood": 0.5})
    return FeatureStore(tmp_path / "store")


def test_only_samples_of_the_split_with_a_label_of_its_tasks(store):
    stream = Stream("one", store, split="train", tasks=["funny"], modalities=["text", "audio"])
    assert stream.indices.tolist() == [0]
    both = Stream("two", store, split="train", tasks=["funny", "mood"], modalities=["text", "audio", "video"])
    assert both.indices.tolist() == [0, 3]
    assert both.modalities == ("audio",)
    values, labelled = both.labels("mood")
    assert (values[1], labelled.tolist()) == (0.5, [False, True])
    first, second = both.sample(0), both.sample(1)
    assert (first.id, first.index, first.text, set(first.features), set(first.labels)) == (
        "a",
        0,
        "fish",
        {"audio"},
        {"funny"},
    )
    assert (second.id, second.index, set(second.features), set(second.labels)) == ("d", 3, set(), {"mood"})


def test_lengths_are_characters_or_rows(store):
    tasks = ["funny", "mood"]
    assert Stream("s", store, split="train", tasks=tasks, modalities=["text", "audio"]).lengths().tolist() == [4, 4]
    silent = Stream("s", store, split="train", tasks=tasks, modalities=["audio"])
    assert silent.lengths().tolist() == [3, 0]
    assert silent.sample(0).text == ""
    assert Stream("s", store, split="train", tasks=tasks, modalities=[]).lengths().tolist() == [0, 0]


def test_no_labelled_sample_is_an_error(store):
    told = (
        r"stream 'one': split 'val' of store 'clips' \(.*\) has no sample with a label for mood \(1 samples in the split\)"
    )
    with pytest.raises(DataError, match=told):
        Stream("one", store, split="val", tasks=["mood"], modalities=["text"])
    with pytest.raises(DataError, match="has no task 'topic'; its tasks: funny, mood"):
        Stream("one", store, split="val", tasks=["topic"], modalities=["text"])


def test_a_row_with_nan_is_named_when_read(store):
    file = store.path / "audio.safetensors"
    content = bytearray(file.read_bytes())
    content[512:516] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    stream = Stream("one", FeatureStore(store.path), split="train", tasks=["funny"], modalities=["audio"])
    with pytest.raises(DataError, match=r"store 'clips', sample 'a': NaN or Inf in audio\. Run `mmtrain data check"):
        stream.sample(0)


def test_every_sample_of_a_synthetic_store_is_in_one_stream(tmp_path):
    store = FeatureStore(synthesize(tmp_path / "store", samples=60, unlabelled=0.0))
    streams = [Stream(split, store, split=split, tasks=["funny"], modalities=["text"]) for split in ("train", "val", "test")]
    assert sorted(np.concatenate([stream.indices for stream in streams])) == list(range(60))
