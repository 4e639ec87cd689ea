"""A modality that a fusion cannot do without and that no training sample has is said before anything trains."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lives import live

from data_prep.synth import synthesize
from mmtrain.build import build_run
from mmtrain.compatibility import open_stores
from mmtrain.config import load_experiment
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError
from mmtrain.run_checks import check_run
from mmtrain.training import build_accelerator

NOBODY = "model.fusion: {} needs '{}', and no training sample of the streams clips has it (the model reads {})"
ALL = "text, audio, video"


def mute(path: Path) -> Path:
    """Sound everywhere, white space for a text in training, and a text and a picture in validation alone."""
    modalities = {"audio": FeatureSpec(dim=4), "video": FeatureSpec(dim=3)}
    random = np.random.default_rng(0)
    with StoreWriter(path, name="mute", modalities=modalities, tasks={"funny": TaskSchema(kind="binary")}) as writer:
        for number in range(12):
            late = number >= 8
            features = {"audio": random.normal(size=(2, 4))} | ({"video": random.normal(size=(1, 3))} if late else {})
            writer.add(
                id=f"c{number}",
                split="val" if late else "train",
                group=f"g{number}",
                text="a fish" if late else " " * (number % 2),
                features=features,
                labels={"funny": number % 2},
            )
    return path


@pytest.fixture
def write(tmp_path: Path, tiny_bert: Path) -> Callable[..., Path]:
    store = mute(tmp_path / "mute")

    def write(fusion: dict[str, Any], *, text: bool = True, **changes: Any) -> Path:
        encoder = {"path": str(tiny_bert), "weights": "random", "max_tokens": 16}
        values = {
            "name": "run",
            "runs": str(tmp_path / "runs"),
            "datasets": {"clips": {"store": str(store)}},
            "streams": {"clips": {"dataset": "clips", "tasks": ["funny"]}},
            "model": {
                "dim": 8,
                "text": encoder if text else None,
                "sequences": {"audio": {"name": "linear"}, "video": {"name": "linear"}},
                "fusion": fusion,
            },
            "batch": {"size": 4},
            "training": {"epochs": 1, "steps_per_epoch": 1},
            "selection": {"metric": "val/funny/loss", "mode": "min"},
        } | changes
        (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "experiment.yaml"

    return write


def build(file: Path) -> None:
    experiment = load_experiment(file)
    build_run(experiment, build_accelerator(experiment), None, on_disk=False).close()


@pytest.mark.parametrize(
    ("fusion", "text", "message"),
    [
        ({"name": "mag"}, True, NOBODY.format("mag", "text", ALL)),
        ({"name": "only", "modality": "text"}, True, NOBODY.format("only", "text", ALL)),
        ({"name": "only", "modality": "video"}, True, NOBODY.format("only", "video", ALL)),
        ({"name": "pair"}, False, NOBODY.format("pair", "video", "audio, video")),
        ({"name": "pair_cosine"}, False, NOBODY.format("pair_cosine", "video", "audio, video")),
    ],
    ids=["mag", "only-text", "only-video", "pair", "pair_cosine"],
)
def test_what_a_fusion_needs_and_nobody_has_is_said(write, fusion, text, message) -> None:
    file = write(fusion, text=text)
    with pytest.raises(DataError) as refused:
        build(file)
    assert message in str(refused.value)
    experiment = load_experiment(file)
    with pytest.raises(DataError, match=re.escape(message)):  # what a matrix asks of its variants before the first trains
        check_run(experiment, open_stores(experiment))


@pytest.mark.parametrize("fusion", [{"name": "only", "modality": "audio"}, {"name": "concat"}, {"name": "hca"}], ids=str)
def test_what_it_can_do_without_may_be_missing(write, fusion) -> None:
    build(write(fusion))


def test_one_stream_that_has_it_will_do(write, tmp_path) -> None:
    synthesize(tmp_path / "calls", samples=20, modalities={"audio": 4}, tasks={"funny": "binary"})
    datasets = {name: {"store": str(tmp_path / folder)} for name, folder in (("clips", "mute"), ("calls", "calls"))}
    streams = {name: {"dataset": name, "tasks": ["funny"]} for name in datasets}
    build(write({"name": "mag"}, datasets=datasets, streams=streams))
    streams["calls"]["modalities"] = ["audio"]  # which leaves its texts unread
    with pytest.raises(DataError, match="mag needs 'text', and no training sample of the streams calls, clips has it"):
        build(write({"name": "mag"}, datasets=datasets, streams=streams))


def test_the_command_says_it_in_one_message(write) -> None:
    file = write({"name": "mag"})
    life = live(["train", "--config", str(file)], cwd=file.parent)
    assert life.code == 2
    message = NOBODY.format("mag", "text", ALL)
    assert f"error: {message}; add a store that holds it, or write another fusion" in life.err
    assert not (file.parent / "runs").exists()
