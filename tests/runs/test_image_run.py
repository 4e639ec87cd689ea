"""Runs on pixels: trained, augmented, cut and resumed, on two processes, scored without the file of weights."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from lives import cut, live, live_together, results

from data_prep.synth import synthesize
from mmtrain.engine.history import history


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some samples have no picture, most have several; tinted by what they say."""
    path = tmp_path_factory.mktemp("pixels") / "store"
    modalities = {"image": (3, 20, 24), "audio": 5}
    synthesize(path, samples=80, modalities=modalities, groups=20, missing=0.4, max_rows=3, signal=2.0)
    return path


@pytest.fixture
def write(store: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write an experiment on pixels and audio, with another model."""

    def write(**model: object) -> Path:
        values = {
            "name": "whole",
            "runs": str(tmp_path / "runs"),
            "datasets": {"clips": {"store": str(store)}},
            "streams": {"clips": {"dataset": "clips", "tasks": ["funny"]}},
            "augmentation": {"image": {"flip": {"name": "horizontal_flip"}, "noise": {"name": "pixel_noise", "std": 4}}},
            "model": {
                "dim": 8,
                "images": {"image": {"name": "cnn", "hidden": [4, 8]}},
                "sequences": {"audio": {"name": "linear"}},
                "modality_dropout": {"image": 0.2},
                **model,
            },
            "regularizers": {"anchor": {"name": "l2_initial", "strength": 0.01}},
            "batch": {"size": 6, "micro": 2},
            "training": {
                "epochs": 1,
                "steps_per_epoch": 6,
                "checkpoint_every": 2,
                "eval_every": 4,
                "optimizer": {"lr": 0.01},
                "average": {"name": "ema"},
            },
            "curriculum": {"window": 2},
        }
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(values))
        return file

    return write


def train(file: Path, *more: str, patch: Callable[[], None] | None = None) -> int:
    done = live(["train", "--config", str(file), *more], cwd=file.parent, patch=patch)
    assert done.code <= 0, done.err
    return done.code


def test_pixels_are_learned_from(write) -> None:
    """The tint of the pictures tells the answer, beside noise."""
    from mmtrain.cli import main

    file = write(sequences={}, modality_dropout={})
    noise = "augmentation={image: {noise: {name: pixel_noise, std: 4}}}"
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(file), noise, "training.steps_per_epoch=40", "batch.micro=null", "batch.size=16"])
    assert end.value.code == 0
    scores = history(file.parent / "runs" / "whole").evaluations["val/funny/average_precision"]
    assert scores[-1] > 0.75


@pytest.mark.slow
def test_a_run_on_pixels_is_scored_and_needs_no_file_of_weights_for_it(write) -> None:
    from torchvision import models

    weights = models.get_model("shufflenet_v2_x0_5", weights=None).state_dict()
    image = {"name": "torchvision", "model": "shufflenet_v2_x0_5", "weights": "weights.pth", "frozen": True}
    file = write(images={"image": image}, fusion={"name": "only", "modality": "image"}, sequences={})
    torch.save(weights, file.parent / "weights.pth")
    assert train(file) == 0
    (file.parent / "weights.pth").unlink()
    run = file.parent / "runs" / "whole"
    scored = live(["evaluate", str(run), "--split", "val", "--checkpoint", "last"], cwd=file.parent)
    assert scored.code == 0, scored.err
    metrics = json.loads((run / "evaluation" / "val.json").read_text())["metrics"]
    assert metrics["val/funny/loss"] == pytest.approx(history(run).evaluations["val/funny/loss"][-1], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["fixed", "imtl_g"])
def test_a_run_on_pixels_that_was_cut_ends_as_the_one_that_was_not(write, weighting) -> None:
    """Micro-batches of two samples often have fewer than two frames: running statistics, also in a second forward pass."""
    file = write()
    more = (f"curriculum.weighting.name={weighting}",)
    assert train(file, *more) == 0
    assert train(file, *more, "name=cut", patch=partial(cut, at=3, how=signal.SIGKILL)) == -signal.SIGKILL
    assert train(file, *more, "name=cut", "--resume") == 0
    runs = file.parent / "runs"
    assert results(runs / "cut") == results(runs / "whole")


@pytest.mark.slow
def test_two_processes_of_which_one_may_have_no_picture(write) -> None:
    file = write()
    first, second = live_together(["train", "--config", str(file), "batch.micro=1"], cwd=file.parent, world=2)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "batch normalization (each process sees its own slice)" in first.out
    assert not second.out
