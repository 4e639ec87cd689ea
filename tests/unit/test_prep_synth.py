"""Synthetic stores: the same bytes for the same arguments, and a signal in every modality as strong as asked for."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from data_prep.cli import main
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


def _is_near(observed: float, rate: float, count: int) -> bool:
    """Within four standard deviations of the binomial distribution."""
    return abs(observed - rate) <= 4 * np.sqrt(rate * (1 - rate) / count)


def test_each_task_and_modality_has_its_own_rates(tmp_path):
    rates = {"unlabelled": {"funny": 0.6, "mood": 0.0}, "missing": {"text": 0.0, "audio": 0.5}}
    store = FeatureStore(synthesize(tmp_path / "store", samples=2000, tasks=KINDS, **rates))
    unlabelled = {task: 1 - store.labels(task)[1].mean() for task in KINDS}
    assert unlabelled["mood"] == 0
    assert all(_is_near(unlabelled[task], rate, 2000) for task, rate in (("funny", 0.6), ("topic", 0.1), ("tags", 0.1)))
    assert (store.text_lengths > 0).all()
    assert _is_near((store.lengths("audio") == 0).mean(), 0.5, 2000)
    assert _is_near((store.lengths("video") == 0).mean(), 0.1, 2000)


def test_imbalance_of_every_kind_is_met_to_the_sample(tmp_path):
    """Answers are as even as the numbers of a split allow: off by at most one a split."""
    shares = {"funny": 0.1, "topic": 0.8, "tags": 0.25}
    store = FeatureStore(synthesize(tmp_path / "s", samples=1000, tasks=KINDS, imbalance=shares, unlabelled=0.0))
    assert store.labels("funny")[0].sum() == pytest.approx(100, abs=3)
    assert np.bincount(store.labels("topic")[0].astype(int)).tolist() == pytest.approx([800, 100, 100], abs=3)
    assert store.labels("tags")[0].sum(axis=0).tolist() == pytest.approx([250] * 3, abs=3)


def test_noise_makes_so_many_labels_wrong_and_changes_nothing_else(tmp_path):
    clean, noisy = (
        FeatureStore(synthesize(tmp_path / str(len(noise)), samples=2000, tasks=KINDS, unlabelled=0.0, noise=noise))
        for noise in ({}, {"funny": 0.2, "topic": 0.3, "tags": 0.1, "mood": 0.5})
    )
    wrong = {task: clean.labels(task)[0] != noisy.labels(task)[0] for task in KINDS}
    for task, rate in (("funny", 0.2), ("topic", 0.3), ("tags", 0.1), ("mood", 0.5)):
        assert _is_near(wrong[task].mean(), rate, wrong[task].size), task
    changed = noisy.labels("topic")[0][wrong["topic"]]
    assert {_is_near((changed == place).mean(), 1 / 3, len(changed)) for place in range(3)} == {True}  # none is preferred
    assert noisy.labels("mood")[0].std() == pytest.approx(1, abs=0.06)  # four deviations of its estimate
    assert (tmp_path / "0" / "audio.safetensors").read_bytes() == (tmp_path / "4" / "audio.safetensors").read_bytes()
    assert [clean.text(index) for index in range(50)] == [noisy.text(index) for index in range(50)]


def test_a_probe_falls_with_difficulty_and_noise_of_its_task_alone(tmp_path):
    """With labels that are wrong at a rate q, what is right at a rate p agrees with them at p (1 - q) + (1 - p) q."""
    tasks = {"funny": "binary", "loud": "binary"}
    settings = {"easy": {}, "hard": {"difficulty": {"funny": 0.7}}, "blind": {"difficulty": {"funny": 1.0}}}
    settings |= {"noisy": {"noise": {"funny": 0.3}}, "deaf": {"signal": {"audio": 0.0}}}
    stores = {
        name: FeatureStore(synthesize(tmp_path / name, samples=1500, tasks=tasks, **knobs))
        for name, knobs in settings.items()
    }
    found = {(name, task): _accuracy(store, "audio", task) for name, store in stores.items() for task in tasks}
    assert found["easy", "funny"] > found["hard", "funny"] + 0.08 > found["blind", "funny"] + 0.16
    assert abs(found["blind", "funny"] - 0.5) < 0.14
    assert all(found[name, "loud"] > 0.75 for name in ("easy", "hard", "blind", "noisy"))
    right = found["easy", "funny"]
    assert found["noisy", "funny"] == pytest.approx(right * 0.7 + (1 - right) * 0.3, abs=0.1)
    assert abs(found["deaf", "loud"] - 0.5) < 0.14
    assert _accuracy(stores["deaf"], "video", "loud") > 0.75
    assert _accuracy(stores["blind"], "text") < 0.62
    assert _accuracy(stores["easy"], "text") > 0.75


def test_knobs_as_typed(tmp_path, monkeypatch, capsys):
    def typed(*words):
        monkeypatch.setattr("sys.argv", ["data_prep", "synth", "--out", str(tmp_path / "store"), "--samples", "40", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    knobs = ("--signal", "0.5", "--signal", "text=0", "--missing", "video=0.4", "--unlabelled", "0", "--noise", "loud=0.2")
    more = ("--difficulty", "funny=0.6", "--imbalance", "loud=0.3", "--task", "funny=binary", "--task", "loud=binary")
    assert typed(*knobs, *more)[0] == 0
    said = FeatureStore(tmp_path / "store").schema.provenance
    assert said["signal"] == {"text": 0, "audio": 0.5, "video": 0.5}
    assert said["missing"] == {"text": 0.1, "audio": 0.1, "video": 0.4}
    assert (said["unlabelled"], said["noise"]) == ({"funny": 0, "loud": 0}, {"funny": 0, "loud": 0.2})
    assert (said["difficulty"], said["imbalance"]) == ({"funny": 0.6, "loud": 0}, {"loud": 0.3})
    for bad in ("high", "=1", "a=", "nan"):
        code, message = typed("--signal", bad)
        assert (code, message) == (2, f"--signal {bad}: write a number for all, or name=number, each once\n")
    assert typed("--noise", "0.1", "--noise", "0.2")[0] == 2
    assert typed("--noise", "face=0.1", "--overwrite")[1].startswith("synth: noise of 'face', which there is not")


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
        ({"missing": 1.5}, "the missing of 'text' is 1.5; write a number from 0 to 1"),
        ({"imbalance": {"funny": -1}}, "the imbalance of 'funny' is -1"),
        ({"signal": {"audio": -1}}, "the signal of 'audio' is -1; write a number, 0 or more"),
        ({"noise": {"mood": 0.1}}, "noise of 'mood', which there is not; there are funny"),
        ({"missing": {"face": 0.1}}, "missing of 'face', which there is not; there are text, audio, video"),
        ({"tasks": {"mood": "regression"}, "imbalance": {"mood": 0.2}}, "a regression task has no imbalance"),
        ({"ratios": (0.5, 0.2, 0.2)}, "do not sum to 1"),
        ({"groups": 2}, "2 groups cannot fill the splits"),
        ({"tasks": {"funny": "binry"}}, "task kind 'binry' is unknown; write binary, multiclass, multilabel or regression"),
    ],
)
def test_bad_arguments_are_named(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        synthesize(tmp_path / "store", **options)
