"""A trained model on new data: the Python API, the command, the package and the evaluation say the same of every sample."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import safetensors.torch
from lives import live, live_together
from safetensors import SafetensorError

import mmtrain
from mmtrain.cli import main
from mmtrain.data.dataset import Sample
from mmtrain.data.store import FeatureStore
from mmtrain.errors import CheckpointError, ConfigError, DataError
from mmtrain.inference import predict as predicting
from mmtrain.inference.predict import Predicting, predict_store
from mmtrain.inference.trained_model import TrainedModel

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def model(trained: Path) -> TrainedModel:
    return mmtrain.load(trained)


@pytest.fixture
def clips(run_stores: Path) -> FeatureStore:
    return FeatureStore(run_stores / "clips")


def inputs_of(store: FeatureStore, index: int) -> dict[str, Any]:
    return {"text": store.text(index), **{name: store.rows(name, index) for name in store.schema.modalities}}


def read_rows(file: Path) -> Rows:
    return {row["id"]: row for row in pq.read_table(file).to_pylist()}


def command(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command that ends with code 2 says, without its `error: `."""

    def refuse(*words: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().removeprefix("error: ")

    return refuse


def test_the_api_says_of_every_test_sample_what_the_evaluation_said(trained: Path, model: TrainedModel, run_stores: Path):
    """Logits, probabilities behind the temperature of validation, and decisions at its threshold."""
    for name in ("clips", "calls"):
        store = FeatureStore(run_stores / name)
        numbers = {store.sample_id(index): index for index in range(len(store))}
        said = pq.read_table(trained / "predictions/test.parquet").filter(pc.field("stream") == name).to_pylist()
        assert {row["task"] for row in said} == {"clips": {"funny", "mood"}, "calls": {"funny", "pitch"}}[name]
        for row in said:
            task, answer = row["task"], model.predict(**inputs_of(store, numbers[row["id"]]))[row["task"]]
            np.testing.assert_allclose(np.atleast_1d(answer.logits), row["logits"], atol=1e-5)
            if task == "pitch":
                assert answer.label == pytest.approx(row["probability"][0], abs=1e-4)
                continue
            np.testing.assert_allclose(np.atleast_1d(answer.probability), row["calibrated"], atol=1e-5)
            label = model.signature.tasks["mood"].classes[row["decision"][0]] if task == "mood" else row["decision"][0]
            assert answer.label == label
    assert model.decisions["funny"].temperature != 1.0


def test_labels_follow_from_probabilities(model: TrainedModel, clips: FeatureStore):
    answers = model.predict(**inputs_of(clips, 3))
    assert answers["funny"].label == int(answers["funny"].probability > 0.5)
    classes = model.signature.tasks["mood"].classes
    assert answers["mood"].label == classes[int(np.argmax(answers["mood"].probability))]
    assert answers["pitch"].probability is None
    assert isinstance(answers["pitch"].label, float)
    assert isinstance(answers["funny"].probability, float)
    assert answers["mood"].probability.sum() == pytest.approx(1)


def test_a_batch_is_its_samples_one_by_one(model: TrainedModel, clips: FeatureStore):
    chosen = [inputs_of(clips, index) for index in range(7)]
    chosen[2]["text"], chosen[3]["audio"], chosen[4]["video"] = None, None, None
    batch = {name: [sample[name] for sample in chosen] for name in ("text", "audio", "video")}
    together = model.predict(**batch, batch_size=3)
    for number, sample in enumerate(chosen):
        alone = model.predict(**{name: value for name, value in sample.items() if value is not None})
        for task, answer in alone.items():
            np.testing.assert_allclose(together[task].logits[number], answer.logits, atol=1e-5)
            assert together[task].label[number] == (
                pytest.approx(answer.label, abs=1e-4) if task == "pitch" else answer.label
            )


def test_a_modality_left_out_is_one_that_is_missing(model: TrainedModel, clips: FeatureStore):
    whole = next(inputs for index in range(len(clips)) if all(map(len, (inputs := inputs_of(clips, index)).values())))
    without = model.predict(text=whole["text"], video=whole["video"])
    empty = model.predict(text=whole["text"], video=whole["video"], audio=np.zeros((0, 6)))
    assert without["funny"].logits == pytest.approx(empty["funny"].logits, abs=1e-6)
    assert without["funny"].logits != model.predict(**whole)["funny"].logits


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "nothing was given"),
        ({"text": ""}, "sample 0 has none of what the model reads (text, audio, video)"),
        ({"text": "a", "face": np.zeros((2, 3))}, "reads no 'face'; it reads text, audio, video"),
        ({"audio": np.zeros((4, 5))}, "sample '0': audio has the shape (4, 5); rows [T, D] of (6,) each were expected"),
        ({"audio": np.zeros(6)}, "audio has the shape (6,)"),
        ({"audio": np.full((2, 6), np.nan)}, "sample '0': audio holds NaN or Inf"),
        ({"audio": np.array([["a"] * 6])}, "audio holds <U1"),
        ({"text": 3}, "text is int, not a str"),
        ({"text": ["a", "b"], "audio": np.zeros((2, 6))}, "audio is one value, where others are lists"),
        ({"text": ["a", "b"], "audio": [None]}, "2 of text, 1 of audio"),
        ({"text": []}, "the lists are empty"),
    ],
)
def test_what_cannot_be_read_is_said(model: TrainedModel, given: dict[str, Any], words: str):
    with pytest.raises(DataError) as complaint:
        model.predict(**given)
    assert words in str(complaint.value)


