"""Synthetic stores: the same bytes for the same arguments, and a signal in every modality as strong as asked for."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from data_prep.synth import synthesize
from mmtrain.data.check import check_store
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError
from mmtrain.evaluation.probe import probe

KINDS = {"funny": "binary", "topic": "multiclass", "tags": "multilabel", "mood": "regression"}


def _accuracy(store: FeatureStore, modality: str, task: str = "funny") -> float:
    """Test accuracy of a logistic regression on the mean row, or on the words, of the samples that have them."""
    values, labelled = store.labels(task)
    if modality == "text":
        inputs = CountVectorizer().fit_transform([store.text(index) for index in range(len(store))]).toarray()
        there = labelled & (store.text_lengths > 0)
    else:
        there = labelled & (store.lengths(modality) > 0)
        width = store.schema.modalities[modality].dim
        rows = [store.rows(modality, index) for index in range(len(store))]
        inputs = np.stack([item.mean(axis=0) if len(item) else np.zeros(width) for item in rows])
    train, test = ([index for index in store.split(split) if there[index]] for split in ("train", "test"))
    return LogisticRegression(max_iter=1000).fit(inputs[train], values[train]).score(inputs[test], values[test])


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    stores = [
        synthesize(tmp_path / name, samples=40, tasks=KINDS, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    files = sorted(file.name for file in stores[0].iterdir())
    assert files == ["audio.safetensors", "dataset.json", "samples.parquet", "video.safetensors"]
    for file in files:
        assert (stores[0] / file).read_bytes() == (stores[1] / file).read_bytes()
        assert (stores[0] / file).read_bytes() != (stores[2] / file).read_bytes()


def test_every_modality_tells_and_without_signal_none_does(tmp_path):
    strong = FeatureStore(synthesize(tmp_path / "strong", samples=1200))
    blind = FeatureStore(synthesize(tmp_path / "blind", samples=1200, signal=0.0))
    for modality in ("text", "audio", "video"):
        assert _accuracy(strong, modality) > 0.75
        assert _accuracy(blind, modality) < 0.62


def test_pictures_tell_by_their_tint(tmp_path):
    pixels = {"image": (3, 9, 10)}
    store = FeatureStore(synthesize(tmp_path / "strong", samples=600, modalities=pixels, signal=2.0))
    assert check_store(tmp_path / "strong") == []
    assert store.rows("image", int(np.argmax(store.lengths("image")))).shape[1:] == (3, 9, 10)
    blind = FeatureStore(synthesize(tmp_path / "blind", samples=600, modalities=pixels, signal=0.0))
    accuracies = [probe(path.path, "funny", "image").accuracy for path in (store, blind)]
    assert accuracies[0] > 0.75
    assert accuracies[1] < 0.62


def test_rates_kinds_and_groups(tmp_path):
    path = synthesize(
        tmp_path / "store", samples=1000, tasks=KINDS, imbalance={"funny": 0.2}, missing=0.3, unlabelled=0.2, dtype="float16"
    )
    assert check_store(path) == []
    store = FeatureStore(path)
    for task, schema in store.schema.tasks.items():
        assert schema.kind == KINDS[task]
        assert store.labels(task)[1].mean() == pytest.approx(0.8, abs=0.04)
    values, labelled = store.labels("funny")
    assert values[labelled].mean() == pytest.approx(0.2, abs=0.03)
    assert (store.lengths("audio") == 0).mean() == pytest.approx(0.3, abs=0.05)
    assert (store.text_lengths == 0).mean() == pytest.approx(0.3, abs=0.05)
    assert [len(store.split(split)) / 1000 for split in ("train", "val", "test")] == pytest.approx(
        [0.7, 0.15, 0.15], abs=0.02
    )
    assert store.rows("video", int(np.argmax(store.lengths("video")))).dtype == np.float16


def test_something_always_remains(tmp_path):
    assert check_store(synthesize(tmp_path / "store", samples=50, missing=1.0)) == []


def test_every_word_is_one_token_of_the_tiny_vocabulary(tmp_path, tiny_bert):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    store = FeatureStore(synthesize(tmp_path / "store", samples=200, tasks=KINDS))
    for index in range(200):
        words = store.text(index).split()
        assert tokenizer.tokenize(store.text(index)) == words


def test_small_stores_have_all_their_splits(tmp_path):
    store = FeatureStore(synthesize(tmp_path / "three", samples=3, missing=0.0))
    assert [len(store.split(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    only = FeatureStore(synthesize(tmp_path / "train", samples=16, ratios=(1.0, 0.0, 0.0)))
    assert len(only.split("train")) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "0 samples in 0 groups"),
        ({"groups": 700}, "600 samples in 700 groups"),
        ({"missing": 1.5}, "the rate of 'missing' is 1.5; write a number from 0 to 1"),
        ({"imbalance": {"funny": -1}}, "the rate of 'funny' is -1"),
        ({"ratios": (0.5, 0.2, 0.2)}, "do not sum to 1"),
        ({"groups": 2}, "2 groups cannot fill the splits"),
        ({"tasks": {"funny": "binry"}}, "task kind 'binry' is unknown; write binary, multiclass, multilabel or regression"),
    ],
)
def test_bad_arguments_are_named(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        synthesize(tmp_path / "store", **options)
