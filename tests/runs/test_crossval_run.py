"""`mmtrain crossval`: a run per fold, killed and resumed, its table, and what it refuses."""

import json
import re
import shutil
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from lives import Life, cut, live, live_together
from test_bad_input import poke

import mmtrain
from mmtrain import crossval as crossval_module
from mmtrain.cli import main
from mmtrain.crossval import cross_validate
from mmtrain.data.store import FeatureStore
from mmtrain.errors import ConfigError

FOLDS = ("fold-1", "fold-2")


def crossval(*arguments: object) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as end:
        main(["crossval", *map(str, arguments)])
    return int(end.value.code or 0)


def last(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()


def cut_in_second_fold(at: int) -> None:
    """Kill this process in the second run that it trains."""
    from mmtrain import crossval

    whole, begun = crossval.train_loaded, []

    def train_loaded(*arguments: Any, **named: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            cut(at=at, how=signal.SIGKILL)
        return whole(*arguments, **named)

    crossval.train_loaded = train_loaded


def refuse_first_fold() -> None:
    """A finished fold must not be trained again."""
    from mmtrain import crossval

    whole = crossval.train_loaded

    def train_loaded(experiment: Any, *arguments: Any, **named: Any) -> Any:
        assert experiment.name.endswith("fold-2")
        return whole(experiment, *arguments, **named)

    crossval.train_loaded = train_loaded


def run(file: Path, *words: str, **named: Any) -> Life:
    return live(["crossval", str(file), "--folds", "2", *words], cwd=file.parent, **named)


@pytest.mark.slow
def test_two_folds_killed_and_resumed_are_those_that_nothing_cut(fields: Path) -> None:
    whole = run(fields, "name=whole")
    assert whole.code == 0, whole.err
    folder = fields.parent / "runs"
    assert run(fields, "name=cut", patch=partial(cut_in_second_fold, 2)).code == -signal.SIGKILL
    assert not (folder / "cut" / "crossval.json").exists()
    refused = run(fields, "name=cut")
    assert refused.code == 2
    assert "cut/fold-1 exists already. Continue it with --resume, replace it with --overwrite" in refused.err
    resumed = run(fields, "name=cut", "--resume", patch=refuse_first_fold)
    assert resumed.code == 0, resumed.err
    assert "cut/fold-1: finished already" in resumed.out
    assert "step-00000002 at step 2" in resumed.out
    for fold in FOLDS:
        assert last(folder / "cut" / fold) == last(folder / "whole" / fold)
    tables = [(folder / name / "crossval.json").read_text() for name in ("whole", "cut")]
    assert tables[0] == tables[1]
    check_table(folder / "whole")
    check_fold_alone(fields, folder)


def check_table(folder: Path) -> None:
    """Mean and interval of every row out of the folds' own logs."""
    found = json.loads((folder / "crossval.json").read_text())
    logs = [mmtrain.history(folder / fold).evaluations for fold in FOLDS]
    row = next(row for row in found["rows"] if (row["task"], row["stream"], row["metric"]) == ("funny", "calls", "loss"))
    one, other = (float(log["val/funny@calls/loss"][-1]) for log in logs)
    assert row["values"] == [one, other]
    assert row["mean"] == pytest.approx((one + other) / 2)
    assert row["high"] - row["mean"] == pytest.approx(12.7062 * abs(one - other) / 2, rel=1e-5)
    text = (folder / "crossval.md").read_text()
    assert "t of 1 degrees of freedom" in text
    assert "chosen by val/loss on the samples that it is scored on" in text


def check_fold_alone(fields: Path, folder: Path) -> None:
    """A fold's config.yaml is an ordinary experiment: trained alone it gives the same bits, and it can be scored."""
    config = str(folder / "whole" / "fold-2" / "config.yaml")
    alone = live(["train", "--config", config, "name=alone"], cwd=fields.parent)
    assert alone.code == 0, alone.err
    assert last(folder / "alone") == last(folder / "whole" / "fold-2")
    scored = live(["evaluate", str(folder / "whole" / "fold-2"), "--split", "test"], cwd=fields.parent)
    assert scored.code == 0, scored.err
    predicted = pq.read_table(folder / "whole/fold-2/predictions/val.parquet", columns=["id"])["id"].to_pylist()
    folds = set()
    for name in ("clips", "calls"):
        table = pq.read_table(folder / "whole" / "folds" / f"{name}.parquet").to_pylist()
        folds |= {row["id"] for row in table if row["fold"] == 2}
    assert set(predicted) <= folds
    assert len(set(predicted)) > 10


@pytest.mark.slow
def test_two_processes_have_the_folds_of_one(fields: Path) -> None:
    still = "model.fusion={name: concat, dropout: 0}"
    assert run(fields, still, "name=one").code == 0
    lives = live_together(["crossval", str(fields), "--folds", "2", still, "name=two"], cwd=fields.parent, world=2)
    assert [life.code for life in lives] == [0, 0], lives[0].err + lives[1].err
    folder = fields.parent / "runs"
    for name in ("clips", "calls"):
        assert len({(folder / run / "folds" / f"{name}.parquet").read_bytes() for run in ("one", "two")}) == 1
    rows = [json.loads((folder / name / "crossval.json").read_text())["rows"] for name in ("one", "two")]
    for one, two in zip(*rows, strict=True):
        np.testing.assert_allclose(as_numbers(one["values"]), as_numbers(two["values"]), rtol=1e-4)


def as_numbers(values: Iterable[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def test_refusals(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--folds 1: cross-validation has at least 2 folds"):
        cross_validate(fields, num_folds=1)
    assert crossval(fields, "--folds", "90") == 2
    assert "groups in train and val, and a group stays in one fold; write fewer folds" in capsys.readouterr().err
    values = yaml.safe_load(fields.read_text())
    values["datasets"]["clips"]["fold"] = {"file": "x.parquet", "number": 1}
    other = fields.with_name("other.yaml")
    other.write_text(yaml.safe_dump(values))
    assert crossval(other) == 2
    assert "datasets.clips.fold: crossval makes the folds itself; leave this key out" in capsys.readouterr().err
    assert crossval(fields, "selection.metric=val/funny/f3") == 2
    assert "selection.metric: no metric 'val/funny/f3'" in capsys.readouterr().err
    assert not (fields.parent / "runs").exists()


def test_folds_are_checked_without_the_samples_that_their_runs_leave_out(
    fields: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(fields.read_text())
    store = Path(shutil.copytree(values["datasets"]["clips"]["store"], tmp_path / "clips"))
    opened = FeatureStore(store)
    bad = next(int(index) for index in opened.split("train") if opened.lengths("audio")[index])
    poke(store, "audio", opened.sample_id(bad), float("nan"))
    values["datasets"]["clips"]["store"] = str(store)
    fields.write_text(yaml.safe_dump(values))
    check_run = crossval_module.check_run

    def refuse(run: Any, stores: Any) -> Any:
        check_run(run, stores)
        raise ConfigError(f"left out: {list(stores['clips'].left_out)}, of {len(stores['clips'].split('train'))}")

    monkeypatch.setattr(crossval_module, "check_run", refuse)
    said = []
    for words in ([], ["batch.on_bad_sample=skip"]):
        assert crossval(fields, "--folds", "2", *words) == 2
        said.append(capsys.readouterr().err)
    sizes = [int(re.search(r"left out: .*, of (\d+)", text)[1]) for text in said]
    assert "left out: []" in said[0]
    assert f"left out: [{bad}]" in said[1]
    assert sizes[0] - sizes[1] in (0, 1)


def test_other_folds_are_not_resumed(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["training.steps_per_epoch=1"]
    assert crossval(fields, *short, "--folds", "3") == 0
    first = f"initial={{run: {fields.parent}/runs/run/fold-1}}"
    assert crossval(fields, *short, "--folds", "2", "name=next", first) == 0
    warned = "fold-1 was trained on samples of these stores, it has seen those that a fold validates, and the scores are too"
    assert warned in " ".join(capsys.readouterr().out.split())
    assert (fields.parent / "runs/next/fold-2/initial.json").is_file()
    assert crossval(fields, *short, "--folds", "2", "--resume") == 2
    assert "was made from other settings: folds was 3, is 2. Put them back" in capsys.readouterr().err
    assert crossval(fields, *short, "--folds", "3", "training.clipping.max_norm=2", "--resume") == 2
    assert "training.clipping.max_norm: was 1.0, is 2.0" in capsys.readouterr().err
    assert crossval(fields, *short, "--folds", "2", "--overwrite") == 0
    folder = fields.parent / "runs" / "run"
    assert sorted(path.name for path in folder.iterdir()) == ["crossval.json", "crossval.md", *FOLDS, "folds"]


def test_a_class_that_a_fold_lacks_is_said(tmp_path: Path) -> None:
    """Class 2 stands in one group alone: the fold that validates it trains without, the other validates without."""
    from mmtrain.data.schema import TaskSchema
    from mmtrain.data.writer import StoreWriter

    tasks = {"mood": TaskSchema(kind="multiclass", classes=("calm", "glad", "sad")), "late": TaskSchema(kind="regression")}
    with StoreWriter(tmp_path / "store", name="clips", modalities={}, tasks=tasks) as writer:
        for number in range(40):
            label = 2 if number == 0 else number % 2
            late = {"late": 0.1 * number} if number > 30 else {}
            writer.add(id=f"s{number}", split="train", group=f"g{number}", text="a fish", labels={"mood": label} | late)
    assert len(FeatureStore(tmp_path / "store")) == 40
    from mmtrain.config import Experiment
    from mmtrain.config_sections import TaskConfig
    from mmtrain.crossval import check_fold

    experiment = Experiment.model_validate(
        {
            "name": "x",
            "datasets": {"clips": {"store": str(tmp_path / "store")}},
            "streams": {"clips": {"dataset": "clips", "tasks": ["mood", "late"]}},
            "model": {"text": {"name": "transformers", "path": "none"}},
        }
    )
    folds = {"clips": np.array([1] * 20 + [2] * 20)}
    stores = {"clips": FeatureStore(tmp_path / "store")}
    assert check_fold(experiment, stores, folds, 1) == [
        "warning: x: no training sample of stream 'clips' has class 'sad' of task 'mood'",
        "warning: x: no validation sample of stream 'clips' has a label of task 'late'",
    ]
    without = {"clips": FeatureStore(tmp_path / "store", left_out={0: "NaN or Inf in audio"})}
    assert check_fold(experiment, without, folds, 1) == [
        "warning: x: no validation sample of stream 'clips' has a label of task 'late'"
    ], "of a sample that is left out no class is missed"
    weighted = experiment.model_copy(
        update={"tasks": {"mood": TaskConfig.model_validate({"loss": {"name": "multiclass", "class_weight": "auto"}})}}
    )
    with pytest.raises(
        ConfigError, match=r"x: task 'mood': no training label is of class sad.*\nAnother seed, or fewer folds"
    ):
        check_fold(weighted, stores, folds, 1)
