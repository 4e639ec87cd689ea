"""What cannot train on weights in parts (FSDP) is refused before training, by the key that asks for it."""

from typing import Any

import pytest
from torch import nn

from mmtrain.config import Experiment
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.engine.launch import keeps_units_whole, sharding_complaint
from mmtrain.errors import ConfigError
from mmtrain.sharding_limits import refuse_unshardable

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


class InParts(nn.Linear):
    """What `fully_shard` leaves is told by its methods."""

    def unshard(self) -> None:
        """See FSDPModule."""


def asked(**changes: Any) -> Experiment:
    """A whole experiment with changes by dotted key, `__` standing for the dot."""
    values: dict[str, Any] = {
        "name": "run",
        "datasets": {"clips": {"store": "clips"}},
        "streams": {"clips": {"dataset": "clips", "tasks": ["funny"]}},
        "model": {"dim": 8, "sequences": {"audio": {"name": "linear"}}},
        "selection": {"metric": "val/loss", "mode": "min"},
        "batch": {"size": 8},
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        section = values
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
    return Experiment.model_validate(values)


def refusal(experiment: Experiment, *, model: nn.Module | None = None, processes: int = 2) -> str | None:
    setting = Setting(streams=[StreamSpec(name="clips", size=9)], tasks=["funny", "mood"])
    weighting = experiment.curriculum.weighting.build(setting)
    try:
        refuse_unshardable(experiment, model or InParts(1, 1), weighting, num_processes=processes)
    except ConfigError as error:
        return str(error)
    return None


TEXT = {"name": "transformers", "path": "bert", "trainable_layers": 0, "cache": True}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training__precision": "fp16"}, "training.precision: with weights in parts (FSDP), fp16 scales"),
        ({"training__compile": True}, "training.compile: with weights in parts (FSDP), a compiled model"),
        ({"training__optimizer": {"name": "adafactor"}}, "training.optimizer: with weights in parts (FSDP), adafactor"),
        ({"curriculum__weighting": {"name": "pcgrad"}}, "curriculum.weighting: with weights in parts (FSDP), it compares"),
        ({"model__text": TEXT}, "model.text.cache: with weights in parts (FSDP), the first process"),
        (
            {"batch__size": 7, "batch__micro": 1},
            "batch.size: with weights in parts (FSDP), 2 processes pass",
        ),
        ({"batch__size": 7, "batch__tokens": 64}, "batch.size: with weights in parts (FSDP), 2 processes pass"),
    ],
    ids=str,
)
def test_what_asks_for_whole_weights_is_named(changes: dict[str, Any], expected: str) -> None:
    said = refusal(asked(**changes))
    assert said is not None
    assert said.startswith(expected)
    assert said.endswith(", or launch with `--multi_gpu`")
    assert refusal(asked(**changes), model=nn.Linear(1, 1)) is None, "weights that are whole can do all of it"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training__precision": "bf16"},
        {"training__average": {"name": "ema"}},
        {"curriculum__weighting": {"name": "inverse_loss"}},
        {"batch__micro": 1},
        {"batch__size": 7, "batch__micro": 2},
        {"batch__tokens": 64},
    ],
    ids=str,
)
def test_what_can_be_trained_in_parts(changes: dict[str, Any]) -> None:
    assert refusal(asked(**changes)) is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "accelerate was told to use FSDP in version 1, which leaves"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "accelerate was told to use DeepSpeed, which leaves"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "accelerate was told to use Megatron, which leaves"),
        ({**FSDP2, "ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "accelerate was told to use a parallelism_config, which"),
        (
            {**FSDP2, "FSDP_OFFLOAD_PARAMS": "true"},
            "accelerate's fsdp_offload_params is true, which is not known here",
        ),
        (
            {**FSDP2, "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "accelerate's fsdp_activation_checkpointing is true, which is not known here; write model.text.gradient_check",
        ),
        ({**FSDP2, "FSDP_IGNORED_MODULES": "text"}, "accelerate's fsdp_ignored_modules is text, which is not known here"),
    ],
    ids=str,
)
def test_ways_to_cut_weights_that_are_not_known(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = sharding_complaint(trains=True)
    assert said is not None
    assert said.startswith(expected)


def test_the_way_that_is_known_trains_and_does_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sharding_complaint(trains=False) is None
    launched = {"FSDP_OFFLOAD_PARAMS": "false", "FSDP_ACTIVATION_CHECKPOINTING": "false", "FSDP_IGNORED_MODULES": "None"}
    for name, value in {**FSDP2, **launched}.items():
        monkeypatch.setenv(name, value)
    assert sharding_complaint(trains=True) is None
    said = sharding_complaint(trains=False)
    assert said is not None
    assert said.startswith(
        "accelerate was told to use FSDP, which leaves every process a part of each weight; only training"
    )
    assert not keeps_units_whole()
    monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    assert keeps_units_whole()
