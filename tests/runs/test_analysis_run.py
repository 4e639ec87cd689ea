"""Looks at a trained run: robustness as masks would have it, importance, groups, data map, attention, and their refusals."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from data_prep.synth import synthesize
from mmtrain import load
from mmtrain.analysis.attention import record_attention
from mmtrain.analysis.linear_probe import fused_vectors
from mmtrain.analysis.robustness import measure_robustness
from mmtrain.cli import main
from mmtrain.config import load_experiment
from mmtrain.data.batch import MaskedSequence
from mmtrain.data.dataset import Stream
from mmtrain.errors import ConfigError
from mmtrain.evaluation.data_map_file import read_data_map
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.trained import load_trained
from mmtrain.training import train_experiment

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of four steps, that reads text, audio and video."""
    place = tmp_path_factory.mktemp("analysis")
    values = deepcopy(base_experiment) | {"runs": str(place), "regularizers": {}, "tasks": {}}
    values["model"]["sequences"] = {"audio": {"name": "linear"}, "video": {"name": "linear"}}
    values["training"] |= {"steps_per_epoch": 4, "eval_every": None, "checkpoint_every": None, "train_predictions": True}
    file = place / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    train_experiment(file, [])
    return place / "run"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        return (end.value.code or 0, *capsys.readouterr())  # type: ignore[return-value]

    return run


def average_precision(folder: Path, hidden: tuple[str, ...]) -> float:
    """Of the task funny over the val samples, each alone in its batch, with the masks of some modalities made False."""
    found = load_trained(folder, split="val")
    scores, labels = [], []
    for number, stream in enumerate(found.streams):
        values, labelled = stream.labels("funny")
        for position in np.flatnonzero(labelled):
            batch = found.parts.collate([stream.sample(int(position))], [number])
            inputs = {
                name: MaskedSequence(item.values, item.mask & (name not in hidden)) for name, item in batch.inputs.items()
            }
            with torch.inference_mode():
                scores.append(float(found.parts.model.eval()(inputs).logits["funny"]))
            labels.append(values[position])
    return float(average_precision_score(labels, scores))