def test_the_command_writes_what_the_api_says(trained: Path, model: TrainedModel, clips: FeatureStore, tmp_path: Path):
    command("predict", str(trained), "--store", str(clips.path), "--out", str(tmp_path / "a.parquet"), "--embeddings")
    rows = read_rows(tmp_path / "a.parquet")
    assert list(rows) == [clips.sample_id(index) for index in range(len(clips))]
    for index in range(0, len(clips), 9):
        row, answers = (
            rows[clips.sample_id(index)],
            model.predict(**inputs_of(clips, index) | {"text": clips.text(index) or "x"}),
        )
        if not clips.text(index):
            assert "text" in row["missing"].split(", ")
            continue
        assert row["funny"] == answers["funny"].label
        assert row["funny.probability"] == pytest.approx(answers["funny"].probability, abs=1e-5)
        assert row["mood"] == answers["mood"].label
        for number, name in enumerate(model.signature.tasks["mood"].classes):
            assert row[f"mood.probability.{name}"] == pytest.approx(answers["mood"].probability[number], abs=1e-5)
        assert row["pitch"] == pytest.approx(answers["pitch"].label, abs=1e-4)
        lacking = [name for name in ("audio", "video") if not len(clips.rows(name, index))]
        assert row["missing"] == ", ".join(lacking)
        assert len(row["embedding"]) == 8


def test_csv_and_json_lines_hold_the_same(trained: Path, clips: FeatureStore, tmp_path: Path):
    for suffix in ("parquet", "csv", "jsonl"):
        command("predict", trained, "--store", clips.path, "--split", "test", "--out", tmp_path / f"a.{suffix}")
    expected = read_rows(tmp_path / "a.parquet")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "a.csv").open(newline="") as handle:
        cells = list(csv.DictReader(handle))
    assert len(lines) == len(cells) == len(expected) == len(clips.split("test"))
    for line, row in zip(lines, cells, strict=True):
        assert line == expected[line["id"]]
        assert {name: str(value) for name, value in line.items()} == row


