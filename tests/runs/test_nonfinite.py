"""NaN or Inf in a step: no weight changes, the culprit is named on every process, its batch is kept; or the run goes on."""

import copy
import json
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lives import live, live_together, weights
from safetensors.torch import load_file

from mmtrain.data.batch import MaskedSequence
from mmtrain.engine import loop, nonfinite, step
from mmtrain.engine.gradient_norms import GradientNorms
from mmtrain.engine.history import history
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loading import StepInput
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.errors import NonFiniteError

Build = Callable[..., Run]
SKIP = {"training": {"on_nonfinite": "skip"}}


def first_step(run: Run) -> StepInput:
    return next(iter(run.loader.steps(run.curriculum.next_window(0, run.settings.window), first=0)))


def poison(inputs: StepInput, *, modality: str = "audio") -> str:
    """Write NaN behind the loader's back into the last real row of one sample; gives its id."""
    for batch in inputs.micro_batches:
        values, mask = batch.inputs[modality]
        for row in range(len(batch)):
            if mask[row].any() and any(labelled[row] for labelled in batch.labelled.values()):
                values[row, int(mask[row].sum()) - 1] = math.nan
                return batch.ids[row]
    raise AssertionError(f"no sample has {modality} and a label")


def test_the_module_and_the_sample_are_named_and_the_batch_is_kept(small_run: Build) -> None:
    run = small_run()
    inputs = first_step(run)
    sample = poison(inputs)
    before = copy.deepcopy(run.model.state_dict())
    with pytest.raises(NonFiniteError) as error:
        train_step(run, inputs)
    said = str(error.value)
    place = run.folder.path / "nonfinite" / "step-00000001"
    assert said.startswith("step 1: the gradient holds NaN or Inf (loss nan). No weight was changed. It comes from ")
    assert "the output of module sequences.audio_encoder.projection (Linear)" in said, said
    assert f". Samples: {sample}. The batch is kept in {place}. " in said
    assert said.endswith("Continue with --resume and training.on_nonfinite=skip to leave such steps out")
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    note, tensors = json.loads((place / "process-0.json").read_text()), load_file(place / "process-0.safetensors")
    assert note["samples"] == [sample]
    assert note["batch"] == [name for batch in inputs.micro_batches for name in batch.ids]
    for number, batch in enumerate(inputs.micro_batches):
        assert torch.equal(tensors[f"{number}/index"], batch.index)
        kept = MaskedSequence(*(tensors[f"{number}/inputs/audio/{part}"] for part in ("values", "mask")))
        assert torch.equal(kept.values.nan_to_num(7e7), batch.inputs["audio"].values.nan_to_num(7e7))
        assert torch.equal(tensors[f"{number}/labelled/funny"], batch.labelled["funny"])
    hooks = [module._forward_hooks for module in run.model.modules()]
    assert not any(hooks), "none stays"
    assert run.model.training


def test_what_lies_under_a_mask_is_not_blamed(small_run: Build) -> None:
    run = small_run()
    inputs = first_step(run)
    sample = poison(inputs, modality="video")
    for batch in inputs.micro_batches:
        values, mask = batch.inputs["audio"]
        values[~mask] = math.nan
    with pytest.raises(NonFiniteError, match=rf"module sequences\.video_encoder\.projection .*\. Samples: {sample}\. "):
        train_step(run, inputs)
    sequence = MaskedSequence(torch.tensor([[1.0, math.nan]]), torch.tensor([[True, False]]))
    outputs = {"encoded": sequence, "parts": (torch.tensor(2.0), [torch.tensor(3.0)])}
    assert [values.tolist() for values in nonfinite._real_values(outputs)] == [[1.0], 2.0, 3.0]
    assert not all(values.isfinite().all() for values in nonfinite._real_values(tuple(sequence)))


