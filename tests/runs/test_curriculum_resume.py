"""A run cut in the middle of any strategy and taken up again writes the logs and weights of the run that was not cut."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from curriculum_rows import PACING_ROWS, SAMPLER_ROWS, SCHEDULE_ROWS, TASKS, WEIGHTING_ROWS, Row
from lives import Write

from mmtrain.build import build_run
from mmtrain.config import load_experiment
from mmtrain.engine import loop
from mmtrain.engine.saving import resume
from mmtrain.engine.state import RunState
from mmtrain.training import build_accelerator

NAMES = ("clips", "calls")
TABLES = {"sampler": SAMPLER_ROWS, "schedule": SCHEDULE_ROWS, "pacing": PACING_ROWS, "weighting": WEIGHTING_ROWS}
STRATEGIES = [
    (part, row)
    for part, rows in TABLES.items()
    for row in rows
    if row.options.get("difficulty", {}).get("name") != "column"  # these stores have none
]
QUICK = ("dynamic_difficulty-0", "stop_and_go-1", "self_paced-1", "gradnorm-0")  # the rest is in the slow suite


class Cut(BaseException):
    """Ends a run where it stands; nothing in the project catches it."""


@pytest.fixture
def file(write_experiment: Write) -> Path:
    """30 steps in windows of 4, cut short by evaluations at 8, 16, 20, 28 and 30; a checkpoint every third step."""
    file = write_experiment(batch={"micro": None}, training={"epochs": 2, "steps_per_epoch": 15})
    values = yaml.safe_load(file.read_text())
    values["streams"] = {name: {"dataset": name, "tasks": list(TASKS[: 2 - k])} for k, name in enumerate(NAMES)}
    values["model"] = {"dim": 8, "sequences": {"audio": {"name": "linear"}, "video": {"name": "linear"}}}
    values["regularizers"], values["tasks"] = {}, {}
    file.write_text(yaml.safe_dump(values))
    return file


def run(file: Path, name: str, section: dict[str, Any], *, cut: int | None = None, continues: bool = False) -> None:
    values = yaml.safe_load(file.read_text())
    values |= {"name": name, "curriculum": section | {"window": 4}}
    file.write_text(yaml.safe_dump(values))
    experiment = load_experiment(file)
    accelerator = build_accelerator(experiment)
    train_step = loop.train_step

    def cutting(run: Any, inputs: Any) -> Any:
        if inputs.step == cut:
            raise Cut
        return train_step(run, inputs)

    with (
        closing(build_run(experiment, accelerator, None, continues=continues)) as built,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(loop, "train_step", cutting)
        state = resume(built) if continues else RunState()
        if cut is None:
            loop.fit(built, state)
        else:
            with pytest.raises(Cut):
                loop.fit(built, state)


def results(file: Path, name: str) -> Iterator[bytes]:
    folder = file.parent / "runs" / name
    for path in (
        "curriculum.jsonl",
        "metrics.jsonl",
        "checkpoints/last/model.safetensors",
        "checkpoints/last/optimizer.safetensors",
    ):
        yield (folder / path).read_bytes()


@pytest.mark.parametrize(
    ("part", "row"),
    [
        pytest.param(part, row, id=f"{part}-{row.name}", marks=[] if row.name in QUICK else pytest.mark.slow)
        for part, row in STRATEGIES
    ],
)
def test_a_run_cut_in_any_strategy_goes_on_as_it_would_have(file: Path, part: str, row: Row) -> None:
    section = {part: row(NAMES).model_dump(mode="json")}
    run(file, "whole", section)
    run(file, "parted", section, cut=13)  # resumes at 12, a window's border
    run(file, "parted", section, cut=23, continues=True)  # resumes at 21, inside a window
    run(file, "parted", section, continues=True)
    assert list(results(file, "parted")) == list(results(file, "whole"))


def test_a_weighting_that_learns_resumes_beside_weights_that_are_averaged(file: Path) -> None:
    """A schedule-free optimizer saves its average, of the learned weights too; training goes on from what was averaged."""
    values = yaml.safe_load(file.read_text())
    values["training"] |= {"optimizer": {"name": "schedule_free_adamw", "lr": 0.01}, "schedule": {"name": "constant"}}
    file.write_text(yaml.safe_dump(values))
    section = {"weighting": {"name": "uncertainty", "lr": 0.1}}
    run(file, "whole", section)
    run(file, "parted", section, cut=13)
    run(file, "parted", section, continues=True)
    assert list(results(file, "parted")) == list(results(file, "whole"))