def test_a_stopped_prediction_goes_on_to_the_same_file(
    model: TrainedModel, clips: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(predicting, "PART", 20)
    predict_store(model, clips, Predicting(out=tmp_path / "whole.parquet"))
    real, seen = TrainedModel.logits, []

    def count(self: TrainedModel, samples: Any, *, batch_size: int) -> Any:
        seen.append(samples[0].id)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(self, samples, batch_size=batch_size)

    monkeypatch.setattr(TrainedModel, "logits", count)
    asked = Predicting(out=tmp_path / "parts.parquet")
    with pytest.raises(KeyboardInterrupt):
        predict_store(model, clips, asked)
    assert not asked.out.exists()
    predict_store(model, clips, asked)
    assert [clips.sample_id(index) for index in (0, 20, 40, 40, 60, 80)] == seen
    assert asked.out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.parquet", "whole.parquet"]


def test_a_text_of_blanks_alone_is_missing(model: TrainedModel):
    sample = Sample(id="a", index=0, text=" \n", features={"audio": np.ones((1, 6), np.float32)}, labels={})
    assert predicting._lacking(model, sample) == ["text", "video"]
    assert predicting._lacking(model, replace(sample, text="fish", features={})) == ["audio", "video"]


def test_parts_of_another_question_are_not_used(model: TrainedModel, clips: FeatureStore, tmp_path: Path):
    asked = Predicting(out=tmp_path / "a.parquet")
    key = predicting._key(model, clips, asked)
    others = [replace(asked, split="test"), replace(asked, embeddings=True), replace(asked, skip_bad=True)]
    assert len({key, *(predicting._key(model, clips, other) for other in others)}) == 4
    folder = tmp_path / ".a.parquet.parts"
    predicting._open(folder, "another")
    (folder / "part-000000.parquet").write_text("not to be read")
    predict_store(model, clips, asked)
    assert len(read_rows(asked.out)) == len(clips)


def test_a_package_says_the_same_where_neither_run_nor_stores_are(
    trained: Path, model: TrainedModel, clips: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command("pack", str(trained), "--out", str(tmp_path / "packed"))
    packed = tmp_path / "elsewhere"
    (tmp_path / "packed").rename(packed)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse_paths_below(Path.open, trained))
        again = mmtrain.load(packed)
    assert again.identity == model.identity
    for index in range(5):
        for task, answer in model.predict(**inputs_of(clips, index)).items():
            np.testing.assert_array_equal(again.predict(**inputs_of(clips, index))[task].logits, answer.logits)
    card = (packed / "README.md").read_text()
    assert "answers funny, pitch, mood" in card
    assert "| funny | all | average_precision |" in card
    twice = tmp_path / "twice"
    again.save_pretrained(twice)
    assert (twice / "README.md").read_text() == card
    assert TrainedModel.from_pretrained(str(twice)).identity == model.identity


def refuse_paths_below(real: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    def opened(self: Path, *words: Any, **named: Any) -> Any:
        assert folder not in self.parents
        return real(self, *words, **named)

    return opened


def test_a_card_shows_what_was_measured_of_these_weights_alone(trained: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    assert set(mmtrain.load(run).measured) == {"val", "test"} & {file.stem for file in (run / "evaluation").glob("*.json")}
    table = run / "evaluation" / "test.json"
    table.write_text(json.dumps(json.loads(table.read_text()) | {"step": 1}))
    assert "test" not in mmtrain.load(run).measured


def test_a_package_replaces_packages_alone(trained: Path, tmp_path: Path, refused: Callable[..., str]):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years")
    assert refused("pack", trained, "--out", str(folder), "--overwrite") == f"{folder} is no package and is not replaced"
    assert (folder / "thesis.tex").read_text() == "years"
    command("pack", str(trained), "--out", str(tmp_path / "packed"))
    assert refused("pack", trained, "--out", str(tmp_path / "packed")).endswith("exists already; pass --overwrite")
    command("pack", str(trained), "--out", str(tmp_path / "packed"), "--overwrite")
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_package_that_the_disk_refuses_is_said_and_leaves_nothing(
    trained: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", refuse)
    said = refused("pack", trained, "--out", str(tmp_path / "packed"))
    assert said == f"{tmp_path / 'packed'} could not be written: I/O error: No space left on device (os error 28)"
    assert list(tmp_path.iterdir()) == []


def copied(clips: FeatureStore, folder: Path, **changes: Any) -> Path:
    """The store again, with other words in dataset.json."""
    folder.mkdir()
    for file in clips.path.iterdir():
        (folder / file.name).symlink_to(file)
    schema = json.loads((clips.path / "dataset.json").read_text())
    for name, values in changes.items():
        schema["modalities"][name] |= values
    (folder / "dataset.json").unlink()
    (folder / "dataset.json").write_text(json.dumps(schema))
    return folder


def test_features_of_another_extractor_are_refused(
    trained: Path, clips: FeatureStore, tmp_path: Path, refused: Callable[..., str]
):
    other = copied(clips, tmp_path / "other", audio={"extractor": "hubert", "extractor_version": "2"})
    message = refused("predict", trained, "--store", str(other), "--out", str(tmp_path / "a.csv"))
    assert message == (
        f"{other}: audio is not from the extractor that this model learned from: beside dataset 'calls' it has extractor "
        "'hubert' for 'synth'; extractor_version '2' for '1'. Extract it alike"
    )


def test_new_rows_are_normalized_as_those_of_the_training(model: TrainedModel, clips: FeatureStore, tmp_path: Path):
    """Whatever statistics the new store has of its own: the run's count."""
    source = model.signature.modalities["audio"].sources["clips"]
    statistics = {"rows": 9, "mean": [1.0] * 6, "deviation": [2.0] * 6, "normalize": True}
    normalized = deepcopy(model)
    normalized.signature = model.signature.model_validate(with_statistics(model.signature.model_dump(), statistics))
    rows = clips.stored_rows("audio", next(i for i in range(len(clips)) if len(clips.stored_rows("audio", i))))
    expected = model.predict(audio=(rows - 1.0) / 2.0)["funny"].logits
    assert normalized.predict(audio=rows)["funny"].logits == pytest.approx(expected, abs=1e-6)
    assert source.statistics is None
    own = FeatureStore(copied(clips, tmp_path / "own", audio={"statistics": statistics}))
    predict_store(model, clips, Predicting(out=tmp_path / "plain.parquet"))
    predict_store(model, own, Predicting(out=tmp_path / "own.parquet"))
    assert (tmp_path / "plain.parquet").read_bytes() == (tmp_path / "own.parquet").read_bytes()


def with_statistics(
    signature: dict[str, Any], statistics: Mapping[str, Any], datasets: str = "clips calls"
) -> dict[str, Any]:
    for name, source in signature["modalities"]["audio"]["sources"].items():
        source["statistics"] = statistics if name in datasets.split() else None
    return signature


def test_where_datasets_are_normalized_differently_one_is_named(model: TrainedModel):
    statistics = {"rows": 9, "mean": [1.0] * 6, "deviation": [2.0] * 6, "normalize": True}
    mixed = deepcopy(model)
    mixed.signature = model.signature.model_validate(with_statistics(model.signature.model_dump(), statistics, "calls"))
    rows = np.ones((3, 6))
    with pytest.raises(DataError, match=r"by the statistics of each dataset \(calls, clips\), which differ; name the one"):
        mixed.predict(audio=rows)
    assert mixed.predict(audio=rows, like="clips")["funny"].logits == model.predict(audio=rows)["funny"].logits
    zeros = model.predict(audio=np.zeros((3, 6)))["funny"].logits
    assert mixed.predict(audio=rows, like="calls")["funny"].logits == zeros
    with pytest.raises(DataError, match="read no audio of a dataset 'films', only of calls, clips"):
        mixed.predict(audio=rows, like="films")


def spoiled(clips: FeatureStore, folder: Path) -> tuple[Path, str]:
    """The store with a NaN in the first sample that has audio, and that sample's id."""
    path = copied(clips, folder)
    file = path / "audio.safetensors"
    content = bytearray(file.read_bytes())
    file.unlink()
    first = next(index for index in range(len(clips)) if len(clips.rows("audio", index)))
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    at = begin + header["values"]["data_offsets"][0]
    content[at : at + 4] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    return path, clips.sample_id(first)


def test_bad_samples_are_named_or_left_out(
    trained: Path, clips: FeatureStore, tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    store, name = spoiled(clips, tmp_path / "spoiled")
    out = tmp_path / "a.jsonl"
    message = refused("predict", trained, "--store", str(store), "--out", str(out))
    assert message == f"{store}, sample '{name}': audio holds NaN or Inf. Leave such samples out with --skip-bad"
    command("predict", str(trained), "--store", str(store), "--out", str(out), "--skip-bad")
    assert "1 bad samples are left out" in capsys.readouterr().out
    assert name not in {json.loads(line)["id"] for line in out.read_text().splitlines()}
    listed = [json.loads(line) for line in (tmp_path / "a.jsonl.bad.jsonl").read_text().splitlines()]
    assert listed == [{"id": name, "reason": f"sample '{name}': audio holds NaN or Inf"}]


def test_a_part_of_bad_samples_alone(
    model: TrainedModel, clips: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, _ = spoiled(clips, tmp_path / "spoiled")
    monkeypatch.setattr(predicting, "PART", 1)
    left_out = predict_store(
        model, FeatureStore(store), Predicting(out=tmp_path / "a.parquet", skip_bad=True, embeddings=True, split=None)
    )
    assert left_out == 1
    assert len(read_rows(tmp_path / "a.parquet")) == len(clips) - 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of --store, --manifest, --media or --text says what is new; here is none of them"),
        (["--text", "a", "--manifest", "m.csv"], "here is --manifest and --text"),
        (["--text", "a", "--split", "test"], "--split: only a --store has splits"),
        (["--text", "a", "--window", "3"], "--subtitles, --window and --every belong to --media"),
        (["--text", "a", "--extractor-weights", "x"], "--extractor-weights x: write extractor=FILE, each extractor once"),
        (["--media", "none.mp4"], "there is no file none.mp4"),
        (["--media", __file__], "neither a video nor a sound file by its name"),
        (["--text", "a", "--without", "face"], "--without face: the model reads text, audio, video"),
    ],
)
def test_what_the_command_refuses(
    trained: Path, tmp_path: Path, words: list[str], message: str, refused: Callable[..., str]
):
    assert message in refused("predict", trained, "--out", str(tmp_path / "a.csv"), *words)
    assert list(tmp_path.iterdir()) == []


def test_the_file_and_its_kind_are_looked_at_before_the_model(tmp_path: Path, refused: Callable[..., str]):
    assert "write a name that ends in .parquet, .csv, .jsonl" in refused(
        "predict", "none", "--store", "s", "--out", tmp_path / "a.txt"
    )
    assert "a CSV has no lists" in refused("predict", "none", "--store", "s", "--out", tmp_path / "a.csv", "--embeddings")
    (tmp_path / "a.csv").touch()
    assert "exists already" in refused("predict", "none", "--store", "s", "--out", tmp_path / "a.csv")
    assert "is not a run folder" in refused("predict", tmp_path, "--store", "s", "--out", str(tmp_path / "b.csv"))


def test_media_of_a_run_that_does_not_say_how_it_made_features(trained: Path, tmp_path: Path, refused: Callable[..., str]):
    (tmp_path / "a.wav").write_bytes(b"")
    said = refused("predict", trained, "--media", tmp_path / "a.wav", "--out", tmp_path / "a.jsonl")
    assert "audio: the run's stores do not say how its rows were extracted (extractor: synth)" in said


@pytest.mark.parametrize("without", [(), ("--without", "audio", "--without", "video")], ids=["nothing-else", "without"])
def test_text_alone_is_answered(trained: Path, model: TrainedModel, tmp_path: Path, without: tuple[str, ...]):
    words = ["--text", "a very funny fish", *without]
    command("predict", str(trained), *words, "--out", str(tmp_path / "a.jsonl"))
    (row,) = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    answer = model.predict(text="a very funny fish")["funny"]
    assert row["funny.probability"] == pytest.approx(answer.probability, abs=1e-6)
    assert row["missing"] == "audio, video"
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_what_is_damaged_or_not_there_is_said(trained: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no model\.safetensors of a package"):
        mmtrain.load(tmp_path)
    with pytest.raises(ConfigError, match="has no checkpoint 'step-9'; it has best, last"):
        mmtrain.load(trained, checkpoint="step-9")
    with pytest.raises(ConfigError, match=r"--weights: .* holds no average"):
        mmtrain.load(trained, weights="average")
    command("pack", str(trained), "--out", str(tmp_path / "packed"))
    with pytest.raises(ConfigError, match="is a package, which holds the weights of one checkpoint"):
        mmtrain.load(tmp_path / "packed", checkpoint="last")
    (tmp_path / "packed/calibration.json").write_text('{"tasks": {"funny": 3}}')
    with pytest.raises(DataError, match=r"calibration\.json is damaged"):
        mmtrain.load(tmp_path / "packed")
    (tmp_path / "packed/signature.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no signature\.json, which a run writes when it begins"):
        mmtrain.load(tmp_path / "packed")


@pytest.mark.slow
def test_two_processes_write_what_one_writes(trained: Path, clips: FeatureStore, tmp_path: Path):
    arguments = ["predict", str(trained), "--store", str(clips.path), "--out"]
    assert live([*arguments, "one.parquet"], cwd=tmp_path, patch=small_parts).code == 0
    lives = live_together([*arguments, "two.parquet"], cwd=tmp_path, world=2, patch=small_parts)
    assert [life.code for life in lives] == [0, 0], lives
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def small_parts() -> None:
    predicting.PART = 16
