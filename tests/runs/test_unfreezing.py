"""Gradual unfreezing: what stands still does so wholly, and a run that is cut at a border goes on the same."""

import copy
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from lives import Write, cut, live, live_together
from safetensors.numpy import load_file
from test_resume_exact import results

from mmtrain.config import load_experiment
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.engine.text_layers import TextLayers
from mmtrain.engine.unfreezing import StageConfig, UnfreezeConfig
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.hub import load_encoder, transformer_layers

Build = Callable[..., Run]
STAGES = {"stages": [{"at": 0, "layers": 0}, {"at": 1, "layers": 1}, {"at": 3, "layers": None}], "unit": "steps"}


def text_of(tiny_bert: Any, **changes: Any) -> dict[str, Any]:
    return {"text": {"name": "transformers", "path": str(tiny_bert), "max_tokens": 12, "dropout": 0.1} | changes}


def steps_of(run: Run) -> Any:
    return run.loader.steps(run.curriculum.next_window(0, 4), first=0)


def parts(names: Any) -> set[str]:
    """Which parts of the encoder the parameters are of."""
    found = {name.removeprefix("text.encoder.") for name in names if name.startswith("text.encoder.")}
    return {".".join(name.split(".")[:3]) if name.startswith("encoder") else name.split(".")[0] for name in found}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "adagrad", "sgd", "adafactor"])
def test_what_stands_still_keeps_weights_and_moments(small_run: Build, tiny_bert: Any, optimizer: str) -> None:
    training = {"unfreeze": STAGES, "optimizer": {"name": optimizer, "weight_decay": 0.3}, "schedule": {"warmup": 0}}
    run = small_run(model=text_of(tiny_bert), training=training)
    run.model.train()
    names = {id(value): name for name, value in run.model.named_parameters()}
    expected = [set(), {"encoder.layer.1"}, {"encoder.layer.1"}, {"embeddings", "encoder.layer.0", "encoder.layer.1"}]
    for inputs, moving in zip(steps_of(run), expected, strict=True):
        before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        state = copy.deepcopy({names[id(value)]: entry for value, entry in run.optimizer.state.items()})
        train_step(run, inputs)
        assert parts(name for name, value in run.model.named_parameters() if not torch.equal(value, before[name])) == moving
        changed = {names[id(value)] for value, entry in run.optimizer.state.items()
                   if repr(entry) != repr(state.get(names[id(value)]))}  # fmt: skip
        assert parts(changed) <= moving
        assert any(name.startswith("heads") for name in changed)


@pytest.mark.parametrize("layers", [0, 1])
def test_one_stage_is_what_trainable_layers_is(small_run: Build, tiny_bert: Any, layers: int) -> None:
    """Dropout, the norm that is clipped, and every update are the same, bit for bit."""
    short = {"epochs": 1, "steps_per_epoch": 6, "eval_every": 4}
    runs = [
        small_run(model=text_of(tiny_bert, trainable_layers=layers), training=short),
        small_run(model=text_of(tiny_bert), training=short | {"unfreeze": {"stages": [{"at": 0, "layers": layers}]}}),
    ]
    for run in runs:
        torch.manual_seed(0)
        fit(run, RunState())
    found = [run.model.state_dict() for run in runs]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_epochs_become_steps_and_are_said(tiny_bert: Any) -> None:
    encoder = load_encoder(str(tiny_bert), weights="random", dropout=None)
    text = TextLayers(encoder, transformer_layers(encoder), "bert")
    stages = (StageConfig(at=0, layers=0), StageConfig(at=1.5, layers=1), StageConfig(at=2, layers=None))
    found = UnfreezeConfig(stages=stages).build(text, steps_per_epoch=10)
    assert found.starts == [0, 15, 20]
    assert found.note() == ("of the text encoder learns nothing from step 1, its top 1 from step 16, all of it from step 21")


def test_layers_that_are_not_there_are_refused(tiny_bert: Any) -> None:
    encoder = load_encoder(str(tiny_bert), weights="random", dropout=None)
    config = UnfreezeConfig(stages=(StageConfig(at=0, layers=3),))
    with pytest.raises(ConfigError, match=r"training.unfreeze: layers: 3, but this bert encoder has 2"):
        config.build(TextLayers(encoder, transformer_layers(encoder), "bert"), steps_per_epoch=1)
    albert = TextLayers(encoder, None, "albert")
    with pytest.raises(ConfigError, match=r"training.unfreeze: albert encoders have no separate layers; write layers: null"):
        config.build(albert, steps_per_epoch=1)
    UnfreezeConfig(stages=(StageConfig(at=0, layers=0),)).build(albert, steps_per_epoch=1).drop_gradients(0)


@pytest.mark.parametrize("at", [3, pytest.param(4, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_a_run_cut_at_a_border_ends_as_the_whole_one(write_experiment: Write, at: int) -> None:
    stages = [{"at": 0, "layers": 0}, {"at": 0.4, "layers": 1}, {"at": 0.7, "layers": None}]
    file = write_experiment(training={"epochs": 1, "eval_every": 4, "unfreeze": {"stages": stages}})
    assert load_experiment(file).training.unfreeze is not None
    runs = file.parent / "runs"
    for name, flags, patch in (
        ("whole", [], None),
        ("cut", [], partial(cut, at=at, how=signal.SIGINT)),
        ("cut", ["--resume"], None),
    ):
        life = live(["train", "--config", str(file), *flags, f"name={name}"], cwd=file.parent, patch=patch)
        assert life.code == (130 if patch else 0), life.out + life.err
    assert "learns nothing from step 1, its top 1 from step 5, all of it from step 8" in life.out.replace("\n", " ")
    assert results(runs / "cut") == results(runs / "whole")


@pytest.mark.slow
def test_two_processes_freeze_alike(write_experiment: Write) -> None:
    """DDP waits for every gradient, also for those that are dropped. No dropout: then one process gives the same."""
    changes: dict[str, Any] = {
        "tasks": {"mood": {"head": {"dropout": 0.0}}},
        "model": {"text": {"dropout": 0.0}, "sequences": {"audio": {"dropout": 0.0}}, "fusion": {"dropout": 0.0}},
        "batch": {"micro": None},
        "training": {"epochs": 1, "unfreeze": STAGES, "optimizer": {"eps": 1e-3}},
    }
    found = {}
    for world in (1, 2):
        file = write_experiment(f"{world}.yaml", name=f"of-{world}", **changes)
        lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=world)
        assert [life.code for life in lives] == [0] * world, "\n".join(life.out + life.err for life in lives)
        found[world] = load_file(file.parent / "runs" / f"of-{world}" / "checkpoints" / "last" / "model.safetensors")
    for name, value in found[1].items():
        assert found[2][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
