"""`describe_store` and `print_info`: numbers that can be counted by hand."""

import io

import numpy as np
import pytest
from rich.console import Console

from mmtrain.data.info import describe_store, print_info
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.writer import StoreWriter


@pytest.fixture
def path(tmp_path):
    tasks = {
        "funny": TaskSchema(kind="binary"),
        "topic": TaskSchema(kind="multiclass", classes=("sea", "[red]")),
        "tags": TaskSchema(kind="multilabel", classes=("x", "y")),
        "mood": TaskSchema(kind="regression"),
    }
    modalities = {"audio": FeatureSpec(dim=1)}
    with StoreWriter(tmp_path / "store", name="clips", modalities=modalities, tasks=tasks, licence="CC0-1.0") as writer:
        for index in range(4):
            labels = {"funny": index // 3, "tags": [1, index % 2], "mood": float(index)}
            if index:
                labels["topic"] = 1
            rows = {"audio": np.ones((index, 1))}
            group = f"g{index // 2}"
            writer.add(id=str(index), split="train", group=group, text="ab" * index, features=rows, labels=labels)
        writer.add(id="last", split="test", group="h", text="ten chars!")
    return tmp_path / "store"


def test_counts_by_hand(path):
    info = describe_store(path)
    assert (info.name, info.samples, info.licence) == ("clips", 5, "CC0-1.0")
    assert info.splits == {"train": 4, "val": 0, "test": 1}
    assert info.groups == {"train": 2, "val": 0, "test": 1}
    train = {task: splits["train"] for task, splits in info.tasks.items()}
    assert (train["funny"].labelled, train["funny"].balance) == (4, {"0": 3, "1": 1})
    assert (train["topic"].labelled, train["topic"].balance) == (3, {"sea": 0, "[red]": 3})
    assert (train["tags"].labelled, train["tags"].balance) == (4, {"x": 4, "y": 2})
    assert train["mood"].balance == {"mean": 1.5, "std": pytest.approx(1.25**0.5), "min": 0.0, "max": 3.0}
    assert info.tasks["mood"]["test"].labelled == 0
    assert info.lengths["audio"].missing == 2
    assert info.lengths["audio"].percentiles[50] == 2
    assert info.lengths["audio"].percentiles[100] == 3
    assert (info.lengths["text"].missing, info.lengths["text"].percentiles[100]) == (1, 10)


def test_shown_as_tables(path):
    out = io.StringIO()
    print_info(path, Console(file=out, width=120))
    shown = out.getvalue()
    for part in (
        "clips: 5 samples, licence CC0-1.0",
        "0 3 (75%), 1 1 (25%)",
        "[red] 3 (100%)",
        "0 of 1",
        "2 (40.0%)",
        "mean 1.5",
    ):
        assert part in shown
