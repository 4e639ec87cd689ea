"""No name in a file leads out of its folder: media of a manifest, runs, files of a store; 10,000 names tried for each."""

import os
import random
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from data_prep.manifest import read_manifest
from mmtrain.config import Experiment
from mmtrain.data.schema import Shard
from mmtrain.errors import DataError
from mmtrain.section import Section

PARTS = (
    *(
        "..",
        ".",
        "",
        "a",
        "A",
        "b.wav",
        "a.WAV",
        "...",
        "..\\a",
        "~",
        "~root",
        "$HOME",
        "%2e%2e",
        "c:",
        "\0",
        "\n",
        " ",
        "é",
    ),
    *(
        "link",
        "loop",
        "inside",
        "-rf",
        "*",
        "a" * 300,
        "/etc/passwd",
        "//etc",
        "\\\\host\\share",
        "file:///etc/passwd",
    ),
)
COUNT = 10_000


def paths(seed: int, count: int = COUNT) -> list[str]:
    """Parts joined in every way, and random strings; the same ones each time."""
    source = random.Random(seed)
    joined = ["/".join(source.choices(PARTS, k=source.randint(1, 6))) for _ in range(count // 2)]
    characters = "./\\a~\0\n\t é-:"
    return joined + ["".join(source.choices(characters, k=source.randint(1, 12))) for _ in range(count - len(joined))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest's folder with a link out of it, one that stays, and one that leads to itself."""
    inside = tmp_path / "top" / "manifest"
    (inside / "a").mkdir(parents=True)
    (tmp_path / "top" / "secret.wav").touch()
    (inside / "link").symlink_to(tmp_path / "top")
    (inside / "inside").symlink_to(inside / "a")
    (inside / "loop").symlink_to(inside / "loop")
    return inside


def test_media_of_a_manifest_stay_in_its_folder(folder: Path) -> None:
    file = folder / "clips.jsonl"
    from data_prep.manifest_paths import path_inside

    accepted, refused = 0, 0
    for path in paths(0):
        try:
            target = path_inside(file, path, f"{file}, line 2, sample 'a', column 'audio'")
        except DataError as error:
            assert str(error).startswith(f"{file}, line 2, sample 'a', column 'audio': ")  # noqa: PT017
            refused += 1
        else:
            real = Path(os.path.realpath(target))
            assert real == folder or folder in real.parents, path
            accepted += 1
    assert min(accepted, refused) > 1000, "both are met, or this tests nothing"


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("../secret.wav", "leads out of"),
        ("a/../../secret.wav", "leads out of"),
        ("/etc/passwd", "leads out of"),
        ("link/secret.wav", "leads out of"),
        ("//etc/passwd", "leads out of"),
        ("loop/../link/secret.wav", "(is not a path|leads out of)"),
    ],
)
def test_a_manifest_names_the_line(folder: Path, cell: str, words: str) -> None:
    file = folder / "clips.csv"
    file.write_text(f"id,split,audio\nfirst,train,\nsecond,val,{cell}\n")
    with pytest.raises(DataError, match=f"line 3, sample 'second', column 'audio': .*{words}"):
        read_manifest(file)
    file.write_text("id,split,audio\nfirst,train,a//b.wav\nSecond,val,inside/A.wav\nsecond,val,a/A.WAV\n")
    entries = read_manifest(file).entries
    assert [entry.media["audio"].relative_to(folder).as_posix() for entry in entries] == ["a/b.wav", "a/A.wav", "a/A.WAV"]
    assert [entry.id for entry in entries] == ["first", "Second", "second"], "twins by case are two samples"


def test_names_of_runs_stay_below_runs(tmp_path: Path) -> None:
    class Named(Section):
        name: Experiment.__annotations__["name"]  # type: ignore[valid-type]

    runs, accepted = tmp_path / "runs", 0
    for name in [*paths(1), "a/b", "a.b/c-1", "x" * 200, "a/b/c.d"]:
        try:
            checked = Named(name=name).name
        except ValidationError:
            continue
        accepted += 1
        place = Path(os.path.realpath(runs / checked))
        assert runs in place.parents, name
        assert place == runs / checked, "no part of it means another folder"
    assert accepted > 4


def test_files_of_a_store_stay_in_it(tmp_path: Path) -> None:
    adapter = TypeAdapter(Shard)
    for name in [*paths(2), "video.safetensors", "video-00001-of-00004.safetensors"]:
        try:
            shard = adapter.validate_python({"file": name, "first": 0, "samples": 1, "rows": 1})
        except ValidationError:
            assert not name.endswith("safetensors"), name
            continue
        assert Path(os.path.abspath(tmp_path / shard.file)).parent == tmp_path, name
