"""The configs of text alone, by the commands that stand in them: a table, a store, a run."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mmtrain.config import load_experiment
from mmtrain.engine.history import history

CONFIGS = Path(__file__).parents[2] / "configs" / "text"
WORDS = ("good", "bad", "fish", "king", "ship", "gold", "water", "sea")
COLUMNS = {
    "sentence": ("id", "split", "group", "text", "positive"),
    "sts": ("id", "split", "group", "text", "second_text", "similarity"),
    "longformer": ("id", "split", "group", "text", "positive"),
}
SMALL = {
    "sentence": ["model.dim=32", "model.text.max_tokens=16"],
    "sts": ["model.dim=32", "model.text.max_tokens=16"],
    "longformer": ["model.dim=16", "model.text.max_tokens=64"],
}


def table(file: Path, columns: tuple[str, ...]) -> None:
    random = np.random.default_rng(0)
    file.parent.mkdir()
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        for number in range(48):
            first, second = (random.choice(WORDS, 4, replace=False).tolist() for _ in range(2))
            cells = {"id": f"t{number}", "split": "train" if number < 32 else "val", "group": f"g{number}"}
            cells |= {"text": " ".join(first), "second_text": " ".join(second)}
            cells |= {"positive": int("good" in first), "similarity": len(set(first) & set(second)) / 4}
            writer.writerow({name: cells[name] for name in columns})


def test_there_is_a_trial_for_each() -> None:
    assert sorted(file.stem for file in CONFIGS.glob("*.yaml")) == sorted(COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_it_trains_by_its_own_commands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    from data_prep.cli import app
    from mmtrain.training import train_experiment

    file = CONFIGS / f"{name}.yaml"
    extract, train = re.findall(r"^#   (?:python -m data_prep|mmtrain) (.*)$", file.read_text(encoding="utf-8"), re.M)
    monkeypatch.chdir(tmp_path)
    table(Path(shlex.split(extract)[1]), COLUMNS[name])
    app(shlex.split(extract), standalone_mode=False)
    words = shlex.split(train)
    assert words[:2] == ["train", "--config"]
    assert CONFIGS.parent.parent / words[2] == file
    experiment = load_experiment(file)
    small = [*SMALL[name], f"model.text.path={tiny_bert}", "training.epochs=1", "training.precision=fp32", "batch.size=8"]
    train_experiment(file, small)
    found = history(f"runs/{experiment.name}")
    assert len(found.steps["objective"]) == 4
    assert np.isfinite(found.evaluations[experiment.selection.metric]).all()