def test_a_dropped_modality_is_a_mask_of_false(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = ["drop=0.5,1", "noise=1", "truncate=", "word_dropout=", "typos=1"]
    readings, areas = measure_robustness(trained, split="val", levels=levels, repeats=2)
    value = {(row.perturbation, row.modality, row.level): row for row in readings if row.task == "funny"}
    for kept in (("text", "audio", "video"), ("text", "audio"), ("video",)):
        expected = average_precision(trained, tuple({"text", "audio", "video"} - set(kept)))
        assert value["subset", "+".join(kept), None].value == pytest.approx(expected, abs=1e-5)
    clean = value["subset", "text+audio+video", None].value
    assert value["drop", "video", 1.0].value == value["subset", "text+audio", None].value
    assert value["drop", "video", 0.0].value == value["noise", "audio", 0.0].value == clean
    # by a loop over the stores: who of val has no video, or no audio
    found = load_trained(trained, split="val")
    samples = [stream.sample(position) for stream in found.streams for position in range(len(stream))]
    for name in ("video", "audio"):
        count = sum(name not in sample.features for sample in samples)
        assert value["subset", name, None].num_without_any == count > 0
    assert value["subset", "text+audio+video", None].num_without_any == 0
    assert value["noise", "audio", 1.0].repeats == 2
    assert value["noise", "audio", 1.0].value != clean
    assert value["typos", "text", 1.0].value != clean
    file = trained / "evaluation" / "val-robustness.json"
    written = json.loads(file.read_text())
    assert (written["split"], written["checkpoint"]) == ("val", (trained / "checkpoints" / "best").resolve().name)
    assert {"perturbation", "modality", "level", "task", "metric", "value"} <= set(written["rows"][0])
    assert len(written["areas"]) == len(areas) == 3 * (3 + 2 + 1)  # tasks x (dropped + noisy + misspelled modalities)
    area = next(row for row in written["areas"] if (row["modality"], row["task"]) == ("text", "funny"))
    points = [value["drop", "text", level].value for level in (0.0, 0.5, 1.0)]
    assert area["area"] == pytest.approx((points[0] + 2 * points[1] + points[2]) / 4)
    assert area["relative_area"] == pytest.approx(area["area"] / clean)
    page = file.with_suffix(".md").read_text()
    assert "## Every subset of the modalities" in page
    assert "## drop, by share of samples" in page
    assert "written: " in capsys.readouterr().out


def test_importance_and_groups(trained: Path, command: Run) -> None:
    code, out, error = command("evaluate", str(trained), "--importance", "--groups", "--repeats", "2")
    assert (code, error) == (0, "")
    rows = json.loads((trained / "evaluation" / "val-importance.json").read_text())["rows"]
    assert len(rows) == 3 * 3
    tasks = [row["task"] for row in rows]
    assert tasks == sorted(tasks, key=tasks.index)
    for row in rows:
        assert row["repeats"] == 2
        assert row["drop"] is None or row["drop"] == pytest.approx(row["value"] - row["permuted"])
    drops = [row["drop"] for row in rows if row["task"] == "funny"]
    assert drops == sorted(drops, reverse=True)
    assert rows[0]["value"] == pytest.approx(average_precision(trained, ()), abs=1e-5)
    written = json.loads((trained / "evaluation" / "val-groups.json").read_text())["tasks"]
    predictions = read_predictions(trained / "predictions" / "val.parquet")
    assert set(written) == set(predictions)
    for task, item in predictions.items():
        assert sum(group["num_samples"] for group in written[task]["groups"]) == len(item)
        worst = written[task]["groups"][0]
        own = item.losses[(item.streams == worst["stream"]) & (item.groups == worst["group"])]
        assert worst["loss"] == pytest.approx(own.mean(dtype=np.float64))
    assert "groups with the highest loss" in out


def test_a_linear_probe_reads_the_vectors_that_a_loaded_model_gives(trained: Path, command: Run) -> None:
    code, out, error = command("evaluate", str(trained), "--probe")
    assert (code, error) == (0, "")
    assert "Linear probe of the fused vectors" in out
    written = json.loads((trained / "evaluation" / "val-probe.json").read_text())
    assert written["checkpoint"] == (trained / "checkpoints" / "best").resolve().name
    found, model = load_trained(trained, split="val"), load(trained)
    stores = {stream.name: stream.store for stream in found.streams}
    assert {(row["stream"], row["task"]) for row in written["rows"]} == {
        *(("clips", "funny"), ("clips", "mood"), ("calls", "funny"))
    }
    for row in written["rows"]:
        store, task = stores[row["stream"]], row["task"]
        parts = []
        for split in ("train", "val"):
            stream = Stream(row["stream"], store, split=split, tasks=[task], modalities=("text", "audio", "video"))
            samples = [stream.sample(position) for position in range(len(stream))]
            vectors = np.concatenate([model.logits([sample], batch_size=1)[1] for sample in samples])
            assert fused_vectors(found, stream) == pytest.approx(vectors, abs=1e-5)
            parts += [vectors, np.array([sample.labels[task] for sample in samples])]
        inputs, targets, others, truth = parts
        mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
        fitted = LogisticRegression(max_iter=5000).fit((inputs - mean) / deviation, targets)
        accuracy = float(np.mean(fitted.predict((others - mean) / deviation) == truth))
        assert row["accuracy"] == pytest.approx(accuracy, abs=1.001 / len(truth))  # rounding may move one sample
        assert (row["num_train"], row["num_samples"]) == (len(targets), len(truth))
        assert row["majority"] == np.mean(truth == np.bincount(targets.astype(int)).argmax())
        assert row["low"] <= row["accuracy"] <= row["high"]


def of_pitch(base_experiment: dict[str, Any], store: Path, folder: Path) -> Path:
    """A run that learns the task pitch of a store from audio, and nothing else."""
    values = deepcopy(base_experiment) | {"runs": str(folder), "regularizers": {}, "tasks": {}}
    values |= {"datasets": {"calls": {"store": str(store)}}, "streams": {"calls": {"dataset": "calls", "tasks": ["pitch"]}}}
    values["model"] |= {"text": None, "sequences": {"audio": {"name": "mean"}}}
    values["training"] |= {"epochs": 1, "steps_per_epoch": 4, "eval_every": None, "checkpoint_every": None}
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    train_experiment(file, [])
    return folder / "run"


def test_a_linear_probe_of_what_the_run_did_not_learn(base_experiment: dict[str, Any], tmp_path: Path, command: Run) -> None:
    run = of_pitch(base_experiment, Path(base_experiment["datasets"]["calls"]["store"]), tmp_path)
    assert command("evaluate", str(run), "--probe", "--split", "test")[0] == 0
    (row,) = json.loads((run / "evaluation" / "test-probe.json").read_text())["rows"]
    assert (row["stream"], row["task"]) == ("calls", "funny")
    assert len((run / "test_reads.jsonl").read_text().splitlines()) == 1
    code, _, error = command("evaluate", str(run), "--probe", "--split", "train")
    assert code == 2
    assert "--probe: it learns from train, and is scored on another split; write --split val or --split test" in error
    code, _, error = command("evaluate", str(run), "--probe", "--from-predictions")
    assert code == 2
    assert "leave --checkpoint, --robustness and the like out" in error


def test_a_probe_without_classes_is_refused(base_experiment: dict[str, Any], tmp_path: Path, command: Run) -> None:
    synthesize(tmp_path / "tones", samples=40, modalities={"audio": 6}, tasks={"pitch": "regression"}, seed=1)
    run = of_pitch(base_experiment, tmp_path / "tones", tmp_path)
    code, _, error = command("evaluate", str(run), "--probe")
    assert code == 2
    assert "has a binary or multiclass task with labels in train and val" in error


def test_the_data_map_of_a_run(trained: Path, command: Run) -> None:
    code, out, _ = command("datamap", str(trained))
    assert code == 0
    rows = read_data_map(trained / "evaluation" / "data_map.parquet").to_pylist()
    epochs = [read_predictions(trained / "predictions" / f"train-epoch-000{epoch}.parquet")["mood"] for epoch in (1, 2)]
    mood = {row["id"]: row for row in rows if row["task"] == "mood"}
    assert set(mood) == set(epochs[0].ids.tolist())
    for place, name in enumerate(epochs[0].ids.tolist()):
        truth = int(epochs[0].labels[place])
        each = [float(item.probabilities[place, truth]) for item in epochs]
        assert mood[name]["confidence"] == pytest.approx(sum(each) / 2)
        assert mood[name]["variability"] == pytest.approx(abs(each[0] - each[1]) / 2)
        right = [int(item.probabilities[place].argmax()) == truth for item in epochs]
        assert mood[name]["forgetting_events"] == (right == [True, False])
        assert mood[name]["first_learned"] == (None if not any(right) else 1 + right.index(True))
    assert {row["task"] for row in rows} == {"funny", "mood"}
    assert "left out, since they have no probability of a true label: pitch" in out


def test_a_run_is_paced_by_the_map_of_another(trained: Path, tmp_path: Path) -> None:
    from mmtrain.parts import build_parts, stream_specs

    assert not main_code("datamap", str(trained))
    pacing = {"name": "competence", "difficulty": {"name": "data_map", "file": "x", "column": "variability"}}
    values = yaml.safe_load((trained / "config.yaml").read_text())
    values["curriculum"]["pacing"] = pacing | {"difficulty": pacing["difficulty"] | {"file": str(trained / MAP)}}
    for stream in values["streams"].values():
        stream["tasks"] = [task for task in stream["tasks"] if task != "pitch"]
    values["tasks"].pop("pitch", None)
    file = tmp_path / "paced.yaml"
    file.write_text(yaml.safe_dump(values))
    experiment = load_experiment(file)
    parts = build_parts(experiment, weights=False)
    specs = stream_specs(experiment, parts.train_streams, parts.objective)
    assert all(spec.difficulty is not None and len(spec.difficulty) == spec.size for spec in specs)


MAP = "evaluation/data_map.parquet"


def main_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_attention_with_words_and_without(trained: Path, command: Run) -> None:
    found = load_trained(trained, split="val")
    clips = next(stream for stream in found.streams if stream.name == "clips")
    present = clips.present()
    whole = int(np.flatnonzero(present["text"] & present["audio"] & present["video"])[0])
    sample = clips.sample(whole)
    code, _, error = command("attention", str(trained), sample.id)
    assert (code, error) == (0, "")
    written = json.loads((trained / "evaluation" / "attention" / f"{sample.id}.json").read_text())
    assert (written["id"], written["split"], written["stream"]) == (sample.id, "val", "clips")
    tokens = found.parts.collate.tokenizer
    assert tokens is not None
    assert written["labels"]["text"] == tokens.tokenizer.convert_ids_to_tokens(tokens([sample.text])[0])
    assert written["labels"]["text"][0] == "[CLS]"
    assert [len(written["labels"][name]) for name in ("audio", "video")] == [
        len(sample.features[name]) for name in ("audio", "video")
    ]
    assert written["labels"]["query"] == ["query"]
    sums: dict[str, Any] = {}
    for item in written["maps"]:
        weights = np.array(item["weights"])
        assert weights.shape == (len(written["labels"][item["query"]]), len(written["labels"][item["key"]]))
        sums[item["query"]] = sums.get(item["query"], 0) + weights.sum(axis=1)
    assert set(sums) == {"query", "text", "audio", "video"}
    for rows in sums.values():
        assert rows == pytest.approx(np.ones(len(rows)), abs=1e-4)


def test_samples_that_are_not_there(trained: Path, command: Run) -> None:
    found = load_trained(trained, split="train")
    name = found.streams[0].sample(0).id
    message = rf"split 'val' has no sample '{name}'; it is in another one: --split train"
    with pytest.raises(ConfigError, match=message):
        record_attention(trained, name, split="val")
    with pytest.raises(ConfigError, match="split 'val' has no sample 'nobody' in any of its streams"):
        record_attention(trained, "nobody", split="val")
    with pytest.raises(ConfigError, match="--stream: 'talks' is none of this run's: "):
        record_attention(trained, name, split="train", stream="talks")
    stores = {stream.name: stream for stream in load_trained(trained, split="val").streams}
    for stream in stores.values():
        members = stream.store.split("val")
        silent = [index for index in members if index not in stream.indices]
        for index in silent[:1]:
            with pytest.raises(ConfigError, match="with a label of one of the tasks of its streams"):
                record_attention(trained, stream.store.sample_id(int(index)), split="val")
    assert command("evaluate", str(trained), "--split", "nowhere")[0] == 2


def test_several_samples_of_one_id(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    import mmtrain.analysis.attention as module

    load = module.load_trained

    def alike(*arguments: Any, **named: Any) -> Any:
        found = load(*arguments, **named)
        for stream in found.streams:
            table = stream.store.table
            ids = pa.array([f"s{number}" for number in range(len(table))])
            stream.store.__dict__["table"] = table.set_column(table.column_names.index("id"), "id", ids)
        return found

    monkeypatch.setattr(module, "load_trained", alike)
    both = load_trained(trained, split="val").streams
    shared = sorted(set(both[0].indices.tolist()) & set(both[1].indices.tolist()))
    assert shared, "or this tests nothing"
    with pytest.raises(
        ConfigError, match=rf"several streams have a sample 's{shared[0]}'; write --stream \w+ or --stream \w+"
    ):
        record_attention(trained, f"s{shared[0]}", split="val")
    file = record_attention(trained, f"s{shared[0]}", split="val", stream="calls")
    assert json.loads(file.read_text())["stream"] == "calls"


def test_options_that_ask_for_nothing(trained: Path, command: Run) -> None:
    code, _, error = command("evaluate", str(trained), "--levels", "drop=1")
    assert (code, "--levels: they are those of --robustness; write both" in error) == (2, True)
    code, _, error = command("evaluate", str(trained), "--repeats", "3")
    assert (code, "--repeats: nothing is repeated without --robustness or --importance" in error) == (2, True)
    code, _, error = command("evaluate", str(trained), "--robustness", "--levels", "drop=2")
    assert (code, "2 is no level of drop" in error) == (2, True)


def test_runs_without_what_it_takes(small_run: Callable[..., Any], command: Run, tmp_path: Path) -> None:
    run = small_run(training={"epochs": 1, "steps_per_epoch": 2, "eval_every": None, "checkpoint_every": None})
    from mmtrain.engine.loop import fit
    from mmtrain.engine.state import RunState

    fit(run, RunState())
    folder = run.folder.path
    code, _, error = command("datamap", str(folder))
    assert code == 2
    assert "has training predictions of 0 epochs, a data map needs two or more; training.train_predictions: true" in error
    assert command("datamap", str(tmp_path))[0] == 2
    sample = load_trained(folder, split="val").streams[0].sample(0).id
    with pytest.raises(
        ConfigError, match=r"the fusion concat has no attention between rows; those that have some are early_co"
    ):
        record_attention(folder, sample, split="val")
