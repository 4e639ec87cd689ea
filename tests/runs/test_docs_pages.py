"""The pages that go from a task to a result are run from top to bottom: files written, commands run, Python executed."""

import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
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
