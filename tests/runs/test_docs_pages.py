"""The pages that go from a task to a result are run from top to bottom: files written, commands run, Python executed."""

import csv
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lives import cut, live
from page_blocks import ROOT, WHOLE, Block, blocks, command_lines, own_command

pytestmark = pytest.mark.slow
# of other programs: what a reader does once, and what this environment has already
_NOT_OURS = {"pip", "ls", "cat"}


def run_shell(block: Block, folder: Path) -> None:
    for words in command_lines(block.text):
        own = own_command(words)
        if own[:1] == ["mmtrain"] and (folder / "mmtrain").is_dir():
            run_in_copy(["-m", "mmtrain.cli", *own[1:]], folder)
        elif words[0] == "pytest":
            assert " passed" in run_in_copy(["-m", "pytest", "-p", "no:cacheprovider", "-n0", *words[1:]], folder)
        elif own[:1] == ["mmtrain"]:
            stops = words[0] == "timeout"  # as Ctrl-C would
            life = live(own[1:], cwd=folder, patch=partial(cut, at=9, how=signal.SIGINT) if stops else None)
            assert life.code == (130 if stops else 0), f"{block.id}: {' '.join(words)}\n{life.out}\n{life.err}"
            run_printed(life.out, folder)
        elif own:
            run_data_prep(own[3:])
        elif words[0] == "python":
            exec(compile(Path(words[1]).read_text(), words[1], "exec"), {"__name__": "__main__"})  # noqa: S102 - our own page
        else:
            assert words[0] in _NOT_OURS, f"{block.id}: nothing runs {words}"


def run_printed(out: str, folder: Path) -> None:
    """The commands that `mmtrain ablate --dry-run` prints, so that `mmtrain ablate` need not start six processes."""
    for words in (shlex.split(line) for line in out.splitlines() if " -m mmtrain.train --config " in line):
        life = live(["train", *words[words.index("mmtrain.train") + 1 :]], cwd=folder)
        assert life.code == 0, life.err


def copy_project(folder: Path) -> None:
    """What a new component is written into: the project's packages and the tests that run over its tables."""
    for name in ("mmtrain", "data_prep", "tests/contracts", "tests/conftest.py", "pyproject.toml"):
        source, copy = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)


def add_row(block: Block, folder: Path) -> None:
    """Put the component that a block imports behind the others of a table: into its union."""
    file = folder / block.noted("row of")
    name = block.text.split()[-1]
    text = file.read_text(encoding="utf-8")
    text = text.replace(',\n    Field(discriminator="name")', f' | {name},\n    Field(discriminator="name")', 1)
    file.write_text(text.replace("from mmtrain", f"{block.text}from mmtrain", 1), encoding="utf-8")


