"""A run scored: what validation chooses and where it goes, readings of test, metrics of predictions, comparisons."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from data_prep.synth import synthesize
from mmtrain.cli import main
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.errors import ConfigError, DataError
from mmtrain.evaluation.comparing import RunComparison
from mmtrain.evaluation.metrics import metrics
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.rescoring import rescore_run
from mmtrain.run_comparison import compare_folders

pytestmark = pytest.mark.slow
TASKS = {"funny": "binary", "mood": "multiclass", "tags": "multilabel", "tone": "regression"}


def write(folder: Path, name: str, **changes: Any) -> Path:
    experiment = {
        "name": name,
        "runs": str(folder / "runs"),
        "datasets": {"clips": {"store": str(folder / "clips")}},
        "streams": {"clips": {"dataset": "clips", "tasks": list(TASKS)}},
        "tasks": {"funny": {"threshold": "best_f1"}, "tone": {"metrics": {"name": "mosi"}}},
        "model": {"dim": 8, "text": None, "sequences": {"audio": {"name": "mean"}}, "fusion": {"name": "concat"}},
        "training": {"epochs": 1, "steps_per_epoch": 12, "optimizer": {"lr": 0.02}},
        "selection": {"metric": "val/tone/acc7", "mode": "max"},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(experiment | changes), encoding="utf-8")
    return file


def code_of(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of different seeds."""
    folder = tmp_path_factory.mktemp("scored")
    synthesize(folder / "clips", samples=240, modalities={"audio": 6}, tasks=TASKS, groups=60, seed=5)
    for name, seed in (("one", 0), ("two", 1)):
        assert code_of("train", "--config", write(folder, name, seed=seed)) == 0
    return folder / "runs"


