"""Parts of a manifest: every sample in one of them, with the splits and classes of the whole."""

from pathlib import Path

import pytest

from data_prep.manifest import read_manifest
from data_prep.shard import Shard, read_shard
from mmtrain.errors import ConfigError, DataError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "clips.csv"
    lines = [f"c{number},g{number},{'ab'[number % 2]}" for number in range(7)]
    file.write_text("\n".join(["id,group,mood", *lines, ""]))
    return file


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_sample_is_in_one_shard_and_as_it_is_in_the_whole(manifest: Path, count: int) -> None:
    whole = read_manifest(manifest, tasks={"mood": "multiclass"})
    parts = [Shard(number, count).of(whole) for number in range(1, count + 1)]
    found = [entry for part in parts for entry in part.entries]
    assert sorted(found, key=lambda entry: entry.id) == list(whole.entries)
    assert all(part.tasks == whole.tasks and part.name == whole.name for part in parts)
    assert max(len(part.entries) for part in parts) - min(len(part.entries) for part in parts) <= 1


def test_more_shards_than_samples_are_refused(manifest: Path) -> None:
    with pytest.raises(DataError, match=r"clips\.csv has 7 samples, too few for 8 shards"):
        Shard(8, 8).of(read_manifest(manifest))


@pytest.mark.parametrize("words", ["", "3", "0/8", "9/8", "3/8/2", "-1/8", "a/b"])
def test_words_that_name_no_shard_are_refused(words: str) -> None:
    with pytest.raises(ConfigError, match=f"--shard {words}: write which of how many, from 1/8 to 8/8"):
        read_shard(words)


def test_words_name_a_shard() -> None:
    assert read_shard("3/8") == Shard(3, 8)