def run_in_copy(arguments: list[str], folder: Path) -> str:
    """Python with the copy's own packages, in a new process; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_data_prep(arguments: list[str]) -> None:
    from data_prep.cli import app

    app(arguments, standalone_mode=False)


def run_block(block: Block, folder: Path, names: dict) -> None:
    if block.noted("not run"):
        return
    if block.noted("row of"):
        add_row(block, folder)
    elif block.file:
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "sh":
        run_shell(block, folder)
    elif block.language == "python":
        exec(compile(block.text, block.id, "exec"), names)  # noqa: S102 - our own page


@pytest.mark.parametrize("page", WHOLE, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, tiny_bert) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bert").symlink_to(tiny_bert)  # where pages say that a text encoder lies
    if any(block.noted("row of") for block in blocks(page)):
        copy_project(tmp_path)
    names: dict = {}
    for block in blocks(page):
        run_block(block, tmp_path, names)
    if page.stem == "tutorial":  # which says that Python gives the answer of the command
        (answer,) = csv.DictReader((tmp_path / "answer.csv").read_text(encoding="utf-8").splitlines())
        assert answer["funny"] == str(names["answer"]["funny"].label)
        assert float(answer["funny.probability"]) == pytest.approx(names["answer"]["funny"].probability, abs=1e-6)


def test_the_example_of_the_page_on_inference(tmp_path, monkeypatch) -> None:
    from data_prep.synth import synthesize

    monkeypatch.chdir(tmp_path)
    store = Path("stores/clips")
    synthesize(store, samples=40, modalities={"audio": 8}, tasks={"funny": "binary"})
    config = "name: clips\ndatasets: {clips: {store: stores/clips}}\nstreams: {clips: {dataset: clips, tasks: [funny]}}\n"
    Path("clips.yaml").write_text(config + "model: {dim: 8, sequences: {audio: {name: linear}}}\ntraining: {epochs: 1}\n")
    assert live(["train", "--config", "clips.yaml"], cwd=tmp_path).code == 0
    (block,) = [block for block in blocks(ROOT / "docs" / "inference.md") if block.language == "python"]
    names: dict = {"rows": np.ones((4, 8), np.float32)}
    text = block.text.replace('text="you never know what comes", ', "")  # a model of sound alone reads no text
    exec(compile(text, block.id, "exec"), names)  # noqa: S102 - our own page
    assert 0 < names["answers"]["funny"].probability < 1


def run_by(page: str, test: str) -> list[Block]:
    """The blocks of a page that say so."""
    return [block for block in blocks(ROOT / "docs" / page) if block.noted("run by").endswith(f"::{test}")]


def typed(block: Block, changes: dict[str, str]) -> Block:
    """A block with what this place lacks put in its place: weights of a hub, and hours."""
    for old, new in changes.items():
        block = replace(block, text=block.text.replace(old, new))
    return block


def mosi_pickle(file: Path) -> None:
    """What MMSA reads: rows behind which zeros stand, one of them with the -Inf that COVAREP makes."""
    random = np.random.default_rng(0)

    def split(name: str, count: int) -> dict[str, object]:
        lengths, targets = random.integers(2, 9, count), random.uniform(-3, 3, count).astype(np.float32)
        real = np.arange(9)[:, None] < lengths[:, None, None]
        audio = np.where(real, targets[:, None, None] + random.standard_normal((count, 9, 4)), 0).astype(np.float32)
        audio[0, 0, 0] = -np.inf
        bert = np.zeros((count, 3, 9), np.float32)
        bert[:, 1, :4] = 1
        return {
            "id": [f"{name}{number // 3}$_${number % 3}" for number in range(count)],
            "raw_text": np.array(["a film"] * count),
            "text": np.ones((count, 9, 6), np.float32),
            "text_bert": bert,
            "audio": audio,
            "vision": np.where(real, 1, 0).repeat(5, axis=2).astype(np.float32),
            "audio_lengths": lengths.tolist(),
            "vision_lengths": lengths.tolist(),
            "regression_labels": targets,
        }

    file.write_bytes(pickle.dumps({"train": split("a", 36), "valid": split("b", 18), "test": split("c", 18)}))


def reviews(folder: Path) -> None:
    """A data set as the Hugging Face hub keeps it."""
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        table = pa.table({"sentence": ["a small film", "not a funny film"] * 12, "label": [0, 1] * 12})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def test_what_comes_from_mmsa_and_from_the_hugging_face_trainer(tmp_path, monkeypatch, tiny_bert) -> None:
    monkeypatch.chdir(tmp_path)
    mosi_pickle(tmp_path / "unaligned_50.pkl")
    reviews(tmp_path / "data" / "reviews")
    changes = {"bert-base-uncased": str(tiny_bert), "dim: 768": "dim: 32", "max_tokens: 512": "max_tokens: 64"}
    changes |= {"epochs: 40": "epochs: 2", "micro: 4": "micro: 16"}
    own = run_by("migration.md", "test_what_comes_from_mmsa_and_from_the_hugging_face_trainer")
    for block in sorted(
        own, key=lambda block: block.language != "yaml"
    ):  # files first: the page shows them behind what reads them
        run_block(typed(block, changes), tmp_path, {})
    assert (tmp_path / "runs/mosi/evaluation/test.json").is_file()
    assert pq.read_table(tmp_path / "answers.parquet").num_rows == 48


def test_the_commands_of_the_page_on_inference(tmp_path, monkeypatch, tiny_bert) -> None:
    """On a run that hears and reads: what the page does with it, one block after the other."""
    monkeypatch.chdir(tmp_path)
    (make_clips,) = [block for block in blocks(ROOT / "docs" / "tutorial.md") if block.file == "make_clips.py"]
    exec(compile(make_clips.text, make_clips.id, "exec"), {})  # noqa: S102 - our own page
    (tmp_path / "mine").rename(tmp_path / "films")
    shutil.copy("films/clips/film-00-0.mp4", "clip.mp4")
    shutil.copy("clip.mp4", "film.mp4")
    Path("clip.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\na fish\n", encoding="utf-8")
    run_data_prep(["extract", "films/clips.csv", "--out", "stores/clips", "--task", "funny=binary", "--audio", "logmel"])
    shutil.copytree("stores/clips", "stores/new")
    Path("clips.yaml").write_text(
        "name: clips\ndatasets: {clips: {store: stores/clips}}\nstreams: {clips: {dataset: clips, tasks: [funny]}}\n"
        f"model: {{dim: 8, text: {{path: {tiny_bert}, max_tokens: 16}}, sequences: {{audio: {{name: linear}}}}}}\n"
        "training: {epochs: 1}\n",
        encoding="utf-8",
    )
    assert live(["train", "--config", "clips.yaml"], cwd=tmp_path).code == 0
    for block in run_by("inference.md", "test_the_commands_of_the_page_on_inference"):
        run_block(block, tmp_path, {})
    for name in ("new.parquet", "films.csv", "clip.jsonl", "film.csv", "clips.onnx", "clips.pt2"):
        assert (tmp_path / name).is_file()
    assert {folder.name for folder in (tmp_path / "packages").iterdir()} == {"clips", "small"}
