"""Runs with pretext tasks: beside tasks with labels or alone, on one process or two, stopped and resumed, scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import Write, live_together
from test_processes_equal import assert_alike, double

from mmtrain.engine.history import history

# no dropout and no text, whose weights are float32
MODEL: dict[str, Any] = {
    "dim": 8,
    "sequences": {"audio": {"name": "linear"}, "video": {"name": "linear"}},
    "fusion": {"name": "concat", "dropout": 0.0},
}
ALIGN: dict[str, Any] = {"align": {"name": "info_nce", "dim": 4}}
MIXED = {"clips": {"dataset": "clips", "tasks": ["align", "funny"]}, "calls": {"dataset": "calls", "tasks": ["funny"]}}
ALONE = {"clips": {"dataset": "clips", "tasks": ["align"]}}


@pytest.fixture
def write_pretext(write_experiment: Write) -> Write:
    """An experiment file with the pretext task `align` over audio and video, and changes of whole sections."""

    def write(name: str, **sections: Any) -> Path:
        file = write_experiment(f"{name}.yaml", name=name)
        values = yaml.safe_load(file.read_text())
        values |= {"model": MODEL, "tasks": {}, "regularizers": {}, "pretext": ALIGN, "streams": MIXED}
        values["batch"] = {"size": 7, "evaluation": 16}
        values["selection"] = {"metric": "val/align/recall@1", "mode": "max"}
        values["training"] = values["training"] | {"optimizer": {"lr": 0.01, "eps": 1e-3}}
        for key, section in sections.items():
            values[key] = values[key] | section if key in ("training", "batch", "selection") else section
        used = {stream["dataset"] for stream in values["streams"].values()}
        values["datasets"] = {key: value for key, value in values["datasets"].items() if key in used}
        file.write_text(yaml.safe_dump(values))
        return file

    return write


def trained(file: Path, *, world: int = 1, patch: Callable[[], None] | None = None) -> Path:
    lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=world, patch=patch)
    assert [life.code for life in lives] == [0] * world, "\n".join(life.out + life.err for life in lives)
    return file.parent / "runs" / file.stem


@pytest.mark.parametrize("streams", [MIXED, ALONE], ids=["mixed", "alone"])
def test_two_processes_compare_all_samples_of_the_global_batch(write_pretext: Write, streams: dict[str, Any]) -> None:
    """Slices of 4 and 3: values, gradients and weights are those of one process to 12 digits."""
    one = trained(write_pretext("one", streams=streams), patch=double)
    two = trained(write_pretext("two", streams=streams), world=2, patch=double)
    assert "val/align/audio_to_video_recall@1" in history(one).evaluations
    assert_alike(one, two, tolerance=1e-12)
