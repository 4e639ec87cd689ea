"""The search file that is shipped: every key of it is one of the demo's experiment, whatever value is tried."""

from pathlib import Path

import pytest

from mmtrain.config import load_experiment
from mmtrain.tuning.search_space import Choices, overrides_of, read_space

CONFIGS = Path(__file__).parents[2] / "configs"
SPACE = read_space(CONFIGS / "search" / "generalization.yaml")


def ends(entry):
    return list(entry.choices) if isinstance(entry, Choices) else [entry.low, entry.high]


def load(values):
    return load_experiment(CONFIGS / "demo.yaml", overrides_of(values))


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, entry in SPACE.items() for value in ends(entry)])
def test_a_key_alone_is_one_of_the_demo(key, value):
    found = load({key: value}).resolved()
    for part in key.split("."):
        found = found[part]
    assert found == (found | value if isinstance(value, dict) else value)


@pytest.mark.parametrize("end", [0, -1], ids=["first", "last"])
def test_all_together_are_an_experiment(end):
    values = {key: ends(entry)[end] for key, entry in SPACE.items()}
    experiment = load(values)
    assert list(experiment.augmentation["audio"]) == ["masking", "noise"]
    assert experiment.task("speaker").loss.label_smoothing == (0.1 if end else 0)
    assert experiment.training.optimizer.weight_decay == (0.3 if end else 1e-4)


def test_it_tunes_all_four_and_can_leave_each_out():
    """Weight decay nearly (its range is logarithmic); the rest at 0."""
    assert {key.split(".")[0] for key in SPACE} == {"training", "model", "tasks", "augmentation"}
    for key, entry in SPACE.items():
        if isinstance(entry, Choices):
            assert set(entry.first.values()) <= {entry.first["name"], 0}, key
        else:
            assert entry.low <= 1e-4, key


def test_the_readme_shows_its_command():
    readme = (CONFIGS.parent / "README.md").read_text(encoding="utf-8")
    command = "mmtrain tune search configs/demo.yaml configs/search/generalization.yaml --trials 30"
    assert command in readme
    assert command in (CONFIGS / "search" / "generalization.yaml").read_text(encoding="utf-8")
