"""A NaN in a step takes the run back to its newest checkpoint: what follows is what a run that left the step out does."""

import hashlib
import json
import math
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lives import Write, live, live_together
from safetensors.torch import load_file
from test_weighting_processes import rows

from mmtrain.engine import checkpoint, loop, rollback, saving
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loading import StepInput
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.errors import CheckpointError, NonFiniteError

Build = Callable[..., Run]


def poison(inputs: StepInput) -> None:
    """NaN in every real row of sound, behind the loader's back."""
    for batch in inputs.micro_batches:
        values, mask = batch.inputs["audio"]
        values[mask] = math.nan


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> list[int]:
    """Poison these steps whenever they come; gives the steps computed, in order, filled while the run goes on."""
    seen: list[int] = []

    def with_poison(run: Run, inputs: StepInput) -> Any:
        seen.append(inputs.step)
        if inputs.step in steps:
            poison(inputs)
        return train_step(run, inputs)

    monkeypatch.setattr(loop, "train_step", with_poison)
    return seen


def policy(name: str, **training: Any) -> dict[str, Any]:
    return {"training": {"on_nonfinite": name, "epochs": 1, **training}}


def outcome(run: Path) -> dict[str, Any]:
    """Weights, optimizer, random states, curriculum and logs of a finished run, but for what only a rollback writes."""
    last = run / "checkpoints" / "last"
    values = json.loads((last / "state.json").read_text())
    for key in ("barred", "identity", "logs"):
        del values[key]
    tensors = {
        f"{file.stem}/{name}": tensor.numpy().tobytes()
        for file in sorted(last.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    records = [record for record in read_jsonl(run / "metrics.jsonl") if record["kind"] != "rollback"]
    return {
        "state": values,
        "tensors": tensors,
        "metrics": records,
        "curriculum": list(read_jsonl(run / "curriculum.jsonl")),
    }


def test_a_rolled_back_run_ends_as_one_that_left_the_steps_out(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 4, checkpoints at 3, 6, 8 and 9; steps 2, 5, 7 and 8 hold a NaN: back to 0, to 3, and twice to 6."""
    head = {"tasks": {"funny": {"head": {"name": "mlp", "hidden": [8], "batch_norm": True, "dropout": 0.3}}}}
    changes = {"average": {"name": "ema", "decay": 0.5}, "eval_every": None}
    skipping = small_run(**policy("skip", **changes), **head)
    poisoned(monkeypatch, {1, 4, 6, 7})
    fit(skipping, RunState())
    run = small_run(**policy("rollback", **changes), **head)
    seen = poisoned(monkeypatch, {1, 4, 6, 7})
    saved: list[list[int]] = []

    def watched(run: Run, state: RunState, *, step: int) -> None:
        rollback.roll_back(run, state, step=step)
        saved.append(json.loads((run.folder.checkpoints / "last" / "state.json").read_text())["barred"])

    monkeypatch.setattr(loop, "roll_back", watched)
    state = RunState()
    found = fit(run, state)
    assert seen == [0, 1, 0, 1, 2, 3, 4, 3, 4, 5, 6, 6, 7, 6, 7, 8, 9]
    assert (state.step, state.left_out, state.barred, state.skipped) == (10, 4, [1, 4, 6, 7], 0)
    assert saved == [[1], [1, 4], [1, 4, 6], [1, 4, 6, 7]], "or a kill behind a rollback would forget it"
    events = [record for record in read_jsonl(run.folder.metrics) if record["kind"] == "rollback"]
    assert [(event["step"], event["left_out"]) for event in events] == [(0, 2), (3, 5), (6, 7), (6, 8)]
    assert found.steps["step"].tolist() == list(range(1, 11)), "no line twice"
    assert [path.name[-2:] for path in sorted(run.folder.nonfinite.iterdir())] == ["02", "05", "07", "08"]
    assert outcome(run.folder.path) == outcome(skipping.folder.path)


def test_rollbacks_behind_one_checkpoint_are_limited(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(**policy("rollback", skip_limit=2, eval_every=None, checkpoint_every=5))
    poisoned(monkeypatch, {1, 3, 5, 7, 9})
    with pytest.raises(NonFiniteError) as error:
        fit(run, RunState())
    assert str(error.value) == (
        "step 10: behind the checkpoint of step 5 the steps 6, 8, 10 held NaN or Inf, and training.skip_limit is 2. The "
        f"batches are kept in {run.folder.path}/nonfinite"
    )


def test_without_any_checkpoint_there_is_no_way_back(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise CheckpointError("no room")

    run = small_run(**policy("rollback", on_save_error="continue"))
    poisoned(monkeypatch, {0})
    monkeypatch.setattr(checkpoint, "save_checkpoint", refuse)
    with pytest.raises(
        NonFiniteError, match=r"^step 1: there is no checkpoint to go back to, since the disk refused the one"
    ):
        fit(run, RunState())


def forget(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(saving, name, lambda *_, **__: None)

    return patch


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutation", [forget("put_back_random_state"), forget("load_optimizer_state"), forget("load_model_state")]
)
def test_what_a_rollback_forgets_is_seen(
    small_run: Build, monkeypatch: pytest.MonkeyPatch, mutation: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Controls: the comparison above tells what was put back from what was not."""
    head = {"tasks": {"funny": {"head": {"name": "mlp", "hidden": [8], "dropout": 0.3}}}}
    skipping, run = small_run(**policy("skip"), **head), small_run(**policy("rollback"), **head)
    poisoned(monkeypatch, {4})
    fit(skipping, RunState())
    mutation(monkeypatch)
    fit(run, RunState())
    assert outcome(run.folder.path) != outcome(skipping.folder.path)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", [pytest.param(*row.values, id=row.id) for row in rows()])
def test_what_learns_in_every_step_goes_back_too(
    small_run: Build, monkeypatch: pytest.MonkeyPatch, weighting: dict[str, Any]
) -> None:
    """Every weighting, its NaN in the step behind a checkpoint inside a window, and in the one behind that."""
    curriculum = {"curriculum": {"window": 4, "weighting": weighting}}
    runs = [small_run(**policy(name, steps_per_epoch=8), **curriculum) for name in ("skip", "rollback")]
    for run in runs:
        poisoned(monkeypatch, {3, 4})
        fit(run, RunState())
    assert outcome(runs[0].folder.path) == outcome(runs[1].folder.path)


OTHERS = {
    "pacing by loss": {"curriculum": {"window": 2, "pacing": {"name": "self_paced", "start": 0.5, "probe_every": 1}}},
    "schedule-free": {
        "training": {"optimizer": {"name": "schedule_free_adamw"}, "schedule": {"name": "constant", "warmup": 2}}
    },
    "plateau, swa": {
        "training": {"schedule": {"name": "reduce_on_plateau", "patience": 1}, "average": {"name": "swa", "start": 0.2}}
    },
    "one task after the other": {"curriculum": {"window": 2, "schedule": {"name": "one_at_a_time", "patience": 1}}},
    "drop": {"curriculum": {"window": 3, "exhausted": "drop", "sampler": {"name": "exp3"}}},
    "text, unfrozen": {
        "training": {"unfreeze": {"stages": [{"at": 0, "layers": 0}, {"at": 5, "layers": 1}], "unit": "steps"}}
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_every_other_state_goes_back_too(
    write_experiment: Write, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Through the front door, with text, dropout, R-Drop and a penalty."""
    from mmtrain.training import train_experiment

    twice = {"anchor": {"name": "l2_initial", "strength": 0.01}, "twice": {"name": "r_drop", "strength": 0.5}}
    training = {"eval_every": None, "checkpoint_every": 3, "steps_per_epoch": 9} | changes.get("training", {})
    for name in ("skip", "rollback"):
        policies = training | {"on_nonfinite": name}
        file = write_experiment(f"{name}.yaml", name=name, **changes | {"training": policies, "regularizers": twice})
        poisoned(monkeypatch, {4, 7, 13})
        train_experiment(file)
    folder = file.parent / "runs"
    assert outcome(folder / "rollback") == outcome(folder / "skip")


def test_where_the_newest_checkpoint_is_damaged_the_one_before_is_gone_back_to(
    small_run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To step 3 and not to 6; what was barred behind 3 before stays so."""
    runs = [small_run(**policy(name, eval_every=None, keep_checkpoints=5)) for name in ("skip", "rollback")]
    poisoned(monkeypatch, {4, 7})
    fit(runs[0], RunState())
    seen = poisoned(monkeypatch, {4, 7})
    roll_back = loop.roll_back

    def damage(run: Run, state: RunState, *, step: int) -> None:
        if step == 7:
            (run.folder.checkpoints / "step-00000006" / "model.safetensors").write_bytes(b"")
        roll_back(run, state, step=step)

    monkeypatch.setattr(loop, "roll_back", damage)
    fit(runs[1], RunState())
    assert seen == [0, 1, 2, 3, 4, 3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 8, 9]
    assert outcome(runs[0].folder.path) == outcome(runs[1].folder.path)


def poison_and_kill(*, at: int, kill: int | None, rank: str = "0") -> None:
    """NaN at a step of one process; it dies in the n-th step that it computes, or for 0 while a rollback is under way."""
    before, count = loop.train_step, [0]

    def step(run: Run, inputs: StepInput) -> Any:
        if inputs.step == at and os.environ.get("RANK", "0") == rank:
            poison(inputs)
        result = before(run, inputs)
        count[0] += 1
        if count[0] == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    loop.train_step = step
    if kill == 0:
        rollback.save = die


def train(file: Path, name: str, *words: str, patch: Callable[[], Any]) -> int:
    life = live(["train", "--config", str(file), f"name={name}", *words], cwd=file.parent, patch=patch)
    return life.code


ROLLBACK = ("training.on_nonfinite=rollback", "training.epochs=1", "training.eval_every=null")


@pytest.mark.slow
@pytest.mark.parametrize("kill", [0, 6, 7, 8])
def test_a_run_killed_around_its_rollback_resumes_to_the_same_bits(write_experiment: Write, kill: int) -> None:
    """NaN in step 5, back to 3: killed inside the rollback, in the step behind it, in the barred one, and after it."""
    file = write_experiment()
    assert train(file, "whole", *ROLLBACK, patch=partial(poison_and_kill, at=4, kill=None)) == 0
    assert train(file, "cut", *ROLLBACK, patch=partial(poison_and_kill, at=4, kill=kill)) == -signal.SIGKILL
    assert train(file, "cut", "--resume", *ROLLBACK, patch=partial(poison_and_kill, at=4, kill=None)) == 0
    whole, cut = (file.parent / "runs" / name for name in ("whole", "cut"))
    assert outcome(whole) == outcome(cut)
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes(), "the rollback is noted once"
    states = [json.loads((run / "checkpoints/last/state.json").read_text()) for run in (whole, cut)]
    assert states[0]["barred"] == states[1]["barred"] == [4]


def bar(folder: Path, step: int) -> None:
    """Write a step to leave out into a checkpoint."""
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"barred": [step]}))
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / "state.json").read_bytes()
    manifest["state.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.slow
def test_a_rolled_back_run_is_one_resumed_from_its_checkpoint_with_the_step_left_out(write_experiment: Write) -> None:
    """Resumed under `stop`: what is barred stays so whatever the policy is by then."""
    file = write_experiment()
    assert train(file, "back", *ROLLBACK, patch=partial(poison_and_kill, at=4, kill=None)) == 0
    stop = ("training.on_nonfinite=stop", *ROLLBACK[1:])
    assert train(file, "resumed", *stop, patch=partial(poison_and_kill, at=4, kill=4)) == -signal.SIGKILL
    back, resumed = (file.parent / "runs" / name for name in ("back", "resumed"))
    bar(resumed / "checkpoints" / "step-00000003", 4)
    assert train(file, "resumed", "--resume", *stop, patch=partial(poison_and_kill, at=4, kill=None)) == 0
    assert outcome(back) == outcome(resumed)


@pytest.mark.slow
def test_two_processes_go_back_together(write_experiment: Write) -> None:
    """The second one reads the NaN; both go back, and end as both of a run that left the step out at once."""
    file = write_experiment()
    for name in ("skip", "rollback"):
        words = [f"name={name}", *ROLLBACK[1:], f"training.on_nonfinite={name}"]
        patch = partial(poison_and_kill, at=4, kill=None, rank="1")
        lives = live_together(["train", "--config", str(file), *words], cwd=file.parent, world=2, patch=patch)
        assert [life.code for life in lives] == [0, 0], lives
    assert "back at step 3, from " in lives[0].out
    assert "for 1 of them the run went back to a checkpoint" in lives[0].out
    folder = file.parent / "runs"
    assert outcome(folder / "rollback") == outcome(folder / "skip")