def test_a_run_is_scored(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs / "one"
    trained = dict(list(read_jsonl(run / "metrics.jsonl"))[-1]["metrics"])
    assert code_of("evaluate", run, "--split", "test") == 0
    assert not (run / "evaluation" / "val.json").exists()  # validation was looked at for its calibration alone
    chosen = json.loads((run / "calibration.json").read_text())
    assert (chosen["split"], chosen["checkpoint"]) == ("val", "step-00000012")
    assert set(chosen["tasks"]) == {"funny", "mood", "tags"}
    funny = chosen["tasks"]["funny"]
    assert (funny["rule"], funny["thresholds"]["half"], chosen["tasks"]["mood"]["thresholds"]) == ("best_f1", 0.5, {})
    assert "test read 1 time\n" in capsys.readouterr().out
    written = (run / "calibration.json").read_bytes()
    assert code_of("evaluate", run, "--split", "test") == 0
    assert "test read 2 times\n" in capsys.readouterr().out
    assert (run / "calibration.json").read_bytes() == written
    assert code_of("evaluate", run, "--split", "val") == 0
    assert json.loads((run / "calibration.json").read_text()) == chosen  # the same, from the same samples
    reads = list(read_jsonl(run / "test_reads.jsonl"))
    assert [set(read) for read in reads] == [{"time", "command", "checkpoint", "weights", "commit", "user"}] * 2
    assert (reads[0]["checkpoint"], reads[0]["weights"]) == ("step-00000012", "trained")

    rows = [row for row in pq.read_table(run / "predictions" / "test.parquet").to_pylist() if row["task"] == "funny"]
    threshold, temperature = funny["thresholds"]["best_f1"], funny["temperature"]
    for row in rows:
        probability = 1 / (1 + np.exp(-row["logits"][0] / temperature))
        assert row["calibrated"][0] == pytest.approx(probability, abs=1e-6)
        assert row["decision"] == [int(probability > threshold)]
        assert row["probability"][0] == pytest.approx(1 / (1 + np.exp(-row["logits"][0])), abs=1e-6)
    found = json.loads((run / "evaluation" / "test.json").read_text())
    assert found["test_reads"] == 2
    decided = np.mean([row["decision"] == row["label"] for row in rows])
    assert found["metrics"]["test/funny/accuracy"] == pytest.approx(decided)
    assert set(found["calibration"]) == {"funny", "mood", "tags"}
    assert sum(bin_["count"] for bin_ in found["calibration"]["funny"]["after"]["bins"]) == len(rows)
    scored = json.loads((run / "evaluation" / "val.json").read_text())["metrics"]
    same = [name for name in scored if not name.startswith("val/funny") or name.endswith(("auroc", "loss"))]
    assert "val/tone/acc7" in same
    assert [scored[name] for name in same] == pytest.approx([trained[name] for name in same], abs=1e-6, nan_ok=True)
    best = dict(metrics(read_predictions(run / "predictions" / "val.parquet")["funny"]))["f1"]
    assert best == scored["val/funny/f1"] >= trained["val/funny/f1"]


def test_metrics_of_the_predictions_that_are_there(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs / "two"
    monkeypatch.setattr("mmtrain.trained.build_parts", None)  # no model, no store
    assert code_of("evaluate", run, "--from-predictions", "--metric", "funny/mcc", "--metric", "tone/loss_q95") == 0
    said = capsys.readouterr().out
    assert "mcc" in said
    assert "loss_q95" in said
    (row,) = rescore_run(run, split="val", metrics=["tags/micro_f1"])
    assert row.value == dict(metrics(read_predictions(run / "predictions" / "val.parquet")["tags"]))["micro_f1"]
    assert row.low < row.value < row.high
    assert {row.task for row in rescore_run(run, split="val")} == set(TASKS)
    with pytest.raises(DataError, match="no such predictions file"):
        rescore_run(run, split="test")
    assert not (run / "test_reads.jsonl").exists()
    with pytest.raises(ConfigError, match="--metric: 'fun/mcc' is no <task>/<metric> of the tasks funny, mood"):
        rescore_run(run, split="val", metrics=["fun/mcc"])
    with pytest.raises(ConfigError, match="is binary and has no 'mae', only accuracy"):
        rescore_run(run, split="val", metrics=["funny/mae"])
    assert code_of("evaluate", run, "--metric", "funny/mcc") == 2
    assert code_of("evaluate", run, "--from-predictions", "--checkpoint", "last") == 2
    said = capsys.readouterr().err
    assert "--metric: an evaluation gives every metric; write --from-predictions to choose some" in said
    assert "--from-predictions: no model is run; leave --checkpoint, --robustness and the like out" in said


def test_two_runs_are_compared(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compare.json"
    assert code_of("compare", runs / "one", runs / "two", "--out", out) == 0
    said = capsys.readouterr().out
    assert "val split, against" in said
    assert "p < 0.05 after Holm's correction" in said
    written = json.loads(out.read_text())
    assert (written["baseline"], written["runs"], written["notes"]) == (str(runs / "one"), [str(runs / "two")], [])
    names = [row["metric"] for row in written["rows"]]
    assert names == [
        *("funny/loss", "funny/average_precision", "mood/loss", "mood/accuracy"),
        *("tags/loss", "tags/macro_average_precision", "tone/loss", "tone/pearson"),
    ]
    found = compare_folders([runs / "one", runs / "two"], split="val", baseline=runs / "two", metrics=["val/funny/f1"])
    assert [row.metric for row in found.rows] == ["funny/f1"]
    with pytest.raises(ConfigError, match="--metric: 'fun/f1' is no <task>/<metric> of the tasks funny"):
        compare_folders([runs / "one", runs / "two"], split="val", metrics=["fun/f1"])
    assert isinstance(found, RunComparison)
    assert found.rows[0].difference.mean == pytest.approx(found.rows[0].value.mean - found.rows[0].baseline.mean)
    for words, message in (
        ([runs / "one"], "a comparison needs two runs"),
        ([runs / "one", runs / "one"], "stands there twice"),
        ([runs / "one", runs / "none"], "none is not a run folder"),
        ([runs / "one", runs / "two", "--baseline", runs], "--baseline: .* is none of the runs"),
        ([runs / "one", runs / "two", "--split", "dev"], "--split: 'dev' is none of"),
    ):
        assert code_of("compare", *words) == 2
        error = capsys.readouterr().err
        assert re.search(message, error), error


def test_a_comparison_leaves_a_page_where_it_can(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("compare", runs / "one", runs / "two", "--metric", "funny/f1")
    assert code_of(*words) == 0
    assert "Comparison of one and two" in Path("compare.html").read_text(encoding="utf-8")
    assert [row["metric"] for row in json.loads(Path("compare.json").read_text())["rows"]] == ["funny/f1"]
    for file in tmp_path.iterdir():
        file.unlink()
    monkeypatch.setattr("mmtrain.extras.find_spec", lambda name: None if name == "vl_convert" else name)
    assert code_of(*words) == 0
    assert "no compare.html: a page needs pip install 'mmtrain[report]'" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_that_cannot_be_written_is_said(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "compare.json"
    assert code_of("compare", runs / "one", runs / "two", "--out", out) == 2
    assert f"error: {out} cannot be written (Not a directory); name another file by --out" in capsys.readouterr().err


def test_calibration_that_is_damaged_or_of_another_checkpoint(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs / "two"
    assert code_of("evaluate", run) == 0
    file = run / "calibration.json"
    right = json.loads(file.read_text())
    file.write_text(json.dumps(right | {"checkpoint": "step-00000001", "tasks": {}}))
    assert code_of("evaluate", run, "--split", "train") == 0
    assert json.loads(file.read_text()) == right
    file.write_text("{")
    assert code_of("evaluate", run, "--split", "train") == 2
    assert "calibration.json is damaged; delete it, and `mmtrain evaluate RUN --split val`" in capsys.readouterr().err
    file.unlink()


def test_what_a_task_cannot_have_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tasks, message in (
        ({"funny": {"metrics": {"name": "mosi"}}}, "tasks.funny.metrics: 'mosi' makes classes of a regression, and the"),
        ({"mood": {"threshold": "best_f1"}}, "tasks.mood.threshold: a multiclass task has no threshold to choose"),
    ):
        file = write(runs.parent, "refused", tasks=tasks, selection={"metric": "val/loss"})
        assert code_of("train", "--config", file) == 2
        assert message in capsys.readouterr().err
