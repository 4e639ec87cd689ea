"""Weights in parts (FSDP): two processes that hold half of every weight train as one that holds them whole."""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import Life, Patch, Write, cut, live, live_together, results
from test_nonfinite import poison_one
from test_processes_equal import PLAIN, assert_alike, double, float64, run_of

from mmtrain.engine.history import history

EPS = {"eps": 1e-3}  # as PLAIN has it
TEXT = PLAIN["model"]["text"]


def in_parts() -> None:
    """As `accelerate launch --use_fsdp --fsdp_version 2`; the layers of tiny models are units too."""
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    from mmtrain.engine import sharding

    sharding.SMALLEST_UNIT = 1


def double_in_parts() -> None:
    double()
    in_parts()


def both(*patches: Callable[[], Any]) -> None:
    for patch in patches:
        patch()


def with_text(**text: Any) -> dict[str, Any]:
    return {"model": {**PLAIN["model"], "text": {**TEXT, **text}}}


def together(file: Path, *flags: str, world: int = 2, patch: Patch | None = None) -> list[Life]:
    return live_together(["train", "--config", str(file), *flags], cwd=file.parent, world=world, patch=patch)


def test_two_processes_with_weights_in_parts_equal_one_process(write_experiment: Write) -> None:
    """Slices of 4 and 3 in two passes, clipping in every step, and evaluations in which one process has a pass less."""
    write = float64(write_experiment)
    changes: dict[str, Any] = {"batch": {"micro": 2, "evaluation": 12}}
    changes["model"] = {"fusion": {"layers": 2, "dropout": 0.0}, "sequences": PLAIN["model"]["sequences"]}
    changes["training"] = {
        "optimizer": EPS,
        "epochs": 1,
        "steps_per_epoch": 5,
        "eval_every": 4,
        "clipping": {"max_norm": 0.05},
    }
    one = run_of(write, "one", patch=double, **changes)
    parts = run_of(write, "parts", world=2, patch=double_in_parts, **changes)
    assert_alike(one, parts, tolerance=1e-12)
    assert min(history(one).steps["grad_norm"]) > 0.05
    assert (
        "each process holds its part of every weight (FSDP); 2 layers are gathered"
        in (one.parent.parent / "out-0.txt").read_text()
    )


OPTIONS: dict[str, dict[str, Any]] = {
    "average": {"training": {"optimizer": EPS, "average": {"name": "ema", "decay": 0.9}}},
    "schedule-free": {
        "training": {
            "optimizer": {"name": "schedule_free_adamw", "lr": 0.01, "text_lr": 0.001, **EPS},
            "schedule": {"name": "constant"},
        }
    },
    "clipping by value": {"training": {"optimizer": EPS, "clipping": {"name": "value", "max_value": 0.001}}},
    "weights by losses": {"batch": {"micro": 2}, "curriculum": {"weighting": {"name": "geometric"}}},
    "weights that learn": {"curriculum": {"weighting": {"name": "uncertainty"}}},
    "one batch to evaluate": {"batch": {"micro": None, "evaluation": 512}},
}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_so_they_do_with(option: str, write_experiment: Write) -> None:
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double, **OPTIONS[option])
    parts = run_of(write, "parts", world=2, patch=double_in_parts, **OPTIONS[option])
    assert_alike(one, parts, tolerance=1e-12)


def kept_whole() -> None:
    double_in_parts()
    os.environ["FSDP_RESHARD_AFTER_FORWARD"] = "false"


@pytest.mark.slow
def test_so_they_do_where_layers_are_kept_whole_until_their_backward_pass(write_experiment: Write) -> None:
    """And where evaluations, which have none, are of other weights than the steps behind them."""
    write = float64(write_experiment)
    model = {**PLAIN["model"], "fusion": {"layers": 2, "dropout": 0.0}}
    changes = {**OPTIONS["schedule-free"], "model": model}
    one = run_of(write, "one", patch=double, **changes)
    assert_alike(one, run_of(write, "parts", world=2, patch=kept_whole, **changes), tolerance=1e-12)


