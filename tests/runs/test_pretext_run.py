"""Runs with pretext tasks: beside tasks with labels or alone, on one process or two, stopped and resumed, scored."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from lives import Write, cut, live, live_together, results
from test_processes_equal import assert_alike, double

from mmtrain.engine.history import history

# no dropout and no text, whose weights are float32
MODEL: dict[str, Any] = {
    "dim": 8,
    "sequences": {"audio": {"name": "linear"}, "video": {"name": "linear"}},
    "fusion": {"name": "concat", "dropout": 0.0},
}
ALIGN: dict[str, Any] = {"align": {"name": "info_nce", "dim": 4}}
MIXED = {"clips": {"dataset": "clips", "tasks": ["align", "funny"]}, "calls": {"dataset": "calls", "tasks": ["funny"]}}
ALONE = {"clips": {"dataset": "clips", "tasks": ["align"]}}


@pytest.fixture
def write_pretext(write_experiment: Write) -> Write:
    """An experiment file with the pretext task `align` over audio and video (and `text`), and changes of whole sections."""

    def write(name: str, **sections: Any) -> Path:
        file = write_experiment(f"{name}.yaml", name=name)
        values = yaml.safe_load(file.read_text())
        with_text = MODEL | {"text": values["model"]["text"]}
        values |= {"model": MODEL, "tasks": {}, "regularizers": {}, "pretext": ALIGN, "streams": MIXED}
        values |= {"model": with_text} if sections.pop("text", False) else {}
        values["batch"] = {"size": 7, "evaluation": 16}
        values["selection"] = {"metric": "val/align/recall@1", "mode": "max"}
        values["training"] = values["training"] | {"optimizer": {"lr": 0.01, "eps": 1e-3}}
        for key, section in sections.items():
            values[key] = values[key] | section if key in ("training", "batch", "selection") else section
        used = {stream["dataset"] for stream in values["streams"].values()}
        values["datasets"] = {key: value for key, value in values["datasets"].items() if key in used}
        file.write_text(yaml.safe_dump(values))
        return file

    return write


def trained(file: Path, *, world: int = 1, patch: Callable[[], None] | None = None) -> Path:
    lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=world, patch=patch)
    assert [life.code for life in lives] == [0] * world, "\n".join(life.out + life.err for life in lives)
    return file.parent / "runs" / file.stem


@pytest.mark.parametrize("streams", [MIXED, ALONE], ids=["mixed", "alone"])
def test_two_processes_compare_all_samples_of_the_global_batch(write_pretext: Write, streams: dict[str, Any]) -> None:
    """Slices of 4 and 3: values, gradients and weights are those of one process to 12 digits."""
    one = trained(write_pretext("one", streams=streams), patch=double)
    two = trained(write_pretext("two", streams=streams), world=2, patch=double)
    assert "val/align/audio_to_video_recall@1" in history(one).evaluations
    assert_alike(one, two, tolerance=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", [{"name": "pcgrad", "over": "parameters"}, {"name": "inverse_loss"}], ids=str)
def test_so_they_do_under_weightings_by_gradients_and_by_losses(write_pretext: Write, weighting: dict[str, Any]) -> None:
    curriculum = {"window": 4, "weighting": weighting}
    pretext = ALIGN | {"apart": {"name": "supervised_contrastive", "task": "funny", "dim": 4}}
    streams = MIXED | {"clips": {"dataset": "clips", "tasks": ["align", "funny", "apart"]}}
    changes = {"curriculum": curriculum, "pretext": pretext, "streams": streams}
    one = trained(write_pretext("one", **changes), patch=double)
    two = trained(write_pretext("two", **changes), world=2, patch=double)
    assert_alike(one, two, tolerance=1e-12)


def forget_the_others() -> None:
    """A mutation: the gradient that other processes' rows send is lost."""
    double()
    from mmtrain.engine.companions import GlobalCompanions

    def give_back(self: GlobalCompanions, gradient: Any) -> Any:
        return gradient[self.start : self.start + self._sizes[self._accelerator.process_index]]

    GlobalCompanions.give_back = give_back  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_gradient_that_stays_at_home_is_seen(write_pretext: Write) -> None:
    """Control of the tests above."""
    one = trained(write_pretext("one"), patch=double)
    two = trained(write_pretext("two"), world=2, patch=forget_the_others)
    with pytest.raises(AssertionError):
        assert_alike(one, two, tolerance=1e-6)


def test_a_pass_of_one_sample_is_refused(write_pretext: Write) -> None:
    for key in ("micro", "size"):
        file = write_pretext(f"one-{key}", batch={key: 1})
        life = live(["train", "--config", str(file)], cwd=file.parent)
        assert life.code == 2, life.err
        assert f"batch.{key}: with 1, the pretext task 'align' has nothing in a forward pass to compare" in life.err


