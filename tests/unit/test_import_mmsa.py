"""`data_prep import mmsa`: the arrays of MMSA's pickles without their padding, labels as tasks, what is wrong by name."""

import json
import pickle

import numpy as np
import pytest

from data_prep.cli import main
from mmtrain.data.check import check_store
from mmtrain.data.store import FeatureStore


def padded(lengths, length, width, start=1.0):
    """[N, L, D]: sample n has its real rows first, then zeros."""
    array = np.zeros((len(lengths), length, width), np.float32)
    for index, count in enumerate(lengths):
        array[index, :count] = start + np.arange(count)[:, None] + 10 * index
    return array


def split(first="a", *, rows=(3, 1), frames=(2, 4), **fields):
    names = [f"{first}$_$0", f"{first}_b$_$12"]
    bert = np.zeros((2, 3, 5), np.float32)
    bert[0, 1, :4], bert[1, 1, :2] = 1, 1
    return {
        "id": names,
        "raw_text": np.array(["what a film", "no"]),
        "text": np.ones((2, 5, 6), np.float32),  # of an encoder: its padding is not zero
        "text_bert": bert,
        "audio": padded(rows, 4, 2),
        "vision": padded(frames, 4, 3),
        "audio_lengths": list(rows),
        "vision_lengths": np.array(frames),
        "regression_labels": np.array([-1.5, 3.0], np.float32),
        "classification_labels": np.array([0.0, 2.0]),
        "annotations": np.array(["Negative", "Positive"]),
        **fields,
    }


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def run(content, *arguments, protocol=None):
        (tmp_path / "mosi.pkl").write_bytes(pickle.dumps(content, protocol))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["data_prep", "import", "mmsa", "mosi.pkl", "--out", "store", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        store = FeatureStore("store") if (tmp_path / "store").exists() else None
        return end.value.code, captured.out + captured.err, store

    return run


def test_unaligned_arrays_are_cut_at_their_lengths(tmp_path, run):
    code, said, store = run({"train": split(), "valid": split("v"), "test": split("t", rows=(0, 4))})
    assert code == 0, said
    assert check_store(tmp_path / "store") == []
    assert store.column("split").to_pylist() == ["train", "train", "val", "val", "test", "test"]
    assert store.column("group").to_pylist()[:2] == ["a", "a_b"]
    assert [store.text(0), store.text(1)] == ["what a film", "no"]
    assert store.lengths("audio").tolist() == [3, 1, 3, 1, 0, 4]
    assert store.lengths("video").tolist() == [2, 4] * 3
    assert store.lengths("words").tolist() == [4, 2] * 3
    assert store.rows("audio", 0).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert store.labels("sentiment")[0].tolist() == [-1.5, 3] * 3
    assert store.labels("polarity")[0].tolist() == [0, 1] * 3
    assert store.schema.tasks["polarity"].classes == ("Negative", "Positive")
    assert "audio: missing in 1 of 6 samples" in said
    assert (store.name, store.schema.provenance["aligned"]) == ("mosi", False)


def aligned(**fields):
    whole = {key: value for key, value in split(**fields).items() if not key.endswith("_lengths")}
    return {"train": whole}


def test_aligned_arrays_are_cut_alike(run):
    """Padding may stand before or behind, and zeros inside or in one modality alone are not padding."""
    audio = np.zeros((2, 5, 2), np.float32)
    vision = np.zeros((2, 5, 3), np.float32)
    audio[0, 2], audio[0, 4] = 7, 8
    vision[0, 3] = 1
    fields = aligned(audio=audio, vision=vision)
    fields["train"]["text_bert"][:, 1] = [[0, 1, 1, 1, 0], [0, 0, 0, 1, 1]]
    _, said, store = run(fields)
    assert store.lengths("words").tolist() == [4, 2]  # places 1 to 4, and 3 to 4
    assert store.rows("audio", 0).tolist() == [[0, 0], [7, 7], [0, 0], [8, 8]]
    assert store.rows("video", 0)[:, 0].tolist() == [0, 0, 1, 0]
    assert store.lengths("audio").tolist() == [4, 0]
    assert "audio: missing in 1 of 2 samples" in said
    assert store.schema.provenance["aligned"] is True


def test_without_tokens_zeros_tell_the_padding_of_words(run):
    content = aligned(text=padded((2, 3), 5, 6), audio=padded((1, 1), 5, 2), vision=padded((1, 4), 5, 3))
    del content["train"]["text_bert"]
    _, _, store = run(content)
    assert [store.lengths(name).tolist() for name in ("words", "audio", "video")] == [[2, 4], [2, 4], [2, 4]]


def test_the_labels_of_single_modalities_and_missing_ones(run):
    numbers = {f"regression_labels_{view}": np.array([[0.5], [np.nan]]) for view in "TAV"}
    classes = {"classification_labels": [1, -1], "classification_labels_T": np.array([3, 5])}
    _, _, store = run({"train": split(**numbers, **classes, annotations=["Neutral", "Neutral"])})
    assert list(store.schema.tasks) == ["sentiment", *(f"sentiment_{view}" for view in "TAV"), "polarity", "polarity_T"]
    assert store.labels("sentiment_A")[1].tolist() == [True, False]
    assert store.schema.tasks["polarity"].classes == ("-1", "1")  # two numbers, one annotation: no names
    assert store.schema.tasks["polarity_T"].classes == ("3", "5")
    assert store.labels("polarity")[0].tolist() == [1, 0]
    only_m = {"regression_labels_M": [1.0, 2.0], **split()}
    del only_m["regression_labels"]
    _, _, store = run({"train": only_m}, "--overwrite")
    assert store.labels("sentiment")[0].tolist() == [1, 2]


def test_infinite_rows_fail_or_are_filled(run):
    audio = padded((3, 1), 4, 2)
    audio[0, 1, 0] = -np.inf
    code, said, _ = run({"train": split(audio=audio)})
    assert code == 3
    assert "sample 'a$_$0': NaN or Inf in audio" in said
    code, said, store = run({"train": split(audio=audio)}, "--fill", "0")
    assert code == 0, said
    assert store.rows("audio", 0).tolist() == [[1, 1], [0, 2], [3, 3]]
    assert store.schema.provenance["fill"] == 0


def published(*, first, kind, with_views):
    """One split with the fields that MMSA's page lists, its audio in float64 with -inf where COVAREP had log(0)."""
    audio = padded((4, 2), 4, 5).astype(np.float64)
    audio[0, 2, 4] = -np.inf
    whole = split(first, audio=audio, audio_lengths=[4, 2], vision=padded((1, 3), 4, 20).astype(np.float64))
    whole |= {"vision_lengths": [1, 3], "id": kind(whole["id"]), "raw_text": kind(whole["raw_text"])}
    views = {f"regression_labels_{view}": np.array([0.2, -0.4]) for view in "TAV" if with_views}
    return whole | views


KINDS_OF_TEXT = {
    "list": list,
    "array": np.array,
    "bytes": lambda texts: [str(text).encode() for text in texts],
    "bytes in an array": lambda texts: np.array([str(text).encode() for text in texts]),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", KINDS_OF_TEXT)
@pytest.mark.parametrize("with_views", [False, True])
def test_a_file_as_it_is_published(run, protocol, kind, with_views):
    """CMU-MOSI, and CH-SIMS with labels of the single modalities; texts in every form, protocols of Python 2 and 3."""
    names = (("train", "a"), ("valid", "v"), ("test", "t"))
    content = {key: published(first=first, kind=KINDS_OF_TEXT[kind], with_views=with_views) for key, first in names}
    code, said, store = run(content, "--fill", "0", protocol=protocol)
    assert code == 0, said
    assert [store.sample_id(index) for index in (0, 3, 4)] == ["a$_$0", "v_b$_$12", "t$_$0"]
    assert [store.group(0), store.text(0)] == ["a", "what a film"]
    assert store.lengths("audio").tolist() == [4, 2] * 3
    assert store.lengths("video").tolist() == [1, 3] * 3
    assert store.rows("audio", 0).tolist() == [[1] * 5, [2] * 5, [3, 3, 3, 3, 0], [4] * 5]
    assert {name: modality.dim for name, modality in store.schema.modalities.items()} == {
        "words": 6,
        "audio": 5,
        "video": 20,
    }
    assert set(store.schema.tasks) == {"sentiment", "polarity", *(f"sentiment_{view}" for view in "TAV" if with_views)}
    assert store.labels("sentiment")[0].tolist() == [-1.5, 3] * 3
    if with_views:
        assert store.labels("sentiment_V")[0].tolist() == [0.2, -0.4] * 3


def test_an_id_that_is_no_text_in_any_way(run):
    code, said, _ = run({"train": split(id=[b"a\xff", "b$_$1"])})
    assert (code, "sample 'b'a\\xff''" in said) == (3, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"audio_lengths": [5, 1]}, "'audio_lengths' is 5, its array has 4 rows"),
        ({"vision_lengths": [None, 1]}, "split 'train', number 0"),
        ({"id": [7, "b$_$1"]}, "its id is '7', a text such as 'video$_$clip' was expected"),
        ({"id": ["x", "x"]}, "sample id 'x' comes twice"),
        ({"raw_text": [None, "a"]}, "'raw_text' is 'None', a text was expected"),
        ({"regression_labels": ["high", 1]}, "'regression_labels' is 'high', a number was expected"),
        ({"regression_labels": [np.inf, 1]}, "'regression_labels' is inf, a finite number was expected"),
    ],
)
def test_a_sample_that_cannot_be_imported_is_named(tmp_path, run, fields, words):
    code, said, store = run({"train": split(**fields)})
    assert (code, store) == (3, None)
    assert words in said
    code, _, store = run({"train": split(**fields)}, "--allow-failures", "1")
    assert (code, len(store)) == (0, 1)
    assert words in json.loads((tmp_path / "store.failures.jsonl").read_text())["reason"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "holds list; the splits train, valid, test were expected"),
        ({"dev": 1}, "holds dev; the splits"),
        ({"train": {"text": []}}, "split 'train': it has no field 'id'"),
        ({"train": {"id": 3}}, "'id' is int, a list was expected"),
        ({"train": split(audio_lengths=[1])}, "'audio_lengths' has 1 samples, 'id' has 2"),
        ({"train": split(regression_labels=3)}, "'regression_labels' has 0 samples, 'id' has 2"),
        ({"train": split(audio=np.zeros((2, 4)))}, "'audio' is float64 (2, 4); numbers [N, L, D] were expected"),
        ({"train": split(vision=[1, 2])}, "'vision' is list; numbers [N, L, D] were expected"),
        (
            {"train": split(), "test": split("t", audio=padded((1, 1), 4, 9))},
            "9 wide, in the splits before 2",
        ),
        ({"train": split(classification_labels=["x", 1])}, "sample 'a$_$0': 'classification_labels' is 'x'"),
        ({"train": split(classification_labels=[1, 1])}, "has 1 different numbers; 2 to 100 classes were expected"),
    ],
)
def test_a_file_that_is_something_else_is_named(run, content, words):
    code, said, store = run(content)
    assert (code, store) == (2, None)
    assert words in said


class Attack:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


def test_a_hostile_pickle_is_refused_by_name_and_never_runs(tmp_path, run):
    code, said, store = run({"train": split(annotations=Attack())})
    assert (code, store) == (2, None)
    assert "mosi.pkl asks for posix.system, which is not let in" in said
    assert not (tmp_path / "pwned").exists()
    (report,) = tmp_path.rglob("*.failures.jsonl")
    assert "asks for posix.system" in json.loads(report.read_text())["reason"]
