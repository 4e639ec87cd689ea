"""What earlier codes for this work got wrong while training went on: streams that end, graphs kept, sums never reset."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.engine import loop, validation
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState

Build = Callable[..., Run]
NAMES = [config.model_fields["name"].default for config in WEIGHTINGS]
LEARNED = [name for name in NAMES if name in ("gradnorm", "uncertainty")]  # with parameters of their own


def samples_trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """(step, stream, row of the store) of every sample that a run trains on, in order; filled while it runs."""
    seen: list[tuple[int, int, int]] = []
    train_step = loop.train_step

    def note(run: Run, inputs: Any) -> Any:
        for batch in inputs.micro_batches:
            seen.extend((inputs.step, *pair) for pair in zip(batch.stream.tolist(), batch.index.tolist(), strict=True))
        return train_step(run, inputs)

    monkeypatch.setattr(loop, "train_step", note)
    return seen


def test_a_stream_that_ends_begins_anew_in_another_order_and_stops_no_other(
    small_run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smaller stream gets three quarters of each batch: it ends twice, and the larger one never does."""
    sampler = {"name": "fixed", "shares": {"calls": 3.0, "clips": 1.0}}
    run = small_run(curriculum={"sampler": sampler, "group_by_length": False})
    seen = samples_trained_on(monkeypatch)
    state = RunState()
    fit(run, state)
    assert state.step == run.settings.total_steps
    names = [stream.name for stream in run.train_streams]
    calls, clips = (run.train_streams[names.index(name)] for name in ("calls", "clips"))
    drawn = [row for _, stream, row in seen if names[stream] == "calls"]
    first, second = drawn[: len(calls)], drawn[len(calls) : 2 * len(calls)]
    assert len(drawn) > 2 * len(calls), "or this tests nothing"
    assert sorted(first) == sorted(second) == sorted(calls.indices.tolist())
    assert first != second
    assert sorted(first) not in (first, second)
    others = [row for _, stream, row in seen if names[stream] == "clips"]
    assert len(set(others)) == len(others) < len(clips)
    assert others != sorted(others)


def test_every_batch_of_a_run_has_the_size_asked_for(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(curriculum={"window": 1, "sampler": {"name": "dynamic_difficulty", "floor": 0.0}})
    seen = samples_trained_on(monkeypatch)
    fit(run, RunState())
    assert np.bincount([step for step, _, _ in seen]).tolist() == [7] * 20


def graphs() -> int:
    """Tensors alive that hang on a graph."""
    gc.collect()
    return sum(type(thing) is torch.Tensor and thing.grad_fn is not None for thing in gc.get_objects())


def test_no_graph_outlives_its_step(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither kept for a second backward pass nor held by a loss that is summed up or remembered."""
    asked: list[dict[str, Any]] = []
    alive: list[int] = []
    backward, train_step = torch.Tensor.backward, loop.train_step

    def note(self: torch.Tensor, *arguments: Any, **options: Any) -> None:
        asked.append(options)
        assert not arguments
        backward(self, **options)

    def count(run: Run, inputs: Any) -> Any:
        result = train_step(run, inputs)
        if inputs.step % 5 == 4:
            alive.append(graphs())
        return result

    run = small_run(curriculum={"weighting": {"name": "inverse_loss"}})
    before = graphs()
    monkeypatch.setattr(torch.Tensor, "backward", note)
    monkeypatch.setattr(loop, "train_step", count)
    fit(run, RunState())
    assert len(asked) == 20 * 3
    assert not any(options.get("retain_graph") or options.get("create_graph") for options in asked)
    assert alive == [before] * 4


def test_a_window_reports_its_own_losses_and_no_others(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run()
    kept: dict[str, list[Any]] = {}
    validate = loop.validate

    def note(run: Run, state: RunState) -> None:
        for name, column in state.log.arrays.items():
            kept.setdefault(name, []).extend(column.tolist())
        validate(run, state)

    monkeypatch.setattr(loop, "validate", note)
    fit(run, RunState())
    windows = list(read_jsonl(run.folder.curriculum))
    assert [window["step"] for window in windows] == [4, 8, 10, 14, 18, 20]
    rows = range(len(kept["step"]))
    for window in windows:
        inside = [row for row in rows if window["step"] - window["steps"] <= kept["step"][row] < window["step"]]
        for number, stream in enumerate(run.train_streams):
            mine = [row for row in inside if kept["stream"][row] == number]
            assert window["counts"][stream.name] == len(mine)
            for task in stream.tasks:
                losses = [kept[f"{task}/loss"][row] for row in mine if kept[f"{task}/labelled"][row]]
                found = window["losses"].get(stream.name, {}).get(task)
                assert found == (pytest.approx(sum(losses) / len(losses), rel=1e-5) if losses else None)


@pytest.mark.parametrize("name", ["fixed", "inverse_loss", "adaptive"])
def test_the_weights_that_are_recorded_are_those_that_train(small_run: Build, name: str) -> None:
    """The value minimized at a step is the sum of task losses times the weights written down, which sum to the tasks."""
    run = small_run(curriculum={"weighting": {"name": name}})
    found = fit(run, RunState())
    steps = [record for record in read_jsonl(run.folder.metrics) if record["kind"] == "step"]
    weights: list[dict[str, float]] = []
    for window in read_jsonl(run.folder.curriculum):
        assert sum(window["weights"].values()) == pytest.approx(3, abs=2e-5)  # each is written with six digits
        weights += [window["weights"]] * window["steps"]
    for record, by_task in zip(steps, weights, strict=True):
        expected = sum(by_task[task] * loss for task, loss in record["loss"].items())
        assert record["objective"] == pytest.approx(expected, rel=1e-5)
    assert len(found.steps["step"]) == 20
    assert (len({tuple(by_task.values()) for by_task in weights}) > 1) == (name != "fixed")


@pytest.mark.parametrize("name", ["inverse_loss", "adaptive", *LEARNED])
def test_weights_that_change_keep_their_sum_and_never_reach_zero(small_run: Build, name: str) -> None:
    """A factor that is merely minimized with the loss it multiplies falls without end; noises have no sum to keep."""
    weighting = {"name": name, "lr": 0.5} if name in LEARNED else {"name": name}
    run = small_run(curriculum={"window": 2, "weighting": weighting})
    fit(run, RunState())
    windows = list(read_jsonl(run.folder.curriculum))
    steps = {record["step"]: record for record in read_jsonl(run.folder.metrics) if record["kind"] == "step"}
    labelled = [steps[window["step"]]["loss"] if name in LEARNED else window["weights"] for window in windows]
    seen = [tuple(w["weights"][task] for task in tasks) for w, tasks in zip(windows, labelled, strict=True)]
    assert min(map(min, seen)) > 0
    if name != "uncertainty":
        assert [sum(weights) for weights in seen] == pytest.approx([*map(len, seen)], abs=2e-5)  # written with six digits
    assert len(set(seen)) > 3


def test_an_evaluation_is_made_without_dropout(small_run: Build) -> None:
    head = {"head": {"name": "mlp", "hidden": [8], "dropout": 0.5}}
    run = small_run(tasks={"funny": head, "mood": head})
    run.model.train()
    first, second = (validation.predict(run, run.val_streams, name="validation") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.logits.tolist() == other.logits.tolist()
    batch = next(iter(run.loader.steps(run.curriculum.next_window(0, 4), first=0))).micro_batches[0]
    train = [run.model(batch.inputs, batch.labelled).logits["funny"] for _ in range(2)]
    assert not torch.equal(*train), "training has dropout, or this tests nothing"