@pytest.mark.slow
def test_micro_batches_are_equally_many_on_all_processes(write_pretext: Write) -> None:
    """Slices of 4 and 3 in parts of at most 3: two passes on both, each of which gathers; and the run says what differs."""
    file = write_pretext("parts", batch={"micro": 3})
    lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=2)
    assert [life.code for life in lives] == [0, 0], lives
    assert "the pretext tasks align (batch.micro cuts each slice: others share a forward pass)" in lives[0].out
    file = write_pretext("single", batch={"micro": 1})
    lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=2)
    assert [life.code for life in lives] == [2, 2]
    assert "batch.micro: with 1, the 2 processes pass unequally often through 7 samples" in lives[0].err


@pytest.mark.slow
def test_a_run_of_pretext_tasks_resumes_bit_for_bit(write_pretext: Write, tmp_path: Path) -> None:
    """The learned temperature, modality dropout, soft shares by loss and micro-batches among it."""
    changes = {
        "model": MODEL | {"modality_dropout": {"audio": 0.2}},
        "curriculum": {"window": 4, "sampler": {"name": "dynamic_difficulty", "reference": "chance", "floor": 0.1}},
        "batch": {"micro": 3},
    }
    whole, parted = (write_pretext(name, **changes) for name in ("whole", "parted"))
    assert live(["train", "--config", str(whole)], cwd=tmp_path).code == 0
    stopped = live(["train", "--config", str(parted)], cwd=tmp_path, patch=partial(cut, at=5, how=signal.SIGINT))
    assert stopped.code == 130, stopped.err
    assert live(["train", "--config", str(parted), "--resume"], cwd=tmp_path).code == 0
    assert results(tmp_path / "runs/whole") == results(tmp_path / "runs/parted")


def test_a_run_is_scored_with_retrieval_and_leaves_losses_of_every_sample(write_pretext: Write, tmp_path: Path) -> None:
    file = write_pretext("scored", text=True, training={"epochs": 1, "steps_per_epoch": 4, "train_predictions": True})
    run = trained(file)
    scored = live(["evaluate", str(run), "--split", "val"], cwd=tmp_path)
    assert scored.code == 0, scored.err
    assert "of a pretext task: rankings at random among the samples of the split" in scored.out.replace("\n", " ")
    written = json.loads((run / "evaluation/val.json").read_text())
    rows = {(row["task"], row["metric"]): row for row in written["rows"]}
    recall, median = rows["align", "recall@10"], rows["align", "median_rank"]
    assert recall["low"] <= recall["value"] <= recall["high"]
    assert 0 < recall["baseline"] <= 1
    assert 1 <= median["value"] <= recall["num_samples"]
    assert written["metrics"]["val/align/recall@10"] == recall["value"]
    assert history(run).evaluations["val/align/recall@10"][-1] == pytest.approx(recall["value"])
    for name in ("val", "train-epoch-0001"):
        table = pq.read_table(run / "predictions" / f"{name}.parquet").to_pylist()
        own = [row for row in table if row["task"] == "align"]
        assert own
        assert all(row["kind"] == "pretext" and row["loss"] >= 0 and row["id"] for row in own)
        assert {row[key] for row in own for key in ("label", "logits", "probability")} == {None}
    assert (run / "evaluation/val.md").read_text().count("| align") == 2


def test_the_other_commands_know_pretext_tasks(write_pretext: Write, tmp_path: Path) -> None:
    file = write_pretext("known", selection={"metric": "val/align/recall@2"})
    wrong = live(["train", "--config", str(file)], cwd=tmp_path)
    assert wrong.code == 2
    assert "selection.metric: no metric 'val/align/recall@2'; did you mean 'val/align/recall@" in wrong.err
    drawn = live(["curriculum", "simulate", str(file), "--out", "curve.png"], cwd=tmp_path)
    assert drawn.code == 0, drawn.err
    alone = write_pretext("alone", streams=ALONE)
    refused = live(["crossval", str(alone), "--folds", "2"], cwd=tmp_path)
    assert refused.code == 2
    assert "the streams of dataset 'clips' have pretext tasks alone; list a task of its store" in refused.err


@pytest.mark.slow
def test_cross_validation_and_the_range_test_run_with_pretext_tasks(write_pretext: Write, tmp_path: Path) -> None:
    short = {"epochs": 1, "steps_per_epoch": 2, "eval_every": None}
    folds = live(["crossval", str(write_pretext("folds", training=short)), "--folds", "2"], cwd=tmp_path)
    assert folds.code == 0, folds.err
    assert "recall@10" in (tmp_path / "runs/folds/crossval.md").read_text()
    ramp = live(["tune", "lr", str(write_pretext("ramp")), "--steps", "10", "--out", "tune"], cwd=tmp_path)
    assert ramp.code == 0, ramp.err
