"""Pacings in real runs: resumed bit by bit, stale losses evaluated anew, weights in the gradient, processes alike."""

import copy
import hashlib
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lives import Write, cut, live
from safetensors.numpy import load_file
from test_processes_equal import assert_alike, double, float64, run_of
from test_train_step import double as doubled
from test_train_step import gradients, per_sample

from mmtrain.engine import loop
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loading import Loader
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.objectives.regularizers.r_drop import two_views

Build = Callable[..., Run]
PACINGS: dict[str, dict[str, Any]] = {
    "competence": {"difficulty": {"name": "text_length"}, "start": 0.2, "over": 15, "unit": "steps"},
    "baby_steps": {"difficulty": {"name": "column", "column": "text_characters"}, "buckets": 3},
    "anti": {"difficulty": {"name": "running", "probe_every": 2}, "start": 0.2, "over": 18, "unit": "steps"},
    "self_paced": {"growth": 1.1},
    "self_paced_linear": {"start": 0.7, "growth": 1.1},
    "loss_quantile": {"drop_easiest": 0.2, "drop_hardest": 0.3},
}
FAST = ("competence", "self_paced_linear")
by_pacing = pytest.mark.parametrize(
    "pacing", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in PACINGS]
)
BATCH = {"size": 20, "micro": 8}


def results(run: Path) -> dict[str, str]:
    last = run / "checkpoints" / "last"
    files = [last / f"{group}.safetensors" for group in ("model", "optimizer", "curriculum", "samples")]
    files += [run / "metrics.jsonl", run / "curriculum.jsonl"]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return hashes | {"state": json.dumps(json.loads((last / "state.json").read_text())["curriculum"])}


def train(file: Path, name: str, *flags: str, **options: Any) -> None:
    life = live(["train", "--config", str(file), *flags, f"name={name}"], cwd=file.parent, **options)
    expected = -signal.SIGKILL if options else 0
    assert life.code == expected, life.out + life.err


@by_pacing
def test_a_killed_run_resumes_to_the_same_bits(write_experiment: Write, pacing: str) -> None:
    """Killed inside a window, inside passes of changed pools, one step after a checkpoint."""
    section = {"name": pacing, **PACINGS[pacing]}
    file = float64(write_experiment)("experiment.yaml", curriculum={"window": 4, "pacing": section}, batch=BATCH)
    train(file, "whole")
    train(file, "parted", patch=partial(cut, at=12, how=signal.SIGKILL))
    train(file, "parted", "--resume")
    whole, parted = (file.parent / "runs" / name for name in ("whole", "parted"))
    assert results(parted) == results(whole)
    records = list(read_jsonl(whole / "curriculum.jsonl"))
    assert any(": pool " in event for record in records for event in record["events"])
    saved = load_file(whole / "checkpoints" / "last" / "curriculum.safetensors")
    bits = {name: int(np.unpackbits(array).sum()) for name, array in saved.items() if name.startswith("pool/")}
    assert bits == {f"pool/{name}": size for name, size in records[-1]["pools"].items() if f"pool/{name}" in bits}
    listens = pacing not in ("competence", "baby_steps")
    assert {name for name in saved if name.startswith("losses/")} == ({"losses/clips", "losses/calls"} if listens else set())


def test_a_run_without_pacing_saves_no_arrays_and_asks_for_no_sample_losses(small_run: Build) -> None:
    run = small_run(training={"epochs": 1, "steps_per_epoch": 4, "eval_every": None})
    assert not run.curriculum.listens
    fit(run, RunState())
    assert run.curriculum.arrays() == {}
    assert load_file(run.folder.checkpoints / "last" / "curriculum.safetensors") == {}


