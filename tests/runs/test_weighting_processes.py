"""Every weighting: two processes, with uneven slices and micro-batches, train as one process does on the whole batch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import Write, live_together
from test_processes_equal import PLAIN, assert_alike, double

from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.curriculum.weighting.gradients import GradientSection

FAST = ("uncertainty", "pcgrad-representation")  # the rest is in the slow suite
TOLERANCE = {"cagrad": 1e-11}  # what an iterative solver makes of differences in the last digit


def rows() -> Iterator[Any]:
    """Every row of the table; those of gradients over both places."""
    for config in WEIGHTINGS:
        name = config.model_fields["name"].default
        for over in ("representation", "parameters") if issubclass(config, GradientSection) else (None,):
            section = {"name": name} | ({"over": over} if over else {})
            label = label_of(section)
            yield pytest.param(section, id=label, marks=[] if label in FAST else [pytest.mark.slow])


def label_of(section: dict[str, Any]) -> str:
    return "-".join(section.values())


def weighted(write: Write, name: str, weighting: dict[str, Any], micro: int | None) -> Path:
    """Six steps of windows of 3 over clips (funny, mood) and calls (funny, pitch), without text, dropout and penalty."""
    training = PLAIN["training"] | {"epochs": 1, "steps_per_epoch": 6, "eval_every": None, "checkpoint_every": None}
    changes = PLAIN | {"batch": {"micro": micro}, "training": training}
    file = write(f"{name}.yaml", name=name, curriculum={"window": 3, "weighting": weighting}, **changes)
    values = yaml.safe_load(file.read_text())
    values["model"].pop("text")
    values["regularizers"] = {}
    file.write_text(yaml.safe_dump(values))
    return file


def trained(write: Write, name: str, weighting: dict[str, Any], *, world: int = 1, micro: int | None = None) -> Path:
    file = weighted(write, name, weighting, micro)
    lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=world, patch=double)
    assert [life.code for life in lives] == [0] * world, "\n".join(life.out + life.err for life in lives)
    return file.parent / "runs" / name


@pytest.mark.parametrize("weighting", list(rows()))
def test_one_process_is_two_is_micro_batches(write_experiment: Write, weighting: dict[str, Any]) -> None:
    tolerance = TOLERANCE.get(weighting["name"], 1e-12)
    one = trained(write_experiment, "one", weighting)
    records = [json.loads(line) for line in (one / "curriculum.jsonl").read_text().splitlines()]
    assert len(records) == 2
    assert all((record["conflicts"] is not None) == ("over" in weighting) for record in records)
    for name, options in (("both", {"world": 2, "micro": 3}), ("micro", {"micro": 3})):  # slices of 4 and 3: two passes, one
        other = trained(write_experiment, name, weighting, **options)
        assert_alike(one, other, tolerance=tolerance)
        for first, second in zip(records, (other / "curriculum.jsonl").read_text().splitlines(), strict=True):
            found = json.loads(second)
            assert found["conflicts"] == first["conflicts"]
            assert (found["weights"] or {}) == pytest.approx(first["weights"] or {}, rel=1e-5)
        if label_of(weighting) in FAST:
            return  # the others run in the slow suite
