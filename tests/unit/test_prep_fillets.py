"""Fetching the dialogues without a network: the game's files, a stand-in for apt, and every way that it can fail."""

import csv
import hashlib
import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from data_prep.fetch import SOURCES, fillets
from data_prep.fetch.record import RECORD
from mmtrain.errors import DataError

DEB_SHA256 = hashlib.sha256(b"deb").hexdigest()


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("What is that?", ("What is that", 1, 0)),
        ("Stop!", ("Stop", 0, 1)),
        ("You what?!", ("You what", 1, 1)),
        ("Well... who? I know.", ("Well... who? I know", 0, 0)),
        ('Who said "why?"', ('Who said "why"', 1, 0)),
        ("Hm (again!).", ("Hm (again)", 0, 1)),
        ("...", ("", 0, 0)),
        ("sea", ("sea", 0, 0)),
    ],
)
def test_final_marks_are_cut_and_told(text, cut):
    assert fillets.cut_punctuation(text) == cut


def _game(folder):
    """Twelve levels of a game: two voiced lines and one silent one each, and sounds without words."""
    for number in range(12):
        level = f"level{number}"
        script = folder / "script" / level
        script.mkdir(parents=True)
        (script / "dialogs_en.lua").write_text(
            'dialogId("m-1", "font_small", "What is that?")\n  dialogId("v-1", "font_big",\n"He said \\"no\\"!")\n'
            'dialogId("x-1", "font_statue", "Hm.")\ndialogId("x-2", "", "")\n-- dialogId("no", "font_big", "A comment.")\n'
        )
        picture = '"images/"..codename.."/back.png"' if number % 2 else f'"images/{level}/back.png"'
        (script / "models.lua").write_text(f"createRoom(4, 3, {picture})\n")
        (folder / "images" / level).mkdir(parents=True)
        (folder / "images" / level / "back.png").write_bytes(bytes([number]))
        (folder / "sound" / level / "cs").mkdir(parents=True)
        for name in ("m-1", "v-1"):
            (folder / "sound" / level / "cs" / f"{name}.ogg").write_bytes(level.encode())
    return folder


def test_a_game_becomes_a_manifest(tmp_path):
    rows = fillets.gather(_game(tmp_path / "game"), tmp_path / "out")
    records = [dict(zip(fillets.COLUMNS, row, strict=True)) for row in rows]
    assert len(records) == 36
    assert records[1] == {
        "id": "level0/v-1",
        "split": records[0]["split"],
        "group": "level0",
        "text": 'He said "no"',
        "audio": "audio/level0/v-1.ogg",
        "video": "pictures/level0.png",
        "speaker": "big",
        "question": 0,
        "exclamation": 1,
    }
    assert (records[2]["speaker"], records[2]["audio"], records[0]["question"]) == ("other", "", 1)
    for record in records:
        for column in ("audio", "video"):
            assert not record[column] or (tmp_path / "out" / record[column]).is_file()
    assert len({(record["group"], record["split"]) for record in records}) == 12
    assert Counter(record["split"] for record in records) == {"train": 24, "val": 6, "test": 6}


def test_a_level_without_a_picture_is_named(tmp_path):
    game = _game(tmp_path / "game")
    (game / "script" / "level3" / "models.lua").write_text("-- nothing\n")
    with pytest.raises(DataError, match=r"level3: no script of this level names its picture \(createRoom\)"):
        fillets.gather(game, tmp_path / "out")


def test_no_apt_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"needs apt-get, apt-cache and dpkg.*`python -m data_prep synth` makes a store"):
        SOURCES["fillets"](tmp_path / "out", [].append)
    assert not (tmp_path / "out").exists()


class _Apt:
    """Stands in for apt and dpkg: knows its packages after an update, brings .deb files that are not."""

    def __init__(self) -> None:
        self.known, self.expected, self.calls = True, DEB_SHA256, []

    def __call__(self, command, *, cwd=None, **_options):
        self.calls.append(command[:2])
        out = ""
        if command[:2] == ["apt-get", "update"]:
            self.known = True
        elif command[0] == "apt-cache" and self.known:
            out = f"Package: {command[-1]}\nVersion: 1:2-3\nSHA256: {self.expected}\n"
        elif command[:2] == ["apt-get", "download"]:
            (cwd / f"{command[-1].partition('=')[0]}_1%3a2-3_all.deb").write_bytes(b"deb")
        elif command[0] == "dpkg" and not Path(command[-1]).exists():
            _game(Path(command[-1]) / "usr" / "share" / "games" / "fillets-ng")
        return subprocess.CompletedProcess(command, 0, out, "")


@pytest.fixture
def apt(monkeypatch):
    apt = _Apt()
    monkeypatch.setattr(fillets.subprocess, "run", apt)
    monkeypatch.setattr(fillets.shutil, "which", lambda name: name)
    return apt


def test_fetched_once_verified_and_recorded(tmp_path, apt):
    out, said = tmp_path / "out", []
    fillets.fetch_fillets(out, said.append)
    assert said[-1] == f"{out}: 36 lines, 24 of them with a recorded voice"
    record = json.loads((out / RECORD).read_text())
    deb = {"file": "cache/fillets-ng-data_1%3a2-3_all.deb", "version": "1:2-3", "sha256": DEB_SHA256}
    assert record["downloads"][0] == deb
    assert sorted(record["outputs"]) == sorted(fillets.OUTPUTS)
    with (out / "manifest.csv").open(newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 36
    calls = len(apt.calls)
    fillets.fetch_fillets(out, said.append)
    assert (said[-1], len(apt.calls)) == (f"{out}: complete, hashes verified; nothing to do", calls)
    (out / "audio" / "level0" / "m-1.ogg").write_bytes(b"damaged")
    fillets.fetch_fillets(out, said.append)
    assert (out / "audio" / "level0" / "m-1.ogg").read_bytes() == b"level0"
    assert apt.calls.count(["apt-get", "download"]) == 2  # the cache served the repair


def test_another_hash_is_refused(tmp_path, apt):
    apt.expected = "0" * 64
    with pytest.raises(DataError, match=r"does not have the sha256 0{64} that apt-cache names"):
        fillets.fetch_fillets(tmp_path / "out", [].append)


@pytest.mark.parametrize("user", [0, 1000])
def test_empty_lists_are_updated_by_root_and_explained_to_others(tmp_path, apt, monkeypatch, user):
    monkeypatch.setattr(fillets.os, "geteuid", lambda: user)
    apt.known, said = False, []
    if user:
        with pytest.raises(
            DataError, match="Run `apt-get update` as root, then fetch again; or `python -m data_prep synth`"
        ):
            fillets.fetch_fillets(tmp_path / "out", said.append)
        return
    fillets.fetch_fillets(tmp_path / "out", said.append)
    assert said[0] == "apt does not know fillets-ng-data yet: running apt-get update"


def test_a_failing_client_is_quoted(tmp_path, apt, monkeypatch):
    failed = subprocess.CompletedProcess([], 100, "", "E: no space")
    monkeypatch.setattr(
        fillets.subprocess, "run", lambda command, **rest: failed if "download" in command else apt(command, **rest)
    )
    with pytest.raises(
        DataError, match=r"`apt-get download .*` failed: E: no space\. Try again; or `python -m data_prep synth`"
    ):
        fillets.fetch_fillets(tmp_path / "out", [].append)
