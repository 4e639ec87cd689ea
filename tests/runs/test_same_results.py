"""One seed gives one result, however far a run reads ahead and whatever else draws random numbers; another seed another."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lives import results

from mmtrain.data.collate import Collator
from mmtrain.training import train_experiment


def run(fields: Path, name: str, *overrides: str) -> dict[str, Any]:
    train_experiment(fields, [f"name={name}", *overrides])
    found = results(fields.parent / "runs" / name)
    found.pop("state")  # it holds the config, whose prefetch differs
    return found


def test_reading_ahead_changes_nothing_and_the_seed_everything(fields: Path) -> None:
    dropout = "tasks={funny: {head: {name: mlp, hidden: [8], dropout: 0.3}}}"
    expected = run(fields, "one", dropout)
    for prefetch in (0, 1, 9):
        assert run(fields, f"ahead-{prefetch}", dropout, f"batch.prefetch={prefetch}") == expected, prefetch
    assert run(fields, "again", dropout) == expected
    other = run(fields, "other", dropout, "seed=4")
    for name in ("model.safetensors", "metrics.jsonl", "curriculum.jsonl"):
        assert other[name] != expected[name], name


@pytest.mark.parametrize("prefetch", [0, 2])
def test_who_reads_draws_nothing(fields: Path, monkeypatch: pytest.MonkeyPatch, prefetch: int) -> None:
    """A loader in a thread that drew from the generators of the training would make it depend on timing."""
    collate = Collator.__call__
    states = []

    def checked(self: Collator, samples: Any, streams: Any) -> Any:
        before = (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
        batch = collate(self, samples, streams)
        states.append(before == (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]))
        return batch

    monkeypatch.setattr(Collator, "__call__", checked)
    run(fields, "run", f"batch.prefetch={prefetch}")
    assert len(states) > 4
    assert all(states)
