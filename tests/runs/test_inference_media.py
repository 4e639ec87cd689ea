"""From a raw clip to an answer: the extractors that made the run's stores, asked for again, give the rows of the stores."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from lives import live
from real_media import write_video

import mmtrain
from mmtrain.cli import main
from mmtrain.data.store import FeatureStore
from mmtrain.inference.predict import Predicting

LABELS = (0, 1, 1, 0, 1, 0)
SUBTITLES = "1\n00:00:00,500 --> 00:00:01,500\nstop right there\n\n2\n00:00:02,500 --> 00:00:03,500\nwhat a fish\n"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of six videos with sound and subtitles, the last one without sound."""
    folder = tmp_path_factory.mktemp("media")
    with (folder / "clips.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["id", "split", "video", "audio", "subtitles", "funny"])
        for number, label in enumerate(LABELS):
            write_video(folder / f"{number}.mp4", delay=0.1 * number, rate=None if number == 5 else 16_000)
            (folder / f"{number}.srt").write_text(SUBTITLES)
            split = ("train", "train", "train", "train", "val", "test")[number]
            sound = "" if number == 5 else f"{number}.mp4"
            table.writerow([f"clip-{number}", split, f"{number}.mp4", sound, f"{number}.srt", label])
    return folder


@pytest.fixture(scope="module")
def run(media: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media-run")
    extract("clips.csv", media, folder / "store", "--video", "pixels", "--size", "16", "--frames-per-second", "2")
    (folder / "experiment.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "run",
                "runs": str(folder),
                "datasets": {"clips": {"store": str(folder / "store")}},
                "streams": {"clips": {"dataset": "clips", "tasks": ["funny"]}},
                "model": {
                    "dim": 8,
                    "text": {"path": str(tiny_bert), "trainable_layers": 0, "max_tokens": 32},
                    "sequences": {"audio": {"name": "linear"}},
                    "images": {"video": {"name": "cnn", "hidden": [4]}},
                },
                "batch": {"size": 4},
                "training": {"epochs": 1, "steps_per_epoch": 2},
                "selection": {"metric": "val/loss", "mode": "min"},
            }
        )
    )
    life = live(["train", "--config", "experiment.yaml"], cwd=folder)
    assert life.code == 0, life.err
    return folder / "run"


def extract(manifest: str, media: Path, out: Path, *words: str) -> None:
    from data_prep.cli import app

    arguments = [str(media / manifest), "--out", str(out), "--audio", "logmel", "--task", "funny=binary", *words]
    with pytest.raises(SystemExit) as ended:
        app(["extract", *arguments])
    assert ended.value.code == 0


