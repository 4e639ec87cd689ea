"""Stages in one command: each begins with the weights of the one before, and the whole may be killed anywhere."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from lives import Life, Write, cut, live, live_together, results

from mmtrain.cli import main
from mmtrain.engine.jsonl import read_jsonl

STAGES = ("pretrain", "finetune")


@pytest.fixture
def staged(fields: Path) -> Path:
    """Two tasks of one dataset, then one of them and another one on two; dropout, and batch normalization in a head."""
    values = yaml.safe_load(fields.read_text())
    clips, calls = ({"dataset": name, "tasks": ["funny"]} for name in ("clips", "calls"))
    values |= {
        "name": "two",
        "runs": "runs",
        "tasks": {
            "funny": {"head": {"name": "mlp", "hidden": [4], "batch_norm": True, "dropout": 0.1}},
            "mood": {"head": {"name": "mlp", "hidden": [4]}},
        },
        "regularizers": {"anchor": {"name": "l2_initial", "strength": 0.1}},
        "stages": {
            "pretrain": {
                "streams": {"clips": clips | {"tasks": ["funny", "mood"]}},
                "training": {"epochs": 2, "steps_per_epoch": 2},
            },
            "finetune": {
                "streams": {"clips": clips, "calls": calls | {"tasks": ["funny", "pitch"]}},
                "training": {"steps_per_epoch": 5, "optimizer": {"lr": 0.001}},
            },
        },
    }
    del values["streams"]
    fields.write_text(yaml.safe_dump(values, sort_keys=False))
    return fields


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code, and all that was printed, on one line."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), " ".join((out + err).split())


def tensors(run: Path, checkpoint: str, group: str = "model") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "checkpoints" / checkpoint / f"{group}.safetensors")


def test_a_stage_begins_with_the_best_weights_of_the_one_before(
    staged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(staged.parent)
    code, words = said(capsys, "train", "--config", staged)
    assert code == 0, words
    first, second = (Path("runs/two") / stage for stage in STAGES)
    best = tensors(first, "best")
    assert any(not torch.equal(value, best[name]) for name, value in tensors(first, "last").items())
    initial = json.loads((second / "initial.json").read_text())
    assert set(initial["loaded"]) == {name for name in best if "mood" not in name}
    assert any("running_mean" in name for name in initial["loaded"])
    absent = initial["not_in_the_checkpoint"]
    assert [name for name in absent if "pitch" not in name] == []
    assert "not in the checkpoint: heads.pitch_head (2); only in the checkpoint: heads.mood_head (4)" in words
    anchors = tensors(second, "last", "regularizers")
    matrices = [name for name in initial["loaded"] if f"anchor/{name}" in anchors]
    assert len(matrices) == 3
    assert all(torch.equal(anchors[f"anchor/{name}"], best[name]) for name in matrices)
    step = json.loads((first / "checkpoints/best/state.json").read_text())["step"]
    identity = json.loads((second / "checkpoints/last/state.json").read_text())["identity"]
    assert (identity["initial"]["step"], identity["config"]["initial"]["run"]) == (step, "two/pretrain")
    rows = json.loads(Path("runs/two/stages.json").read_text())
    assert [(row["stage"], row["steps"], row["run"]) for row in rows] == [
        ("pretrain", 4, str(first)),
        ("finetune", 5, str(second)),
    ]
    assert rows[1]["best"] == list(read_jsonl(second / "metrics.jsonl"))[-1]["selection"]["best"]
    assert "| finetune |" in Path("runs/two/stages.md").read_text()
    check_doors(staged, capsys)


def check_doors(staged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the other commands and flags say to a file and a folder with stages."""
    assert "runs/two/pretrain exists already. Continue it with --resume" in said(capsys, "train", "-c", staged)[1]
    code, words = said(capsys, "evaluate", "runs/two")
    assert (code, words) == (
        2,
        "error: runs/two is not a run folder: it has no config.yaml; it holds the runs runs/two/finetune, runs/two/pretrain"
        ": name one of them",
    )
    for command in (("crossval",), ("tune", "lr"), ("curriculum", "simulate")):
        code, words = said(capsys, *command, staged)
        assert (code, words) == (
            2,
            f"error: {staged}: this file has several stages, and one experiment is asked for; add stage=pretrain or "
            "stage=finetune",
        )
    code, words = said(capsys, "curriculum", "simulate", staged, "stage=finetune", "--out", "x.png")
    assert (code, "5 steps drawn" in words) == (0, True)
    code, words = said(capsys, "train", "-c", staged, "--resume")
    assert (code, "two/pretrain: finished already two/finetune: finished already" in words) == (0, True)
    before = (Path("runs/two/finetune/checkpoints/last/model.safetensors")).read_bytes()
    for stage in STAGES:
        code, words = said(capsys, "train", "-c", staged, "--overwrite", f"stages.{stage}.datasets.clips.store=/nowhere")
        assert (code, words.startswith(f"error: two/{stage}: ")) == (2, True)
    assert Path("runs/two/finetune/checkpoints/last/model.safetensors").read_bytes() == before
    code, words = said(capsys, "train", "-c", staged, "--resume", "stages.pretrain.seed=8")
    assert (code, "seed: was 3, is 8" in words) == (2, True)
    shutil.rmtree("runs/two/pretrain")
    code, words = said(capsys, "train", "-c", staged, "--resume")
    assert (code, words) == (
        2,
        "error: cannot resume: runs/two/finetune has begun, and runs/two/pretrain before it is not finished: it was deleted "
        "or replaced. Delete runs/two/finetune too, or start anew with --overwrite",
    )