@pytest.mark.slow
def test_batch_statistics_are_those_of_two_processes_that_hold_weights_whole(write_experiment: Write) -> None:
    write = float64(write_experiment)
    norm = {"name": "mlp", "hidden": [8], "dropout": 0.0, "batch_norm": True}
    changes = {"tasks": {**PLAIN["tasks"], "funny": {"head": norm}}}
    whole = run_of(write, "whole", world=2, patch=double, **changes)
    assert_alike(whole, run_of(write, "parts", world=2, patch=double_in_parts, **changes), tolerance=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("micro", [None, 2])
def test_scalars_stay_whole_and_learn_alike(write_experiment: Write, micro: int | None) -> None:
    """The head of a cosine has two, which cannot be cut."""
    base = float64(write_experiment)

    def write(file: str, **changes: Any) -> Path:
        path = base(file, **changes)
        values = yaml.safe_load(path.read_text())
        values["model"] = {"dim": 8, "sequences": {"audio": {"name": "linear"}, "video": {"name": "linear"}}}
        values["model"]["fusion"] = {"name": "pair_cosine"}
        values["datasets"] = {"clips": values["datasets"]["clips"]}
        values["streams"] = {"clips": {"dataset": "clips", "tasks": ["funny"]}}
        values["tasks"] = {"funny": {"head": {"name": "scale"}}}
        path.write_text(yaml.safe_dump(values))
        return path

    one = run_of(write, "one", patch=double, batch={"micro": micro})
    parts = run_of(write, "parts", world=2, patch=double_in_parts, batch={"micro": micro})
    assert_alike(one, parts, tolerance=1e-12)


TEXTS: dict[str, dict[str, Any]] = {
    "all of it, and a penalty": {},
    "frozen": with_text(trainable_layers=0),
    "its top": with_text(trainable_layers=1),
    "adapters": with_text(lora={"rank": 2}),
    "gradient checkpointing": with_text(gradient_checkpointing=True),
    "unfreezing": {
        "training": {
            "optimizer": {**EPS, "layer_decay": 0.5},
            "unfreeze": {
                "unit": "steps",
                "stages": [{"at": 0, "layers": 0}, {"at": 4, "layers": 1}, {"at": 9, "layers": None}],
            },
        }
    },
    "penalties": {
        "regularizers": {
            "anchor": {"name": "l2_initial", "strength": 0.3},
            "small": {"name": "l2", "strength": 0.1},
            "views": {"name": "r_drop", "strength": 0.5},
        }
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("option", TEXTS)
def test_a_text_encoder_in_parts(option: str, write_experiment: Write) -> None:
    one = run_of(write_experiment, "one", **TEXTS[option])
    parts = run_of(write_experiment, "parts", world=2, patch=in_parts, **TEXTS[option])
    assert_alike(one, parts, tolerance=1e-5)


@pytest.mark.slow
def test_bf16_in_parts_is_that_of_two_processes(write_experiment: Write) -> None:
    changes = {"training": {"optimizer": EPS, "precision": "bf16", "epochs": 1}}
    whole, parts = (
        run_of(write_experiment, name, world=2, patch=patch, **changes)
        for name, patch in (("whole", None), ("parts", in_parts))
    )
    expected, found = (history(run).steps["grad_norm"] for run in (whole, parts))
    assert found == pytest.approx(expected, rel=1e-2)


@pytest.mark.slow
def test_pretext_tasks_in_parts(write_experiment: Write) -> None:
    """They pass through the model several times a step."""
    changes: dict[str, Any] = {
        "batch": {"size": 8, "micro": 2},
        "pretext": {"match": {"name": "matching"}, "mask": {"name": "masked_modelling"}},
        "streams": {"clips": {"tasks": ["funny", "mood", "match", "mask"]}},
    }
    whole = run_of(write_experiment, "whole", world=2, **changes)
    assert_alike(whole, run_of(write_experiment, "parts", world=2, patch=in_parts, **changes), tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["average", "schedule-free"])
def test_a_killed_run_in_parts_ends_as_one_that_was_not(write_experiment: Write, option: str) -> None:
    """Bit for bit, with dropout: weights, optimizer, averages, what penalties remember, and every logged number."""
    whole, parted = (write_experiment(f"{name}.yaml", name=name, **OPTIONS[option]) for name in ("whole", "parted"))
    assert [life.code for life in together(whole, patch=in_parts)] == [0, 0]
    lives = together(parted, patch=partial(both, in_parts, partial(cut, at=7, how=signal.SIGKILL)))
    assert [life.code for life in lives] == [-9, -9], lives
    lives = together(parted, "--resume", patch=in_parts)
    assert [life.code for life in lives] == [0, 0], lives
    assert "resumed from" in lives[0].out
    expected, found = (results(file.parent / "runs" / file.stem) for file in (whole, parted))
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"), [((2, True), (1, False)), ((1, False), (2, True)), ((2, True), (3, True)), ((2, False), (2, True))]
)
def test_a_run_goes_on_in_other_parts_or_whole(
    write_experiment: Write, before: tuple[int, bool], after: tuple[int, bool]
) -> None:
    """(processes, whether each holds a part): the checkpoint is the same."""
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double)
    file = write("other.yaml", name="other", **PLAIN)

    def patch(is_parted: bool, *others: Callable[[], Any]) -> Patch:
        return partial(both, double_in_parts if is_parted else double, *others)

    lives = together(file, world=before[0], patch=patch(before[1], partial(cut, at=5, how=signal.SIGINT)))
    assert [life.code for life in lives] == [130] * before[0], lives
    lives = together(file, "--resume", world=after[0], patch=patch(after[1]))
    assert [life.code for life in lives] == [0] * after[0], lives
    assert ("its part of every weight" in lives[0].out) == after[1]
    assert_alike(one, file.parent / "runs" / "other", tolerance=1e-12)
    scored = live(["evaluate", str(file.parent / "runs" / "other"), "--split", "val"], cwd=file.parent)
    assert scored.code == 0, scored.err


@pytest.mark.slow
def test_a_nan_stops_both_processes_and_names_its_module(fields: Path) -> None:
    patch = partial(both, in_parts, partial(poison_one, rank="1", steps=(3,)))
    lives = together(fields, patch=patch)
    assert [life.code for life in lives] == [3, 3], lives
    assert lives[0].err == lives[1].err
    assert "step 4: the gradient holds NaN or Inf" in lives[0].err
    assert "It comes from the output of module sequences.audio_encoder" in lives[0].err
    assert " on process 1. Samples: " in lives[0].err
    lives = together(fields, "--resume", "training.on_nonfinite=skip", patch=patch)
    assert [life.code for life in lives] == [0, 0], lives
    assert "1 of 4 steps were left out for NaN or Inf" in " ".join(lives[0].out.split())
    lives = together(fields, "name=back", "training.on_nonfinite=rollback", patch=patch)
    assert [life.code for life in lives] == [0, 0], lives
    weights = [(fields.parent / f"runs/{name}/checkpoints/last/model.safetensors").read_bytes() for name in ("run", "back")]
    assert weights[0] == weights[1]


def wrong_gradient() -> None:
    """The first process's gradient of the last layer holds Inf at the second step, behind finite losses."""
    in_parts()
    from mmtrain.engine import backward, step

    def with_inf(run: Any, inputs: Any, forward: Any) -> Any:
        done = backward.backward(run, inputs, forward)
        if inputs.step == 1 and run.accelerator.is_main_process:
            next(run.heads["funny"].parameters()).grad.to_local().fill_(float("inf"))
        return done

    step.backward = with_inf


@pytest.mark.slow
def test_a_gradient_that_overflows_is_named_by_its_parameter_and_all_samples(fields: Path) -> None:
    lives = together(fields, patch=wrong_gradient)
    assert [life.code for life in lives] == [3, 3], lives
    said = lives[0].err
    assert lives[1].err == said
    assert "It comes from the gradient of parameter heads." in said
    assert "all outputs and losses being finite, in the part of it that is held on process 0. Samples: " in said
    kept = sorted((fields.parent / "runs/run/nonfinite/step-00000002").glob("*.json"))
    ids = [name for file in kept for name in json.loads(file.read_text())["batch"]]
    assert f"Samples: {', '.join(ids)}. " in said


@pytest.mark.slow
def test_stages_in_parts_begin_with_the_best_weights_of_the_one_before(fields: Path) -> None:
    """With dropout, which each process draws as it does with whole weights."""
    values = yaml.safe_load(fields.read_text())
    values["stages"] = {name: {"training": {"epochs": 2, "steps_per_epoch": 2}} for name in ("first", "second")}
    values["regularizers"] = {"anchor": {"name": "l2_initial", "strength": 0.1}}
    values["training"]["optimizer"] = {"lr": 0.01, **EPS}
    for name, patch in (("whole", None), ("parts", in_parts)):
        fields.write_text(yaml.safe_dump({**values, "name": name}))
        lives = together(fields, patch=patch)
        assert [life.code for life in lives] == [0, 0], lives
    for stage in ("first", "second"):
        assert_alike(*(fields.parent / "runs" / name / stage for name in ("whole", "parts")), tolerance=1e-5)


@pytest.mark.slow
def test_what_is_no_training_wants_whole_weights(fields: Path) -> None:
    run = fields.parent / "runs" / "run"
    assert [life.code for life in together(fields, patch=in_parts)] == [0, 0]
    for words in (["evaluate", str(run)], ["doctor", str(fields)], ["tune", "lr", str(fields)]):
        life = live(words, cwd=fields.parent, patch=in_parts)
        assert life.code == 2, words
        assert life.err.startswith("error: accelerate was told to use FSDP"), life.err
        assert "only training can do with that" in life.err


@pytest.mark.slow
def test_the_operation_that_makes_a_nan_is_found_in_parts(fields: Path) -> None:
    lives = together(fields, "training.detect_anomaly=true", patch=in_parts)
    assert [life.code for life in lives] == [0, 0], lives