def test_a_loss_or_a_norm_alone_is_told_from_a_module(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run()
    inputs = first_step(run)
    for batch in inputs.micro_batches:
        batch.targets["funny"].fill_(float("inf"))  # labels are checked long before: this stands for any faulty loss
    with pytest.raises(NonFiniteError, match="It comes from the loss of task 'funny'"):
        train_step(run, inputs)
    run = small_run()
    monkeypatch.setattr(step, "gradient_norms", lambda groups: GradientNorms({group["name"]: math.inf for group in groups}))
    with pytest.raises(
        NonFiniteError,
        match=r"It did not come again in evaluation mode: .* a norm that overflows",
    ):
        train_step(run, first_step(run))


def test_many_samples_are_named_in_part(small_run: Build) -> None:
    run = small_run(batch={"size": 30, "micro": None})
    inputs = first_step(run)
    for batch in inputs.micro_batches:
        batch.inputs["audio"].values.fill_(float("inf"))
        batch.inputs["audio"].mask.fill_(True)
    with pytest.raises(NonFiniteError, match=r"Samples: ([^,]+, ){19}[^,]+ and 10 more\. The batch is kept in"):
        train_step(run, inputs)


def test_a_batch_that_cannot_be_kept_is_no_further_failure(small_run: Build) -> None:
    run = small_run()
    run.folder.nonfinite.write_text("in the way")
    inputs = first_step(run)
    poison(inputs)
    with pytest.raises(NonFiniteError, match="The batch could not be kept in "):
        train_step(run, inputs)


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    def with_poison(run: Run, inputs: StepInput) -> Any:
        if inputs.step in steps:
            poison(inputs)
        return train_step(run, inputs)

    monkeypatch.setattr(loop, "train_step", with_poison)


def test_a_step_left_out_changes_nothing_and_shows_nothing(
    small_run: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batch norm's running statistics are written by the forward pass: they come back too."""
    norm = {"name": "mlp", "hidden": [8], "batch_norm": True}
    run = small_run(**SKIP, tasks={"funny": {"head": norm}}, curriculum={"window": 2})
    before, seen = copy.deepcopy(run.model.state_dict()), copy.deepcopy(run.lr_schedule.state_dict())
    inputs = first_step(run)
    poison(inputs)
    values, updated = train_step(run, inputs)
    assert (updated, values.left_out) == (False, True)
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    assert run.lr_schedule.state_dict() == seen
    assert not run.optimizer.state_dict()["state"]
    poisoned(monkeypatch, {2, 3, 11})  # the whole second window, and one step more
    state = RunState()
    found = fit(run, state)
    assert (state.step, state.left_out, state.left_out_in_a_row, state.skipped) == (20, 3, 0, 0)
    assert nan_places(found.steps["grad_norm"]) == [3, 4, 12] == nan_places(found.steps["objective"])
    assert found.steps["left_out"][[2, 3, 11]].tolist() == [1, 1, 1]
    windows = list(read_jsonl(run.folder.curriculum))
    assert windows[1]["losses"] == {}
    assert sum(windows[1]["counts"].values()) == 14, "drawn they were"
    assert nan_places(found.evaluations["train/loss"]) == []
    assert all(value.isfinite().all() for value in run.model.state_dict().values())
    said = " ".join(capsys.readouterr().out.split())  # the console wraps long lines
    assert said.count("The step is left out") == 4


def nan_places(column: Any) -> list[int]:
    return [number for number, value in enumerate(column, start=1) if math.isnan(value)]


def test_too_many_in_a_row_stop_the_run(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(training={"on_nonfinite": "skip", "skip_limit": 2})
    poisoned(monkeypatch, {1, 3, 4, 6, 7, 8, 9})
    with pytest.raises(NonFiniteError) as error:
        fit(run, RunState())
    assert str(error.value) == (
        "step 9: the last 3 steps were left out for NaN or Inf, and training.skip_limit is 2. The batches are kept in "
        f"{run.folder.path}/nonfinite"
    )
    assert [path.name[-2:] for path in sorted(run.folder.nonfinite.iterdir())] == ["02", "04", "05", "07", "08", "09"]


def test_no_more_than_ten_batches_are_kept(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(training={"on_nonfinite": "skip", "skip_limit": 50, "epochs": 1})
    poisoned(monkeypatch, set(range(1, 10)) | {0})
    run.folder.nonfinite.mkdir()
    (run.folder.nonfinite / "step-00000099").mkdir()
    fit(run, state := RunState())
    assert state.left_out == 10
    assert len(list(run.folder.nonfinite.iterdir())) == 10


def poison_one(*, rank: str, steps: tuple[int, ...]) -> None:
    """One process reads a NaN at these steps."""
    before = loop.train_step

    def with_poison(run: Run, inputs: StepInput) -> Any:
        if os.environ.get("RANK", "0") == rank and inputs.step in steps:
            poison(inputs)
        return before(run, inputs)

    loop.train_step = with_poison


@pytest.mark.slow
def test_a_nan_on_one_of_two_processes_stops_both_with_one_sentence(fields: Path) -> None:
    arguments = ["train", "--config", str(fields)]
    lives = live_together(arguments, cwd=fields.parent, world=2, patch=partial(poison_one, rank="1", steps=(3,)))
    assert [life.code for life in lives] == [3, 3], lives
    assert lives[0].err == lives[1].err
    assert "step 4: the gradient holds NaN or Inf" in lives[0].err
    assert " on process 1. Samples: " in lives[0].err
    kept = fields.parent / "runs/run/nonfinite/step-00000004"
    assert sorted(path.name for path in kept.glob("*.json")) == ["process-0.json", "process-1.json"]
    resumed = [*arguments, "--resume", "training.on_nonfinite=skip"]
    lives = live_together(resumed, cwd=fields.parent, world=2, patch=partial(poison_one, rank="1", steps=(3,)))
    assert [life.code for life in lives] == [0, 0], lives
    assert "1 of 4 steps were left out for NaN or Inf" in " ".join(lives[0].out.split())
    columns = history(fields.parent / "runs/run").steps
    assert nan_places(columns["grad_norm"]) == [4]


def test_a_run_that_met_a_nan_resumes_past_it_and_ends_as_one_that_left_it_out(fields: Path) -> None:
    arguments, patch = ["train", "--config", str(fields)], partial(poison_one, rank="0", steps=(3,))
    stopped = live(arguments, cwd=fields.parent, patch=patch)
    assert stopped.code == 3
    assert stopped.err.startswith("error: step 4: the gradient holds NaN or Inf")
    assert live([*arguments, "--resume", "training.on_nonfinite=skip"], cwd=fields.parent, patch=patch).code == 0
    assert live([*arguments, "name=whole", "training.on_nonfinite=skip"], cwd=fields.parent, patch=patch).code == 0
    assert weights(fields, "run") == weights(fields, "whole")