def test_what_a_later_stage_would_be_refused_for_is_found_before_the_first_trains(
    staged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(staged.parent)
    wrong = {
        "stages.finetune.selection.metric=val/funny/acuracy": "selection.metric: no metric 'val/funny/acuracy'",
        "stages.finetune.datasets.clips.store=/nowhere": "/nowhere",
        "stages.finetune.initial={run: runs/no}": "initial.run: runs/no is not a run folder",
        "stages.finetune.curriculum.sampler={name: dynamic_difficulty, floor: 0.9}": "floor",
        "stages.finetune.model.sequences.audi.name=linear": "model.sequences.audi: no store has this modality",
    }
    for override, message in wrong.items():
        code, words = said(capsys, "train", "-c", staged, override)
        assert code == 2, words
        assert words.startswith("error: two/finetune: "), words
        assert message in words
    code, words = said(capsys, "train", "-c", staged, "stages.finetune.training.deterministic=true")
    assert (code, words) == (
        2,
        "error: training.deterministic: it holds for a whole process; write it outside of the stages",
    )
    assert not Path("runs").exists()


def test_a_stage_may_begin_anew_elsewhere_or_with_another_precision(
    staged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(staged.parent)
    short = [f"stages.{stage}.training={{epochs: 1, steps_per_epoch: 2}}" for stage in STAGES]
    code, words = said(
        capsys, "train", "-c", staged, *short, "stages.finetune.initial=null", "stages.finetune.training.precision=bf16"
    )
    assert code == 0, words
    assert "two/finetune: 1 process on cpu, bf16" in words
    assert not Path("runs/two/finetune/initial.json").exists()
    code, words = said(capsys, "train", "-c", staged, *short, "stage=finetune", "name=three")
    assert (code, "error: initial.run: runs/three/pretrain is not a run folder" in words) == (2, True)
    words = said(capsys, "train", "-c", staged, *short, "stage=finetune", "name=three",
                 "stages.finetune.initial={run: runs/two/pretrain}")[1]  # fmt: skip
    assert "initial: runs/two/pretrain, step 2 is of another model, which fits 15 of 17 tensors; not in the" in words


def test_initial_weights_and_the_run_that_gave_them(
    fields: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run needs its source once: replaced or gone, it is no hindrance to a resume; but another one is another run."""
    monkeypatch.chdir(fields.parent)
    train = ["train", "-c", fields, "training.steps_per_epoch=2", "training.checkpoint_every=1"]
    assert said(capsys, *train, "name=first")[0] == 0
    begin = "initial={run: %s/first}" % (fields.parent / "runs")
    assert said(capsys, *train, "name=next", begin)[0] == 0
    last = Path("runs/next/checkpoints/step-00000002")
    before = (last / "model.safetensors").read_bytes()
    os.rename("runs/first", "runs/gone")
    shutil.rmtree(last)
    code, words = said(capsys, *train, "name=next", begin, "--resume")
    assert (code, "initial:" in words) == (0, False), words
    assert (last / "model.safetensors").read_bytes() == before
    words = said(capsys, *train, "name=next", "initial={run: runs/gone}", "--resume")[1]
    assert "initial.run: was 'first', is 'runs/gone'" in words
    shutil.rmtree("runs/next/checkpoints")
    words = said(capsys, *train, "name=next", begin, "--resume")[1]
    assert "first is not a run folder" in words, "without a checkpoint it begins again, and needs the weights"
    os.rename("runs/gone", "runs/first")
    assert said(capsys, *train, "name=next", begin, "--resume")[0] == 0
    assert (last / "model.safetensors").read_bytes() == before
    Path("runs/next/initial.json").write_text("{")
    words = said(capsys, *train, "name=next", begin, "--resume")[1]
    assert "initial.json is damaged, and says what weights the run began with; start anew" in words


def cut_in_stage(number: int, at: int) -> None:
    """Kill this process in a step of the `number`-th run that it trains, or (0) before the run begins, or (-1) raise."""
    from mmtrain import stages

    whole, begun = stages.train_loaded, []

    def train_loaded(*arguments: Any, **named: Any) -> Any:
        begun.append(arguments)
        if len(begun) == number and at == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(begun) == number and at == -1:
            break_step()
        elif len(begun) == number:
            cut(at=at, how=signal.SIGKILL)
        return whole(*arguments, **named)

    stages.train_loaded = train_loaded


def break_step() -> None:
    """The fourth step from now on ends in an exception of nobody's."""
    from mmtrain.engine import loop

    whole = loop.train_step

    def train_step(run: Any, inputs: Any) -> Any:
        if inputs.step == 3:
            raise ZeroDivisionError("nobody caught this")
        return whole(run, inputs)

    loop.train_step = train_step


def cut_before_the_links() -> None:
    """Kill this process when the last checkpoint of the first stage is whole and nothing leads to it yet."""
    from mmtrain.engine import checkpoint

    whole = checkpoint.point

    def point(root: Path, name: str, target: Path) -> None:
        if target.name == "step-00000004":
            os.kill(os.getpid(), signal.SIGKILL)
        whole(root, name, target)

    checkpoint.point = point


def run_in(folder: Path, staged: Path, *words: str, **named: Any) -> Life:
    """The same command in a folder of its own: relative paths alike, so that all that is written may be alike."""
    folder.mkdir(exist_ok=True)
    return live(["train", "--config", str(staged), *words], cwd=folder, **named)


def outcome(folder: Path) -> list[object]:
    runs = [folder / "runs/two" / stage for stage in STAGES]
    return [*map(results, runs), (runs[1] / "initial.json").read_text(), (folder / "runs/two/stages.json").read_text()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(partial(cut_in_stage, 1, 2), id="in the first stage"),
        pytest.param(cut_before_the_links, id="at the very end of the first stage"),
        pytest.param(partial(cut_in_stage, 2, 0), id="between the stages"),
        pytest.param(partial(cut_in_stage, 2, 1), id="before the second stage's first checkpoint"),
        pytest.param(partial(cut_in_stage, 2, 3), id="in the second stage"),
        pytest.param(partial(cut_in_stage, 2, -1), id="by an exception in the second stage"),
    ],
)
def test_killed_anywhere_the_stages_end_as_those_that_nothing_cut(
    staged: Path, tmp_path: Path, patch: Callable[[], None]
) -> None:
    whole = run_in(tmp_path / "whole", staged)
    assert whole.code == 0, whole.err
    assert run_in(tmp_path / "cut", staged, patch=patch).code in (-signal.SIGKILL, 1)
    resumed = run_in(tmp_path / "cut", staged, "--resume")
    assert resumed.code == 0, resumed.err
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    replaced = run_in(tmp_path / "cut", staged, "--overwrite")
    assert replaced.code == 0, replaced.err
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_replaced_stages_that_are_cut_go_on_with_none_of_the_old_ones(staged: Path, tmp_path: Path) -> None:
    whole = run_in(tmp_path / "whole", staged, "seed=9")
    assert whole.code == 0, whole.err
    assert run_in(tmp_path / "cut", staged).code == 0
    words = ("seed=9", "--overwrite")
    assert run_in(tmp_path / "cut", staged, *words, patch=partial(cut_in_stage, 1, 2)).code == -signal.SIGKILL
    assert not (tmp_path / "cut/runs/two/finetune/config.yaml").exists()
    resumed = run_in(tmp_path / "cut", staged, "seed=9", "--resume")
    assert resumed.code == 0, resumed.err
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_train_the_stages_of_one(staged: Path, tmp_path: Path) -> None:
    still = [
        *(f"tasks.{task}.head={{name: linear}}" for task in ("funny", "mood")),
        "model.fusion={name: concat, dropout: 0}",
    ]
    one = run_in(tmp_path / "one", staged, *still)
    assert one.code == 0, one.err
    (tmp_path / "two").mkdir()
    command = ["train", "--config", str(staged), *still]
    cut_short = live_together(command, cwd=tmp_path / "two", world=2, patch=partial(cut_in_stage, 2, 3))
    assert any(life.code == -signal.SIGKILL for life in cut_short)
    lives = live_together([*command, "--resume"], cwd=tmp_path / "two", world=2)
    assert [life.code for life in lives] == [0, 0], lives[0].err + lives[1].err
    for stage in STAGES:
        ours, theirs = (tensors(tmp_path / name / "runs/two" / stage, "last") for name in ("one", "two"))
        for name, value in ours.items():
            np.testing.assert_allclose(theirs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_processes_resume_stages_that_leave_bad_samples_out(staged: Path, tmp_path: Path) -> None:
    """The first process alone looks for bad samples, and the others wait for it while the stages are counted."""
    folder = tmp_path / "two"
    folder.mkdir()
    command = ["train", "--config", str(staged), "batch.on_bad_sample=skip"]
    cut_short = live_together(command, cwd=folder, world=2, patch=partial(cut_in_stage, 2, 3))
    assert any(life.code == -signal.SIGKILL for life in cut_short)
    for said in ("pretrain: finished already", "finetune: finished already"):
        lives = live_together([*command, "--resume"], cwd=folder, world=2)
        assert [life.code for life in lives] == [0, 0], lives[0].err + lives[1].err
        assert said in lives[0].out


@pytest.mark.slow
def test_a_search_over_one_stage_begins_every_trial_with_the_stage_before(
    staged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.chdir(staged.parent)
    assert said(capsys, "train", "-c", staged, "stage=pretrain")[0] == 0
    space = Path("search.yaml")
    space.write_text("stages.finetune.training.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}\n")
    code, words = said(capsys, "tune", "search", staged, space, "stage=finetune", "--trials", "2")
    assert code == 0, words
    origins = {json.loads(file.read_text())["from"] for file in Path("runs/two/finetune").glob("trial-*/initial.json")}
    assert len(list(Path("runs/two/finetune").glob("trial-*"))) == 2
    assert origins == {"runs/two/pretrain, step 2"}
    assert "stages.finetune.training.optimizer.lr=" in words
    space.write_text("training.optimizer.lr: {low: 1e-4, high: 1e-2}\n")
    code, words = said(capsys, "tune", "search", staged, space, "stage=finetune")
    assert (code, "training.optimizer.lr: changes nothing: set again by finetune; write" in words) == (2, True)


@pytest.mark.slow
def test_a_text_encoder_that_is_replaced_whole_need_not_have_weights(
    write_experiment: Write,
    tiny_bert: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    short = {"epochs": 1, "steps_per_epoch": 2, "eval_every": None, "checkpoint_every": None}
    file = write_experiment(training=short)
    assert said(capsys, "train", "-c", file, "name=first")[0] == 0
    bare = shutil.copytree(tiny_bert, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    begin = ["train", "-c", file, "name=next", f"model.text.path={bare}"]
    code, words = said(capsys, *begin, "initial={run: runs/first}")
    assert code == 0, words
    best, anchors = tensors(Path("runs/first"), "best"), tensors(Path("runs/next"), "last", "regularizers")
    text = [name for name in best if name.startswith("text.") and f"anchor/{name}" in anchors]
    assert len(text) > 5
    assert all(torch.equal(anchors[f"anchor/{name}"], best[name]) for name in text)
    code, words = said(capsys, *begin, "initial={run: runs/first, match: shapes}", "--overwrite")
    assert (code, "text.path: the weights of" in words) == (2, True)