@pytest.fixture
def predict(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit code and what stands on stderr."""

    def call(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(run), "--out", str(tmp_path / "out.jsonl"), "--overwrite", *map(str, words)])
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_clip_is_answered_as_it_was_from_the_store(
    run: Path, media: Path, tmp_path: Path, predict: Callable[..., tuple[int, str]]
):
    store = FeatureStore(run.parent / "store")
    model = mmtrain.load(run)
    assert predict("--store", store.path)[0] == 0
    stored = {str(row["id"]): row for row in rows(tmp_path)}
    assert predict("--manifest", media / "clips.csv")[0] == 0
    assert {str(row["id"]): row for row in rows(tmp_path)} == stored
    for number in range(6):
        words = ["--without", "audio"] if number == 5 else []
        code, said = predict("--media", media / f"{number}.mp4", "--subtitles", media / f"{number}.srt", *words)
        assert code == 0, said
        (row,) = rows(tmp_path)
        assert row | {"id": f"clip-{number}"} == pytest.approx(stored[f"clip-{number}"], abs=1e-6)
        inputs = {name: store.rows(name, number) for name in ("audio", "video")}
        answer = model.predict(text=store.text(number), **inputs)["funny"]
        assert row["funny.probability"] == pytest.approx(answer.probability, abs=1e-6)
    assert stored["clip-5"]["missing"] == "audio"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.slow
def test_a_long_clip_is_seen_in_windows(media: Path, tmp_path: Path, predict: Callable[..., tuple[int, str]]):
    """The flash, the beep and the second line are in the last two windows alone."""
    words = ["--subtitles", media / "0.srt", "--window", "1.5", "--every", "1"]
    assert predict("--media", media / "0.mp4", *words)[0] == 0
    found = rows(tmp_path)
    times = [(row["from_second"], row["to_second"]) for row in found]
    assert times[:3] == [(0, 1.5), (1, 2.5), (2, 3.5)]
    assert times[3] == pytest.approx((3, 4), abs=0.1)
    assert [row["missing"] for row in found[:4]] == ["", "", "", ""]
    table = media / "windows.csv"
    table.write_text("id,video,subtitles,start,end\na,0.mp4,0.srt,2,3.5\n")
    assert predict("--manifest", table)[0] == 0
    assert rows(tmp_path)[0]["funny.probability"] == pytest.approx(found[2]["funny.probability"], abs=1e-6)


@pytest.mark.slow
def test_what_a_clip_lacks_is_said(media: Path, tmp_path: Path, predict: Callable[..., tuple[int, str]]):
    code, said = predict("--media", media / "5.mp4")
    assert code == 2
    report = tmp_path / "out.jsonl.failures.jsonl"
    assert "error: 1 sample cannot be read. The first: sample '5', audio " in said
    assert "the file has no audio track" in said
    assert f"All: {report}. --without audio answers all by what else they have\n" in said
    assert [json.loads(line)["id"] for line in report.read_text().splitlines()] == ["5"]
    code, said = predict("--media", media / "5.mp4", "--without", "audio")
    assert code == 0, said
    (tmp_path / "broken.mp4").write_bytes((media / "0.mp4").read_bytes()[:500])
    table = tmp_path / "some.csv"
    (tmp_path / "fine.mp4").write_bytes((media / "0.mp4").read_bytes())
    table.write_text("id,video\na,broken.mp4\nb,fine.mp4\n")
    code, said = predict("--manifest", table)
    assert (code, "error: 1 sample cannot be read. The first: sample 'a'" in said) == (2, True)
    assert "--skip-bad answers the others; --without" in said
    code, said = predict("--manifest", table, "--skip-bad")
    assert code == 0
    assert [row["id"] for row in rows(tmp_path)] == ["b"]
    failure = json.loads(report.read_text())
    assert (failure["id"], failure["kept"]) == ("a", False)
    assert f"1 sample left out, see {report}\n" in said
    (tmp_path / "said.srt").write_bytes(b"1\n00:00:00,000 --> 00:00:01,000\n\xe9t\xe9\n")
    table.write_text("id,video,subtitles\nb,fine.mp4,said.srt\n")
    code, said = predict("--manifest", table)
    assert code == 0
    flaw = json.loads(report.read_text())
    assert ("read as cp1252" in flaw["reason"], flaw["kept"]) == (True, True)
    assert f"1 sample kept with flaws in the text, see {report}\n" in said
    assert said.count("failures.jsonl") == 1
    assert "cp1252" not in said
    assert not list(tmp_path.glob(".out.jsonl*"))


@pytest.mark.slow
def test_modalities_that_no_clip_has_are_missing(tmp_path: Path, predict: Callable[..., tuple[int, str]]):
    """Also such as were extracted with options of their own, here the size of pictures."""
    code, said = predict("--text", "stop right there")
    assert code == 0, said
    words = rows(tmp_path)[0]["missing"]
    assert words == "audio, video"
    table = tmp_path / "empty.csv"
    table.write_text("id,text,video\na,stop right there,\n")
    code, said = predict("--manifest", table)
    assert code == 0, said
    assert rows(tmp_path)[0]["missing"] == words
    write_video(tmp_path / "clip.mp4", delay=0.1, rate=None)
    code, said = predict("--media", tmp_path / "clip.mp4", "--without", "audio")
    assert code == 0, said
    assert rows(tmp_path)[0]["missing"] == "text, audio"


def stop(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_what_was_extracted_stays_until_it_is_answered(
    run: Path, media: Path, tmp_path: Path, predict: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
):
    """A prediction that ends behind the extraction; the next one opens no file, until one of them changes."""
    import data_prep.extract as extraction
    from mmtrain.inference import sources

    calls = []
    whole = extraction.extract
    monkeypatch.setattr(extraction, "extract", lambda *words, **named: calls.append(words) or whole(*words, **named))
    with monkeypatch.context() as patch:
        patch.setattr(sources, "predict_store", stop)
        with pytest.raises(KeyboardInterrupt):
            sources.predict_source(run, Predicting(out=tmp_path / "out.jsonl"), media / "clips.csv", is_manifest=True)
    assert predict("--manifest", media / "clips.csv")[0] == 0
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert predict("--manifest", media / "clips.csv")[0] == 0
    assert len(calls) == 2, "an answered extraction is gone"


@pytest.mark.slow
def test_features_with_other_settings_are_refused(media: Path, tmp_path: Path, predict: Callable[..., tuple[int, str]]):
    extract("clips.csv", media, tmp_path / "fast", "--video", "pixels", "--size", "16", "--frames-per-second", "4")
    code, said = predict("--store", tmp_path / "fast")
    assert code == 2
    assert "video is not from the extractor that this model learned from: beside dataset 'clips' it has" in said
    assert "frames_per_second 4.0 for 2.0" in said
    extract("clips.csv", media, tmp_path / "large", "--video", "pixels", "--size", "20", "--frames-per-second", "2")
    assert "rows of video are (3, 20, 20), the model reads (3, 16, 16)" in predict("--store", tmp_path / "large")[1]


@pytest.mark.slow
def test_a_resampled_store_keeps_what_made_it(run: Path, tmp_path: Path, predict: Callable[..., tuple[int, str]]):
    """`filter` makes a store of a store; the extractors are those of the first."""
    from data_prep.cli import app

    with pytest.raises(SystemExit):
        app(["filter", str(run.parent / "store"), "--where", "funny == 1", "--out", str(tmp_path / "some")])
    assert predict("--store", tmp_path / "some")[0] == 0
    assert len(rows(tmp_path)) == sum(LABELS)
    assert np.isfinite([float(str(row["funny.probability"])) for row in rows(tmp_path)]).all()
