"""Bad samples in a run: skipped they are as if they had never been there, named, counted, and the same for all processes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from lives import live, live_together
from test_bad_input import poke

from mmtrain.cli import main
from mmtrain.data.store import FeatureStore
from mmtrain.engine.jsonl import read_jsonl

Write = Callable[..., Path]


@pytest.fixture
def damaged(fields: Path, run_stores: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The short experiment over a damaged copy of `clips`, and the split of each bad sample."""
    store = Path(shutil.copytree(run_stores / "clips", tmp_path / "clips"))
    opened = FeatureStore(store)
    bad: dict[str, str] = {}
    for split, number in (("train", 3), ("val", 1), ("test", 2)):
        heard = [int(index) for index in opened.split(split) if opened.lengths("audio")[index]]
        bad |= {opened.sample_id(index): split for index in heard[:number]}
    for sample in bad:
        poke(store, "audio", sample, float("nan"))
    values = yaml.safe_load(fields.read_text())
    values["datasets"]["clips"]["store"] = str(store)
    fields.write_text(yaml.safe_dump(values))
    return fields, bad


SKIP = "batch.on_bad_sample=skip"


def command(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_they_are_left_out_named_and_counted_in_training_and_evaluation(
    damaged: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, bad = damaged
    monkeypatch.chdir(file.parent)
    run = file.parent / "runs" / "run"
    assert command("train", "-c", file, SKIP, "training.train_predictions=true") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: dataset 'clips': 6 bad samples are left out (3 train, 1 val, 2 test; batch.on_bad_sample: skip)" in said
    assert f"warning: 6 bad samples left out, named in {run}/bad_samples.jsonl" in said
    records = list(read_jsonl(run / "bad_samples.jsonl"))
    assert {record["id"]: record["split"] for record in records} == bad
    assert {record["dataset"] for record in records} == {"clips"}
    assert {record["found"] for record in records} == {"NaN or Inf in audio"}
    for name in ("val", "train-epoch-0001"):
        predicted = set(pq.read_table(run / f"predictions/{name}.parquet")["id"].to_pylist())
        assert predicted
        assert predicted.isdisjoint(bad)
    assert command("evaluate", run, "--split", "test") == 0
    assert "6 bad samples are left out" in " ".join(capsys.readouterr().out.split())
    scored = json.loads((run / "evaluation/test.json").read_text())
    assert sorted(record["id"] for record in scored["bad_samples"]) == sorted(name for name in bad if bad[name] == "test")
    assert set(pq.read_table(run / "predictions/test.parquet")["id"].to_pylist()).isdisjoint(bad)


def test_another_bad_sample_or_another_policy_is_no_resume_and_the_message_says_what_to_do(
    damaged: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, bad = damaged
    monkeypatch.chdir(file.parent)
    store = yaml.safe_load(file.read_text())["datasets"]["clips"]["store"]
    probe = ["train", "-c", file, "batch.size=60", "name=stops"]
    assert command(*probe) == 2
    said = capsys.readouterr().err
    remedy = f"Run `mmtrain data check {store}`, or leave such samples out with batch.on_bad_sample: skip"
    assert said.endswith(f": NaN or Inf in audio. {remedy}\n")
    assert command("train", "-c", file, SKIP) == 0
    assert command("train", "-c", file, SKIP, "--resume") == 0
    assert "the run is finished already" in capsys.readouterr().out
    opened = FeatureStore(store)
    more = next(
        opened.sample_id(int(index))
        for index in opened.split("train")
        if opened.lengths("audio")[index] and opened.sample_id(int(index)) not in bad
    )
    poke(Path(store), "audio", more, float("inf"))
    assert command("train", "-c", file, SKIP, "--resume") == 2
    assert "  stores.clips: was '" in capsys.readouterr().err
    assert command("train", "-c", file, "--resume") == 2
    assert "  config.batch.on_bad_sample: was 'skip', is 'stop'" in capsys.readouterr().err
    named = [record["id"] for record in read_jsonl(file.parent / "runs/run/bad_samples.jsonl")]
    assert sorted(named) == sorted(bad), "a resume that is refused changes nothing"


def test_a_modality_that_is_not_read_leaves_nothing_out(
    damaged: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = damaged
    monkeypatch.chdir(file.parent)
    words = ["streams.clips.modalities=[video]", "model.sequences.video.name=linear"]
    assert command("train", "-c", file, SKIP, *words, "training.steps_per_epoch=1") == 0
    assert not (file.parent / "runs/run/bad_samples.jsonl").exists()


@pytest.mark.slow
def test_two_processes_leave_the_same_samples_out_though_one_alone_looks(damaged: tuple[Path, dict[str, str]]) -> None:
    """The second process would find none: it is not asked."""
    file, bad = damaged
    arguments = ["train", "-c", str(file), SKIP, "model.fusion.name=concat", "model.fusion.dropout=0"]
    assert live([*arguments, "name=one"], cwd=file.parent).code == 0
    lives = live_together([*arguments, "name=two"], cwd=file.parent, world=2, patch=blind_second)
    assert [life.code for life in lives] == [0, 0], lives
    one, two = (file.parent / "runs" / name for name in ("one", "two"))
    assert (one / "bad_samples.jsonl").read_bytes() == (two / "bad_samples.jsonl").read_bytes()
    tables = [pq.read_table(run / "predictions/val.parquet") for run in (one, two)]
    assert tables[0]["id"] == tables[1]["id"]
    counts = [[record["counts"] for record in read_jsonl(run / "curriculum.jsonl")] for run in (one, two)]
    assert counts[0] == counts[1]
    losses = [np.array(table["loss"].to_pylist()) for table in tables]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(bad) == 6


def blind_second() -> None:
    import os

    from mmtrain import compatibility

    if os.environ["RANK"] == "1":
        compatibility.find_bad_samples = lambda *_: {}
