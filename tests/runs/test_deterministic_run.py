"""`training.deterministic` and `training.tf32`: what they switch, and that two new processes give the same bits."""

import os
from pathlib import Path

import pytest
import torch
from lives import Write, live, weights

from mmtrain.engine.arithmetic import refuse_nondeterminism
from mmtrain.errors import ConfigError


def demand_both() -> None:
    """Fail in the first step of a run that computes otherwise than asked for."""
    from mmtrain.engine import loop

    whole = loop.train_step

    def train_step(*arguments: object) -> object:
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert tf32_switches() == {True}
        return whole(*arguments)

    loop.train_step = train_step


def demand_neither() -> None:
    from mmtrain.engine import loop

    whole = loop.train_step

    def train_step(*arguments: object) -> object:
        assert not torch.are_deterministic_algorithms_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        assert tf32_switches() == {False}
        return whole(*arguments)

    loop.train_step = train_step


def tf32_switches() -> set[bool]:
    return {torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32}


@pytest.mark.slow
def test_two_new_processes_give_the_same_bits(write_experiment: Write, tmp_path: Path) -> None:
    """Text, recurrent and attention layers with dropout; warnings are errors there, so nothing used is deprecated."""
    file = write_experiment(training={"epochs": 1, "steps_per_epoch": 6, "eval_every": None})
    words = ["training.deterministic=true", "training.tf32=true"]
    for name in ("one", "two"):
        life = live(["train", "--config", str(file), *words, f"name={name}"], cwd=tmp_path, patch=demand_both)
        assert life.code == 0, life.err
    assert weights(file, "one") == weights(file, "two")
    logs = [(tmp_path / "runs" / name / "metrics.jsonl").read_bytes() for name in ("one", "two")]
    assert logs[0] == logs[1]


def test_neither_unless_asked_for(fields: Path) -> None:
    life = live(["train", "--config", str(fields)], cwd=fields.parent, patch=demand_neither)
    assert life.code == 0, life.err


def has_none(*_: object) -> None:
    """What torch says on a GPU of an operation such as cumsum."""
    raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set 'torch.use_det...'")


def without_an_algorithm() -> None:
    from mmtrain.engine import loop

    loop.train_step = has_none


def test_an_operation_without_such_an_algorithm(fields: Path) -> None:
    life = live(["train", "--config", str(fields)], cwd=fields.parent, patch=without_an_algorithm)
    assert life.code == 2
    assert "error: training.deterministic: cumsum_cuda_kernel does not have a deterministic implementation on" in life.err
    refuse_nondeterminism(RuntimeError("another"))
    with pytest.raises(ConfigError, match="write false, or choose another component"):
        refuse_nondeterminism(RuntimeError("x does not have a deterministic implementation, but"))
