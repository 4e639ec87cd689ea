"""`python -m data_prep` as a user types it: stores come out, mistakes end in one message and their exit code."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mmtrain.data.check import check_store
from mmtrain.data.store import FeatureStore

soundfile = pytest.importorskip("soundfile")


def _run(*arguments: object, folder) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", "-m", "data_prep", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=300)


@pytest.fixture
def media(tmp_path):
    """Twelve short sounds (one is damaged) and a manifest with a task in its sidecar and one that needs a flag."""
    lines = ["id,split,group,text,audio,pitch,mood"]
    for number in range(12):
        wave = np.sin(2 * np.pi * (400 if number % 2 else 2000) * np.arange(4000) / 16_000)
        soundfile.write(tmp_path / f"{number}.wav", wave, 16_000)
        split = ("train", "train", "val", "test")[number % 4]
        audio = "" if number == 5 else f"{number}.wav"
        lines.append(f"s{number},{split},g{number},a fish,{audio},{'low' if number % 2 else 'high'},{number / 10}")
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    tasks = {"pitch": {"kind": "multiclass", "classes": ["low", "high"]}}
    (tmp_path / "clips.json").write_text(json.dumps({"name": "clips", "licence": "CC0-1.0", "tasks": tasks}))
    return tmp_path


def test_extract_writes_a_store_that_is_whole(media):
    arguments = ("extract", "clips.csv", "--out", "store", "--audio", "logmel", "--task", "mood=regression")
    done = _run(*arguments, folder=media)
    assert (done.returncode, done.stdout) == (0, "store: written\n"), done.stderr
    assert "extracting clips: 12 of 12" in done.stderr
    assert check_store(media / "store") == []
    store = FeatureStore(media / "store")
    assert store.lengths("audio").tolist() == [3] * 5 + [0] + [3] * 6
    assert store.labels("pitch")[0].tolist() == [1, 0] * 6
    assert (store.schema.licence, store.schema.modalities["audio"].extractor) == ("CC0-1.0", "logmel")
    assert store.schema.provenance["manifest"] == "clips.csv"
    again = _run(*arguments, folder=media)
    assert (again.returncode, again.stderr) == (2, "store exists already; choose another folder or pass --overwrite\n")


def test_a_damaged_file_is_named_and_never_zeros(media):
    (media / "3.wav").write_text("damaged")
    arguments = ("extract", "clips.csv", "--out", "store", "--audio", "logmel")
    failed = _run(*arguments, folder=media)
    assert failed.returncode == 3
    assert "1 of 12 samples" in failed.stderr
    assert "sample 's3', audio " in failed.stderr
    assert "--allow-failures 1" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (media / "store").exists()
    (failure,) = map(json.loads, (media / "store.failures.jsonl").read_text().splitlines())
    assert (failure["id"], failure["modality"]) == ("s3", "audio")
    assert failure["reason"].startswith("not a readable sound file")
    allowed = _run(*arguments, "--allow-failures", 1, folder=media)
    assert (allowed.returncode, allowed.stdout) == (0, "store: written; 1 sample left out, see store.failures.jsonl\n")
    store = FeatureStore(media / "store")
    assert "s3" not in [store.sample_id(index) for index in range(len(store))]
    assert len(store) == 11


def test_pictures_and_folders_of_frames_become_pixels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    lines = ["id,split,image,video"]
    (tmp_path / "frames").mkdir()
    for number in range(3):
        image.new("RGB", (8, 6), (number, 20, 30)).save(tmp_path / f"{number}.png")
        image.new("RGB", (5, 9), (40, number, 60)).save(tmp_path / "frames" / f"{10 - number}.jpg", quality=100)
        lines.append(f"s{number},train,{number}.png,{'frames' if number == 1 else ''}")
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    arguments = ("extract", "clips.csv", "--out", "store", "--image", "pixels", "--video", "pixels", "--size", 4)
    done = _run(*arguments, "--frames-per-second", 2, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "store: written\n"), done.stderr
    assert check_store(tmp_path / "store") == []
    store = FeatureStore(tmp_path / "store")
    assert store.lengths("image").tolist() == [1, 1, 1]
    assert store.lengths("video").tolist() == [0, 3, 0]
    assert [store.rows("image", number)[0, :, 1, 2].tolist() for number in range(3)] == [[n, 20, 30] for n in range(3)]
    assert store.schema.modalities["video"].rows_per_second == 2
    (tmp_path / "2.png").write_bytes(b"")
    failed = _run(*arguments, "--overwrite", folder=tmp_path)
    assert failed.returncode == 3
    (failure,) = map(json.loads, (tmp_path / "store.failures.jsonl").read_text().splitlines())
    assert (failure["id"], failure["modality"]) == ("s2", "image")
    assert failure["reason"].startswith("not a readable picture")


def test_text_alone_needs_no_extractor(media):
    done = _run("extract", "clips.csv", "--out", "store", folder=media)
    assert done.returncode == 0, done.stderr
    assert "column 'audio' (11 files) is left out: name an extractor by --audio" in done.stderr
    assert FeatureStore(media / "store").schema.modalities == {}


def test_synth_as_typed_is_repeated_by_its_seed(tmp_path):
    arguments = ("synth", "--samples", 80, "--task", "funny=binary", "--task", "mood=regression", "--modality", "face=5")
    for name in ("a", "b"):
        done = _run(*arguments, "--out", name, folder=tmp_path)
        assert done.stdout == f"{name}: 80 samples, tasks funny, mood, modalities text, face\n", done.stderr
    assert (tmp_path / "a" / "dataset.json").read_bytes() == (tmp_path / "b" / "dataset.json").read_bytes()
    assert check_store(tmp_path / "a") == []


def test_stores_are_made_of_stores_as_typed(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        _run("synth", "--out", name, "--name", name, "--samples", 60, "--seed", seed, folder=tmp_path)
    steps = [
        (["merge", "one", "two", "--out", "all", "--prefix-ids"], "all: written\n"),
        (["filter", "all", "--where", "audio.rows > 0", "--out", "heard"], "heard: written\n1"),
        (
            ["split", "heard", "--stratify", "funny", "--ratios", "0.6", "0.2", "0.2", "--seed", 3, "--out", "divided"],
            "divided: written\ntrain: ",
        ),
        (["cast", "divided", "--dtype", "float16", "--out", "small"], "small: written\naudio: largest error 0.00"),
        (["stats", "small"], "audio: "),
        (["stats", "small", "--out", "ready", "--normalize"], "ready: written\naudio: "),
    ]
    for arguments, output in steps:
        done = _run(*arguments, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout.startswith(output)
    assert check_store(tmp_path / "ready") == []
    store = FeatureStore(tmp_path / "ready")
    rows = np.concatenate([store.rows("audio", index) for index in store.split("train")])
    np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "cats", "--out", "x"], "fetch cats: unknown source; write one of fillets, sentiment, minilm"),
        (["synth", "--out", "x", "--task", "funny"], "--task funny: write name=value, each name once"),
        (["synth", "--out", "x", "--task", "funny=yes"], "--task funny=yes: unknown kind; write one of binary, multiclass"),
        (
            ["synth", "--out", "x", "--modality", "audio=0"],
            "--modality audio=0: write a width of 1 or more, such as audio=16",
        ),
        (
            ["synth", "--out", "x", "--modality", "image=3x0x8"],
            "--modality image=3x0x8: write a width of 1 or more, such as image=16, or 3 x height x width of pixels, such as "
            "image=3x16x16",
        ),
        (["cast", "y", "--out", "x", "--dtype", "int8"], "--dtype int8: write one of float16, float32"),
        (["merge", "y", "--out", "x"], "merge y: write two stores or more"),
        (
            ["stats", "y", "--normalize"],
            "--normalize: the store itself stays as it is; name the folder of a new one by --out",
        ),
        (["filter", "y", "--out", "x", "--where", "a == 1"], "there is no store y; "),
        (["split", "y", "--out", "x", "--ratios", "1", "1", "1"], "--ratios 1 1 1: write three shares of 1 for train, val"),
        (["extract", "one.csv", "--out", "x", "--size", "8"], "--size: only --image pixels and --video pixels read it"),
        (
            ["extract", "one.csv", "--out", "x", "--video", "pixels", "--frames-per-second", "0"],
            "--frames-per-second 0.0: write a number above 0",
        ),
        (
            ["extract", "one.csv", "--out", "x", "--image", "pixel"],
            "--image pixel: unknown extractor; write one of image-rows",
        ),
        (["extract", "none.csv", "--out", "x"], "none.csv cannot be read (No such file or directory)"),
        (["extract", "one.csv", "--out", "x", "--audio", "mel"], "--audio mel: unknown extractor; write one of logmel"),
        (
            ["extract", "one.csv", "--out", "x", "--audio", "logmel"],
            "one.csv names no file in a column 'audio'; leave --audio out",
        ),
    ],
)
def test_mistakes_end_in_one_message(tmp_path, arguments, message):
    (tmp_path / "one.csv").write_text("id,split\na,train\n")
    done = _run(*arguments, folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(message)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("limit", [20_000, 200_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, limit):
    """No file may grow beyond the limit: the features meet it while they are written, or at the end of a small table."""
    _run("synth", "--out", "source", "--samples", 400, "--modality", "audio=64", "--missing", 0, folder=tmp_path)
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); from data_prep.cli import main; "
        "import sys; sys.argv = ['data_prep', 'cast', 'source', '--dtype', 'float16', '--out', 'new']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (2, "File too large; no store is written\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_help_imports_nothing_heavy(tmp_path):
    heavy = ("torch", "transformers", "PIL", "soundfile", "pyarrow")
    code = f"import sys, data_prep.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "[]\n"


def test_the_text_of_the_column_that_is_named(media):
    (media / "spoken.srt").write_text("1\n00:00:00,000 --> 00:00:00,100\na whale\n")
    (media / "said.csv").write_text("id,split,text,subtitles\na,train,a fish,spoken.srt\n")
    done = _run("extract", "said.csv", "--out", "store", "--text", "subtitles", folder=media)
    assert done.returncode == 0, done.stderr
    store = FeatureStore(media / "store")
    assert (store.text(0), store.schema.provenance["text"]) == ("a whale", "subtitles")
