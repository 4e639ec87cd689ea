"""`split`: groups whole, shares as near as groups allow, labels spread; the same for a seed."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.resplit import divide, split_store
from data_prep.stats import measure_store
from data_prep.synth import synthesize
from mmtrain.data.check import check_store
from mmtrain.data.schema import SPLITS, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError, DataError

RATIOS = st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.6, 0.4, 0.0), (0.0, 0.5, 0.5)])


def _held(groups, sides, key="samples"):
    return [sum(groups[group].get(key, 0) for group in groups if sides[group] == split) for split in SPLITS]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=3, max_size=80), RATIOS, st.integers(0, 99))
def test_shares_are_within_a_group_and_no_split_is_empty(sizes, ratios, seed):
    groups = {f"g{number}": {"samples": size} for number, size in enumerate(sizes)}
    sides = divide(groups, ratios=ratios, seed=seed)
    assert sides.keys() == groups.keys()
    held = _held(groups, sides)
    for have, share in zip(held, ratios, strict=True):
        assert (have > 0) == (share > 0)
        if len(sizes) >= 20:  # few groups that fill every split leave no choice
            assert abs(have - share * sum(sizes)) <= max(sizes)
    assert divide(dict(reversed(groups.items())), ratios=ratios, seed=seed) == sides


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 200), RATIOS, st.integers(0, 99))
def test_without_groups_shares_are_exact_to_the_sample(count, ratios, seed):
    groups = {f"g{number}": {"samples": 1} for number in range(count)}
    held = _held(groups, divide(groups, ratios=ratios, seed=seed))
    assert all(abs(have - share * count) < 1 for have, share in zip(held, ratios, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("aaaabbc"), min_size=60, max_size=200), RATIOS, st.integers(0, 99))
def test_labels_are_spread_to_the_sample_too(labels, ratios, seed):
    groups = {f"g{number}": {"samples": 1, label: 1} for number, label in enumerate(labels)}
    sides = divide(groups, ratios=ratios, seed=seed)
    for key, slack in (("samples", 1.5), ("a", 2), ("b", 2), ("c", 2)):
        total = sum(_held(groups, sides, key))
        for have, share in zip(_held(groups, sides, key), ratios, strict=True):
            assert abs(have - share * total) <= slack


def test_many_labels_do_not_outweigh_the_shares():
    """Twelve samples of each label would each be divided 10, 1 and 1: in all 83 % for train."""
    groups = {f"g{number}": {"samples": 1, f"label {number // 12}": 1} for number in range(1200)}
    assert _held(groups, divide(groups, ratios=(0.8, 0.1, 0.1), seed=0)) == [960, 120, 120]


def _distance(groups, sides, ratios) -> float:
    """What `divide` makes small, in a plain loop."""
    keys = sorted({key for counts in groups.values() for key in counts})
    found = 0.0
    for key in keys:
        held, weight = _held(groups, sides, key), len(keys) if key == "samples" else 1
        for have, share in zip(held, ratios, strict=True):
            found += weight * (have - share * sum(held)) ** 2 / (share * sum(held)) if share else 0
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=6, max_size=20), RATIOS, st.integers(0, 99))
def test_no_single_group_would_be_better_elsewhere(sizes, ratios, seed):
    groups = {f"g{place}": {"samples": size, "rare": min(rare, size)} for place, (size, rare) in enumerate(sizes)}
    groups["g0"]["rare"] = 1
    sides = divide(groups, ratios=ratios, seed=seed)
    least = _distance(groups, sides, ratios)
    for group, own in sides.items():
        if list(sides.values()).count(own) > 1:
            for split, share in zip(SPLITS, ratios, strict=True):
                if share:
                    assert _distance(groups, sides | {group: split}, ratios) >= least - 1e-6


def test_a_case_by_hand():
    """Of groups of 8, 1 and 1 samples only one division is exact."""
    groups = {"small": {"samples": 1}, "large": {"samples": 8}, "other": {"samples": 1}}
    sides = divide(groups, ratios=(0.8, 0.1, 0.1), seed=0)
    assert sides["large"] == "train"
    assert {sides["small"], sides["other"]} == {"val", "test"}


def test_seeds_divide_differently():
    groups = {f"g{number}": {"samples": 1 + number % 7} for number in range(60)}
    found = [tuple(sorted(divide(groups, ratios=(0.8, 0.1, 0.1), seed=seed).items())) for seed in range(5)]
    assert len(set(found)) == 5


def _store(path, count=60, group=lambda index: f"film-{index // 4}"):
    tasks = {"mood": TaskSchema(kind="multiclass", classes=("glad", "sad")), "size": TaskSchema(kind="regression")}
    columns = {"actor": pa.string(), "year": pa.int64(), "pace": pa.float64()}
    with StoreWriter(path, name="clips", tasks=tasks, columns=columns) as writer:
        for index in range(count):
            labels = {"mood": int(index % 5 == 0), "size": float(index)} if index % 10 else {}
            cells = {"actor": f"a{index % 12}" if index % 7 else None, "year": index % 20, "pace": 1.0}
            writer.add(id=f"s{index}", split="val", group=group(index), text="hi", labels=labels, columns=cells)
    return path


def test_the_new_store_is_the_old_one_divided(tmp_path):
    path = _store(tmp_path / "source")
    balance, notes = split_store(path, out=tmp_path / "new", ratios=(0.8, 0.1, 0.1), stratify=["mood"], seed=4)
    old, new = FeatureStore(path), FeatureStore(tmp_path / "new")
    assert check_store(tmp_path / "new") == notes == []
    splits, groups = new.column("split").to_pylist(), new.column("group").to_pylist()
    assert len(set(zip(groups, splits, strict=True))) == 15  # no group on two sides
    assert new.table.drop_columns(["split"]).equals(old.table.drop_columns(["split"]))
    held = Counter(splits)
    assert held == {split: item.samples for split, item in balance.items()}
    assert abs(held["train"] - 48) <= 4
    for split, item in balance.items():
        moods = [mood for mood, side in zip(new.column("mood").to_pylist(), splits, strict=True) if side == split]
        labelled = [mood for mood in moods if mood is not None]
        assert item.labels["mood"] == {"glad": labelled.count(0) / len(labelled), "sad": labelled.count(1) / len(labelled)}
        assert item.groups == len({group for group, side in zip(groups, splits, strict=True) if side == split})
        assert item.share == held[split] / 60
    told = new.schema.provenance
    assert (told["by"], told["stratify"], told["ratios"], told["seed"]) == ("group", ["mood"], [0.8, 0.1, 0.1], 4)
    assert told["balance"]["train"]["samples"] == held["train"]


@pytest.mark.parametrize("by", ["actor", "year"])
def test_another_column_becomes_the_group_and_a_sample_without_one_is_alone(tmp_path, by):
    split_store(_store(tmp_path / "source"), out=tmp_path / "new", ratios=(0.6, 0.2, 0.2), by=by)
    table = FeatureStore(tmp_path / "new").table.to_pylist()
    assert [row["group"] for row in table] == ["" if row[by] is None else str(row[by]) for row in table]
    sides: dict[str, set[str]] = {}
    for row in table:
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for group, found in sides.items() if group)
    if by == "actor":
        assert len(sides[""]) > 1


def test_samples_without_a_group_stand_alone(tmp_path):
    path = _store(tmp_path / "source", group=lambda _: "")
    balance, _ = split_store(path, out=tmp_path / "new", ratios=(0.8, 0.1, 0.1), stratify=["mood", "size"])
    assert [item.samples for item in balance.values()] == [48, 6, 6]
    assert all(abs(item.labels["size"]["mean"] - 30) < 8 for item in balance.values())


def test_rare_labels_count_as_one(tmp_path):
    """Fifty samples whose tags no other has are shared out as one label is, not all kept for train."""
    classes = tuple("abcdef")
    with StoreWriter(
        tmp_path / "source", name="clips", tasks={"tags": TaskSchema(kind="multilabel", classes=classes)}
    ) as writer:
        for index in range(100):
            tags = [int(bit) for bit in f"{max(index - 49, 0):06b}"]
            writer.add(id=f"s{index}", split="train", group="", text="hi", labels={"tags": tags})
    split_store(tmp_path / "source", out=tmp_path / "new", ratios=(0.8, 0.1, 0.1), stratify=["tags"])
    rows = FeatureStore(tmp_path / "new").table.to_pylist()
    assert Counter(row["split"] for row in rows) == {"train": 80, "val": 10, "test": 10}
    assert Counter(row["split"] for row in rows if any(row["tags"])) == {"train": 40, "val": 5, "test": 5}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"ratios": (0.8, 0.1, 0.2)},
            ConfigError,
            r"--ratios 0\.8 0\.1 0\.2: write three shares of 1 for train, val and test",
        ),
        ({"ratios": (1.2, -0.1, -0.1)}, ConfigError, r"--ratios 1\.2 -0\.1 -0\.1: write three shares"),
        ({"ratios": (float("nan"), 0.5, 0.5)}, ConfigError, "--ratios nan 0.5 0.5: write three shares"),
        ({"by": "film"}, ConfigError, "--by film: store 'clips' has no such column; it has id, split, group, text, "),
        ({"by": "pace"}, ConfigError, "--by pace: it holds double; a column of texts or whole numbers was expected"),
        ({"stratify": ["funny"]}, ConfigError, "--stratify funny: store 'clips' has no such task; its tasks: mood, size"),
        ({"by": "text"}, DataError, "split: 1 groups cannot fill 3 splits; divide by a column with more values"),
    ],
)
def test_what_cannot_be_divided_is_said(tmp_path, options, error, message):
    path = _store(tmp_path / "source")
    with pytest.raises(error, match=message):
        split_store(path, out=tmp_path / "new", **({"ratios": (0.8, 0.1, 0.1)} | options))
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_statistics_of_another_train_do_not_come_over(tmp_path):
    path = synthesize(tmp_path / "source", samples=30)
    measure_store(path, out=tmp_path / "measured")
    _, notes = split_store(tmp_path / "measured", out=tmp_path / "new", ratios=(0.8, 0.1, 0.1))
    assert "are not kept" in notes[0]
