"""`data_prep import hiccap`: the predecessors' files become the store that configs/hiccap reads, and nothing is zeros."""

import json

import numpy as np
import pytest

from data_prep.cli import main
from data_prep.importers.hiccap import find_group, find_vocabulary, rebuild_text
from mmtrain.data.check import check_store
from mmtrain.data.store import FeatureStore

NO, YES = [1, 0], [0, 1]
CASED = {"words": ["[CLS]", "the", "n", "##ug", "##get", "of", "[SEP]"], "indexes": [101, 1103, 183, 9610, 16609, 1104, 102]}
UNCASED = {"words": ["the", "cat", "."], "indexes": [101, 1996, 4937, 1012, 102]}


def clip(y=NO, mature=NO, words=CASED, **fields):
    labels = {"y": y, "mature": mature, "gory": NO, "slapstick": NO, "sarcasm": NO, "label": y.index(1)}
    return {"id": 1, **words, **labels, **fields}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `import hiccap` on clips of one split; gives exit code, what it said, and the store if there is one."""

    def run(clips, *arguments, split="train"):
        (tmp_path / "json").mkdir(exist_ok=True)
        content = clips if isinstance(clips, str) else json.dumps(clips)
        (tmp_path / "json" / f"{split}_features_lrec_camera.json").write_text(content)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["data_prep", "import", "hiccap", "json", "--out", "store", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        store = FeatureStore("store") if (tmp_path / "store").exists() else None
        return end.value.code, captured.out + captured.err, store

    return run


def save(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def test_clips_become_samples_with_the_names_of_the_configs(tmp_path, run):
    clips = {
        "v_1": clip(YES, YES),
        "v_2": clip(words=UNCASED),
        "sra_H9.03": clip(words={"words": [], "indexes": [101, 102]}),
    }
    rows = np.arange(3 * 1024, dtype=np.float32).reshape(3, 1024)
    save(tmp_path / "i3d", v_1_rgb=rows, v_1_flow=np.full((3, 1024), 0.5, np.float32))
    save(tmp_path / "vggish", v_2_vggish=np.full((2, 128), 255, np.uint8), **{"sra_H9.03_vggish": np.ones((4, 128))})
    code, said, store = run(clips, "--i3d", "i3d", "--vggish", "vggish", "--licence", "unknown")
    assert code == 0, said
    assert check_store(tmp_path / "store") == []
    assert [store.text(index) for index in range(3)] == ["the nugget of", "the cat .", ""]
    assert [store.group(index) for index in range(3)] == ["v", "v", "sra_H9"]
    assert store.column("vocabulary").to_pylist() == ["cased", "uncased", "uncased"]
    assert np.array_equal(store.rows("video", 0), rows + 0.5)
    assert (store.lengths("video").tolist(), store.lengths("audio").tolist()) == ([3, 0, 0], [0, 2, 4])
    assert store.rows("audio", 1).max() == 255
    assert store.labels("binary")[0].tolist() == [1, 0, 0]
    assert store.labels("mature")[0].tolist() == [1, 0, 0]
    assert "token ids by vocabulary: 1 cased, 2 uncased" in said
    assert "video: missing in 2 of 3 samples\n" in said
    assert "audio: missing in 1 of 3 samples\n" in said
    assert "has no val_features_lrec_camera.json: the store will have no split val" in said
    assert store.schema.provenance["missing"] == {"video": 2, "audio": 1}
    assert not (tmp_path / "store.failures.jsonl").exists()


def test_the_configs_find_their_tasks_and_widths(tmp_path, run):
    save(tmp_path / "i3d", v_1_rgb=np.ones((1, 1024)), v_1_flow=np.ones((1, 1024)))
    _, _, store = run({"v_1": clip()}, "--i3d", "i3d", "--vggish", "i3d")
    assert {name: spec.dim for name, spec in store.schema.modalities.items()} == {"video": 1024, "audio": 128}
    assert {name: task.kind for name, task in store.schema.tasks.items()} == dict.fromkeys(
        ("binary", "mature", "gory", "slapstick", "sarcasm"), "binary"
    )


def test_the_papers_labels_leave_the_kinds_out_where_there_is_no_mischief(run):
    unknown = clip(mature=YES) | {"y": None}
    clips = {"v_1": clip(YES, YES), "v_2": clip(), "w_1": clip(gory=None), "w_2": unknown}
    _, _, store = run(clips)
    assert store.labels("mature")[1].tolist() == [True, True, True, True]
    assert store.labels("gory")[1].tolist() == [True, True, False, True]
    _, _, store = run(clips, "--paper-labels", "--overwrite")
    assert store.labels("mature")[1].tolist() == [True, False, False, False]
    assert store.labels("binary")[1].tolist() == [True, True, True, False]


def test_a_file_that_cannot_be_read_is_a_missing_modality_named_and_counted(tmp_path, run):
    names = ["flow", "wide", "short", "objects", "nan", "empty", "broken"]
    good, folder = np.ones((2, 1024), np.float32), tmp_path / "i3d"
    save(folder, **{f"{name}_1_rgb": good for name in names})
    save(folder, wide_1_flow=np.ones((2, 1000)), short_1_flow=good[:1], nan_1_flow=good * np.nan, empty_1_flow=good[:0])
    np.save(folder / "objects_1_flow.npy", np.array([{}], object), allow_pickle=True)
    (folder / "broken_1_flow.npy").write_bytes(b"\x93NUMPY")
    code, said, store = run({f"{name}_1": clip() for name in names}, "--i3d", "i3d")
    assert code == 0, said
    assert store.lengths("video").tolist() == [0] * 7
    assert "video: missing in 7 of 7 samples; 7 had a file that cannot be read, see store.failures.jsonl" in said
    records = [json.loads(line) for line in (tmp_path / "store.failures.jsonl").read_text().splitlines()]
    assert [(record["id"], record["kept"]) for record in records] == [(f"{name}_1", True) for name in names]
    for record, words in zip(
        records,
        [
            "is missing",
            "1000 numbers, 1024 numbers were expected",
            "has 1 rows",
            "Python objects",
            "NaN or Inf",
            "not one row",
            "is not a whole .npy file",
        ],
        strict=True,
    ):
        assert words in record["reason"], record


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (clip(words={"words": "the cat"}), "'words' is the cat, a list of word pieces was expected"),
        (clip(gory=[1, 1]), "'gory' is [1, 1]; [1, 0] (no) or [0, 1] (yes) was expected"),
        (clip(label=1), "'y' is [1, 0], but 'label' is 1"),
        ("text", "'words' is None"),
        (clip(words={"words": ["\ud800"]}), "surrogates not allowed"),
    ],
)
def test_a_clip_that_cannot_be_imported_is_named(tmp_path, run, entry, words):
    clips = {"v_1": clip(), "v_2": entry}
    code, said, store = run(clips)
    assert (code, store) == (3, None)
    assert "1 of 2 samples cannot be imported (0 allowed): no store was written. The first: sample 'v_2'" in said
    assert words in said
    code, said, store = run(clips, "--allow-failures", "1")
    assert (code, len(store)) == (0, 1)
    assert "store: 1 samples; 1 left out, see store.failures.jsonl" in said
    assert words in json.loads((tmp_path / "store.failures.jsonl").read_text())["reason"]


def test_an_id_in_two_files_and_a_group_on_two_sides_are_named(run):
    run({"v_1": clip()}, split="val")
    code, said, _ = run({"v_1": clip(), "v_2": clip()}, "--overwrite")
    assert code == 3
    assert "sample id 'v_1' comes twice" in said
    code, said, _ = run({"v_3": clip()}, "--overwrite")
    assert code == 0
    assert "warning: 1 groups are in more than one split (v)" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is not a JSON object of clips by id"),
        ("{", "is not JSON as HICCAP publishes it"),
        ("[" * 200_000, "is not JSON as HICCAP publishes it"),
        ('{"v_1": {}, "v_1": {}}', "the key 'v_1' stands there twice"),
        ("{}", "not one sample could be imported"),
    ],
)
def test_a_file_that_is_something_else_is_named(run, content, words):
    code, said, store = run(content)
    assert (code, store) == (2, None)
    assert words in said


def test_folders_that_are_not_there_are_named(tmp_path, run):
    code, said, _ = run({"v_1": clip()}, "--i3d", "nowhere")
    assert (code, said) == (2, "nowhere is not a folder; write that with the .npy files\n")
    (tmp_path / "json" / "train_features_lrec_camera.json").unlink()
    code, said, _ = run({}, split="dev")
    assert "json has no train_features_lrec_camera.json (nor val_, nor test_)" in said
    assert code == 2
    run({"v_1": clip()})
    code, said, _ = run({"v_1": clip()})
    assert (code, said) == (2, "store exists already; choose another folder or pass --overwrite\n")


def test_the_group_is_the_id_without_the_number_of_the_clip():
    groups = {"TkZFuKHXa7w_2": "TkZFuKHXa7w", "sra_H9o7pjA.010": "sra_H9o7pjA", "tt0287969.02": "tt0287969", "a_b_3": "a_b"}
    assert {name: find_group(name) for name in groups} == groups
    assert find_group("alone") == "alone"


def test_pieces_are_joined():
    words = ["[CLS]", "la", "##ugh", "##ter", "'", "s", "##", "[UNK]", "[SEP]", "[PAD]"]
    assert rebuild_text(words) == "laughter ' s ## [UNK]"
    assert rebuild_text(["##ter", "x"]) == "##ter x"


@pytest.mark.parametrize(
    ("words", "ids", "vocabulary"),
    [
        (["[CLS]", "the", "cat", "[SEP]"], [101, 1103, 5855, 102], "cased"),
        (["[CLS]", "the", "cat", "[SEP]"], [101, 1996, 4937, 102], "uncased"),
        (["the", "cat"], [101, 1103, 5855, 102], "cased"),
        (["oh", "God"], [101, 2821, 2643, 102], "cased"),
        (["oh", "god"], [101, 2821, 2643, 102], "uncased"),
        (["[CLS]", "oh", "god", "[SEP]"], [101, 9294, 5540, 102], "cased"),
        (["the", "of", "i"], [101, 1996, 1104, 7, 102], "uncased"),
        (["oh"], [], "unclear"),
        (["oh"], "101", "unclear"),
        ([], None, "unclear"),
    ],
)
def test_the_vocabulary_is_told_by_words(words, ids, vocabulary):
    assert find_vocabulary(words, ids) == vocabulary
