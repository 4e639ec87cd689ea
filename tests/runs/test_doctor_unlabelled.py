"""`mmtrain doctor` on tasks without labels in a split: a problem with its fix, and the other checks go on without them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.writer import StoreWriter
from mmtrain.doctor import CHECKS
from mmtrain.doctor.examine import examine
from mmtrain.doctor.finding import Finding
from mmtrain.errors import ConfigError

SPLITS = ("train", "train", "val", "test")
CHEAP = ["group_leakage", "label_balance", "initial_loss", "throughput"]


def experiment(folder: Path, without: Sequence[tuple[str, str]], **changes: Any) -> Path:
    """Over one store of `funny` and `mood`, which has no label of a task in the splits that `without` pairs it with."""
    random = np.random.default_rng(0)
    tasks = {"funny": TaskSchema(kind="binary"), "mood": TaskSchema(kind="regression")}
    with StoreWriter(folder / "clips", name="clips", modalities={"audio": FeatureSpec(dim=3)}, tasks=tasks) as writer:
        for index in range(48):
            split, values = SPLITS[index % 4], {"funny": index // 4 % 2, "mood": index % 7}
            labels = {task: value for task, value in values.items() if (task, split) not in without}
            rows = random.standard_normal((2, 3))
            writer.add(id=str(index), split=split, group=str(index), features={"audio": rows}, labels=labels)
    fields = {
        "name": "x",
        "runs": str(folder / "runs"),
        "datasets": {"clips": {"store": str(folder / "clips")}},
        "streams": {"clips": {"dataset": "clips", "tasks": ["funny", "mood"]}},
        "model": {"dim": 4, "sequences": {"audio": {"name": "linear"}}, "fusion": {"name": "concat"}},
        "curriculum": {"window": 2},
        "batch": {"size": 6, "prefetch": 0},
        "training": {"epochs": 1},
    }
    file = folder / "x.yaml"
    file.write_text(yaml.safe_dump(fields | changes))
    return file


def found(file: Path, *words: str) -> list[Finding]:
    return examine(file, list(words), only=CHEAP, seconds=4.0, out=file.parent / "found.json")


def problems(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(finding.found, finding.fix) for finding in findings if finding.severity == "problem"]


def test_a_task_without_a_training_label_is_found_and_the_others_are_examined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = experiment(tmp_path, [("funny", "train")], tasks={"funny": {"threshold": "best_f1"}})
    findings = found(file)
    words = f"funny: no training sample carries a label in streams.clips ({tmp_path / 'clips'}), so `train` refuses it"
    fix = f"divide anew: python -m data_prep split {tmp_path / 'clips'} --out NEW --stratify funny"
    ((first, its_fix),) = problems(findings)
    assert first == f"{words}; the checks go on without it"
    assert its_fix == f"{fix}, or take 'funny' out of streams.<name>.tasks"
    assert {finding.check for finding in findings} == set(CHEAP)
    assert any(finding.found.startswith("clips/mood: 24 of 24 training samples") for finding in findings)
    assert capsys.readouterr().out.startswith(f"label_balance: problem: {words}")
    assert json.loads((tmp_path / "found.json").read_text())["worst"] == "problem"


def test_a_task_without_any_label_is_to_be_labelled(tmp_path: Path) -> None:
    file = experiment(tmp_path, [("funny", split) for split in SPLITS])
    ((_, fix),) = problems(found(file))
    assert fix == "label samples of it, or take 'funny' out of streams.<name>.tasks"


@pytest.mark.parametrize("sampler", [{"name": "proportional"}, {"name": "fixed", "shares": {"clips": 1, "moods": 1}}])
def test_a_stream_without_a_validation_label_is_found_and_still_examined(sampler: dict[str, Any], tmp_path: Path) -> None:
    streams = {"clips": {"dataset": "clips", "tasks": ["funny"]}, "moods": {"dataset": "clips", "tasks": ["mood"]}}
    file = experiment(tmp_path, [("funny", "val")], streams=streams, curriculum={"window": 2, "sampler": sampler})
    findings = found(file)
    assert not any("nothing measures it" in finding.found for finding in findings if finding.found.startswith("mood"))
    ((words, fix),) = problems(findings)
    assert words == (
        f"streams.clips: no sample of split 'val' of store {tmp_path / 'clips'} carries a label of funny, so `train` "
        "refuses it; the checks go on without its validation"
    )
    assert fix.endswith("--stratify funny, or take 'clips' out of streams")
    assert {finding.check for finding in findings} == set(CHEAP)
    assert any(finding.found.startswith("clips/funny: 24 of 24") for finding in findings)


def test_nothing_measured_at_all_is_examined_too(tmp_path: Path) -> None:
    streams = {"clips": {"dataset": "clips", "tasks": ["funny"]}}
    findings = found(experiment(tmp_path, [("funny", "val")], streams=streams))
    assert len(problems(findings)) == 1
    assert {finding.check for finding in findings} == set(CHEAP)


def test_one_stream_of_a_task_has_no_training_label(tmp_path: Path) -> None:
    """Another one has, so the task is learned, and the stream alone is refused."""
    experiment(tmp_path, [])
    (tmp_path / "bare").mkdir()
    file = experiment(tmp_path / "bare", [("funny", "train")])
    values = yaml.safe_load(file.read_text())
    values["datasets"]["full"] = {"store": str(tmp_path / "clips")}
    values["streams"] = {name: {"dataset": name, "tasks": ["funny"]} for name in ("clips", "full")}
    file.write_text(yaml.safe_dump(values))
    findings = found(file)
    ((words, _),) = problems(findings)
    assert words.startswith(f"streams.clips: no sample of split 'train' of store {tmp_path / 'bare' / 'clips'} carries")
    assert words.endswith("the checks go on without it")
    assert any(finding.found.startswith("full/funny: 24 of 24") for finding in findings)


def test_a_metric_that_nothing_gives(tmp_path: Path) -> None:
    file = experiment(tmp_path, [("funny", "val")], selection={"metric": "val/funny/auroc", "mode": "max"})
    findings = found(file)
    ((words, fix),) = problems(findings)
    assert words == (
        "selection.metric: val/funny/auroc, but no validation sample carries a label of 'funny', so `train` refuses it"
    )
    assert fix == "selection.metric: val/loss (mode: min), or the metric of a task with validation labels"
    assert {finding.check for finding in findings} == set(CHEAP)


def test_where_nothing_is_left_that_is_said(tmp_path: Path) -> None:
    streams = {"clips": {"dataset": "clips", "tasks": ["funny"]}}
    findings = found(experiment(tmp_path, [("funny", "train")], streams=streams))
    assert [finding.severity for finding in findings] == ["problem", "note"]
    assert findings[1].found == "no other check is made: without these no stream is left"


def test_what_cannot_be_built_without_them_is_said(tmp_path: Path) -> None:
    """By a curriculum that names one, which its config refuses; and by one that the store does not bear."""
    curriculum: dict[str, Any] = {"schedule": {"name": "one_at_a_time", "order": ["funny", "mood"]}}
    file = experiment(tmp_path, [("funny", "train")], curriculum=curriculum)
    findings = found(file)
    assert [finding.severity for finding in findings] == ["problem", "note"]
    assert findings[1].found.startswith(
        "no other check is made: without these the rest does not fit together: curriculum.schedule: schedule one_at_a_time"
    )
    values = yaml.safe_load(file.read_text())
    values["curriculum"] = {"pacing": {"name": "competence", "difficulty": {"name": "column", "column": "hard"}}}
    file.write_text(yaml.safe_dump(values))
    findings = found(file)
    assert findings[1].found.startswith(
        "no other check is made: without these the run cannot be built: curriculum.pacing.difficulty.column: store 'clips'"
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_metric_of_what_is_left_out_is_not_in_the_way(split: str, tmp_path: Path) -> None:
    streams = {"clips": {"dataset": "clips", "tasks": ["funny"]}, "moods": {"dataset": "clips", "tasks": ["mood"]}}
    selection = {"metric": "val/funny/auroc", "mode": "max"}
    findings = found(experiment(tmp_path, [("funny", split)], streams=streams, selection=selection))
    assert {finding.check for finding in findings} == set(CHEAP)
    assert not any(finding.found.startswith("mood: no validation") for finding in findings)


def test_what_labels_would_not_mend_is_refused_as_before(tmp_path: Path) -> None:
    file = experiment(tmp_path, [])
    with pytest.raises(ConfigError, match="no metric 'val/funny/rocauc'"):
        found(file, "selection.metric=val/funny/rocauc")
    assert set(CHEAP) < set(CHECKS)