def one_by_one(run: Run, number: int, position: int) -> float:
    """The mean over its tasks of a training sample's plain loss, alone in its batch."""
    model = copy.deepcopy(run.model).double().eval()
    batch = run.loader.collate([run.train_streams[number].sample(position)], [number])
    with torch.no_grad():
        logits = model(*doubled(batch)).logits
    losses = [
        float(per_sample(run, task, logits[task][0], batch.targets[task][0])) for task, on in batch.labelled.items() if on
    ]
    return sum(losses) / len(losses)


def test_losses_outside_the_pool_are_those_of_the_model_now(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(curriculum={"window": 4, "pacing": {"name": "loss_quantile", "drop_hardest": 0.4}}, batch=BATCH)
    answer, asked = loop.current_losses, []

    def checked(run: Run, positions: Any) -> Any:
        before = {name: run.curriculum.arrays()[f"losses/{name}"].copy() for name in positions}
        state = torch.get_rng_state()
        found = answer(run, positions)
        assert run.model.training
        assert torch.equal(torch.get_rng_state(), state)
        for number, stream in enumerate(run.train_streams):
            for place, position in enumerate(positions.get(stream.name, ())):
                assert found[stream.name][place] == pytest.approx(one_by_one(run, number, int(position)), rel=1e-4, abs=1e-6)
                asked.append(found[stream.name][place] != before[stream.name][position])
        return found

    monkeypatch.setattr(loop, "current_losses", checked)
    fit(run, RunState())
    assert len(asked) > 20
    assert all(asked), "a loss outside the pool was never out of date: this tests nothing"


def test_losses_heard_are_those_of_the_samples_trained_on(small_run: Build) -> None:
    """After the first window each drawn sample has its loss at the weights of its step; here they do not move."""
    run = small_run(
        curriculum={"window": 4, "pacing": {"name": "self_paced"}},
        training={"epochs": 1, "steps_per_epoch": 4, "eval_every": None, "optimizer": {"lr": 1e-12, "weight_decay": 0.0}},
        regularizers={"twice": {"name": "r_drop", "strength": 1.0}},
    )
    plan = run.curriculum.next_window(0, 4)
    fit(run, RunState())
    for number, stream in enumerate(run.train_streams):
        drawn = np.unique(plan.position[plan.stream == number])
        known = run.curriculum.arrays()[f"losses/{stream.name}"]
        assert np.flatnonzero(~np.isnan(known)).tolist() == drawn.tolist()
        for position in drawn[:6].tolist():
            assert known[position] == pytest.approx(one_by_one(run, number, position), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("micro", [None, 3])
@pytest.mark.parametrize("views", [1, 2])
def test_weights_multiply_each_samples_losses_in_the_gradient(small_run: Build, micro: int | None, views: int) -> None:
    """sum over tasks of sum_i v_i l_i / n, in float64, one sample after the other; losses are reported without v."""
    twice = {"twice": {"name": "r_drop", "strength": 2.0}} if views == 2 else {}
    run = small_run(batch={"micro": micro}, training={"clipping": {"name": "none"}}, regularizers=twice)
    plan = run.curriculum.next_window(0, 4)
    weight = np.random.default_rng(0).random(plan.position.shape).astype(np.float32)
    weight[0, :2] = (0.0, 1.0)
    inputs = next(iter(run.loader.steps(replace(plan, weight=weight), first=0)))
    assert inputs.weights is not None
    assert torch.cat(inputs.weights).numpy() == pytest.approx(weight[0])
    model = copy.deepcopy(run.model).double()
    sums: dict[str, list[torch.Tensor]] = {}
    for batch, weights in zip(inputs.micro_batches, inputs.weights, strict=True):
        for view in (two_views(batch),) if views == 2 else (batch,):
            logits = model(*doubled(view)).logits  # without dropout both views are alike, and R-Drop adds 0
        for task, labelled in batch.labelled.items():
            for row in labelled.nonzero()[:, 0].tolist():
                loss = per_sample(run, task, logits[task][row], batch.targets[task][row])
                sums.setdefault(task, []).append(loss * float(weights[row]))
    expected = torch.stack([torch.stack(losses).mean() for losses in sums.values()]).sum()
    expected.backward()
    values, _ = train_step(run, inputs)
    assert float(values.objective) == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients(model).items():
        assert gradients(run.model)[name].numpy() == pytest.approx(gradient.numpy(), rel=1e-4, abs=1e-6), name
    plain = train_step(
        small_run(batch={"micro": micro}, training={"clipping": {"name": "none"}}, regularizers=twice),
        replace(inputs, weights=None),
    )[0]
    for weighed, reported in zip(values.samples, plain.samples, strict=True):
        for key, column in reported.items():
            assert torch.equal(weighed[key], column), key


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_process_takes_the_weights_of_its_slice(small_run: Build, world: int) -> None:
    run = small_run()
    plan = run.curriculum.next_window(0, 4)
    plan = replace(plan, weight=np.arange(plan.position.size, dtype=np.float32).reshape(plan.position.shape))
    seen = {}
    for rank in range(world):
        loader = Loader(streams=run.train_streams, collate=run.loader.collate, rank=rank, world=world, micro=2)
        for inputs in loader.steps(plan, first=0):
            assert inputs.weights is not None
            for batch, weights in zip(inputs.micro_batches, inputs.weights, strict=True):
                for stream, index, weight in zip(batch.stream.tolist(), batch.index.tolist(), weights.tolist(), strict=True):
                    seen[weight] = (stream, index)
    expected = [
        (int(k), int(run.train_streams[k].indices[p]))
        for k, p in zip(plan.stream.ravel(), plan.position.ravel(), strict=True)
    ]
    assert [seen[float(n)] for n in range(plan.position.size)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("pacing", ["self_paced_linear", "anti"])
def test_processes_and_micro_batches_pace_alike(write_experiment: Write, pacing: str) -> None:
    write = float64(write_experiment)
    section = {"curriculum": {"pacing": {"name": pacing, **PACINGS[pacing]}}}
    one = run_of(write, "one", patch=double, batch={"size": 20, "micro": None}, **section)
    for name, world, micro in (("two", 2, 3), ("three", 3, None)):
        other = run_of(write, name, world=world, patch=double, batch={"size": 20, "micro": micro}, **section)
        assert_alike(one, other, tolerance=1e-6)
        pools = [[record["pools"] for record in read_jsonl(run / "curriculum.jsonl")] for run in (one, other)]
        assert pools[0] == pools[1]
        assert len({sizes["clips"] for sizes in pools[0]}) > 1


def test_a_difficulty_that_changed_is_no_resume(write_experiment: Write, tmp_path: Path) -> None:
    """The config and the stores are the same, the file of losses is not."""
    file = float64(write_experiment)("first.yaml", training={"epochs": 1, "steps_per_epoch": 4, "checkpoint_every": 2})
    train(file, "first")
    scored = live(["evaluate", str(tmp_path / "runs/first"), "--split", "train"], cwd=tmp_path)
    assert scored.code == 0, scored.err
    losses = tmp_path / "runs/first/predictions/train.parquet"
    values = yaml.safe_load(file.read_text())
    difficulty = {"name": "predictions", "file": str(losses)}
    values["curriculum"]["pacing"] = {"name": "competence", "start": 0.3, "difficulty": difficulty}
    second = tmp_path / "second.yaml"
    second.write_text(yaml.safe_dump(values))
    train(second, "second", patch=partial(cut, at=2, how=signal.SIGKILL))
    from mmtrain.evaluation.prediction_file import read_predictions, write_predictions

    found = read_predictions(losses)
    write_predictions(losses, [replace(item, losses=item.losses * 2) for item in found.values()])
    life = live(["train", "--config", str(second), "--resume", "name=second"], cwd=tmp_path)
    assert life.code == 2
    assert "cannot resume: the difficulties of stream 'calls' are not those that the run began with" in life.err
    write_predictions(losses, list(found.values()))
    train(second, "second", "--resume")
