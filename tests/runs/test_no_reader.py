"""Nobody reads what is printed: a run goes on and says so once, a command that only prints ends without a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lives import live, results

from mmtrain.data.check import check_store

SAID = "nobody reads stdout any more: this goes on without printing\n"


def without_reader(*descriptors: int) -> None:
    """These are pipes whose other end is closed, as behind `| head -1`."""
    for descriptor in descriptors:
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, descriptor)
        os.close(writing)


def closed() -> None:
    """As Python begins behind `>&-`."""
    sys.stdout.close()
    os.close(1)
    sys.stdout = None  # type: ignore[assignment]


def deaf() -> None:
    """As behind `>&- 2>&-`."""
    closed()
    os.close(2)
    sys.stderr = None  # type: ignore[assignment]


@pytest.fixture
def heard(fields: Path) -> dict[str, str]:
    """Results of the same run beside somebody who reads."""
    assert live(["train", "-c", str(fields), "name=heard"], cwd=fields.parent).code == 0
    return results(fields.parent / "runs" / "heard")


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (partial(without_reader, 1), SAID),
        (partial(without_reader, 1, 2), ""),
        (closed, "stdout is closed: nothing is printed\n"),
        (deaf, ""),
    ],
    ids=["no reader", "no reader of stderr either", "closed", "stderr too"],
)
def test_a_run_goes_on(patch: Callable[[], None], said: str, fields: Path, heard: dict[str, str]) -> None:
    life = live(["train", "-c", str(fields), "name=deaf"], cwd=fields.parent, patch=patch)
    assert (life.code, life.out, life.err) == (0, "", said)
    assert results(fields.parent / "runs" / "deaf") == heard


def test_the_exit_code_stays_that_of_the_run(fields: Path) -> None:
    words = ["train", "-c", str(fields), "training.optimizer.lr=1e30", "training.epochs=9"]
    life = live(words, cwd=fields.parent, patch=partial(without_reader, 1))
    assert life.code == 3, life.err
    assert life.err.startswith(f"{SAID}error: ")


def test_what_only_prints_ends_without_a_word(fields: Path, run_stores: Path) -> None:
    for words in (["config", "show", str(fields)], ["config", "schema"], ["data", "info", str(run_stores / "clips")]):
        life = live(words, cwd=fields.parent, patch=partial(without_reader, 1))
        assert (life.code, life.err) == (1, ""), words


@pytest.mark.usefixtures("heard")
def test_a_file_that_was_asked_for_is_written_though_nobody_reads(fields: Path) -> None:
    folder = fields.parent
    assert live(["train", "-c", str(fields), "name=other", "seed=1"], cwd=folder).code == 0
    words = ["compare", "runs/heard", "runs/other", "--out", "compared.json"]
    life = live(words, cwd=folder, patch=partial(without_reader, 1))
    assert (life.code, life.err) == (0, SAID)
    assert (folder / "compared.json").is_file()
    words = ["doctor", str(fields), "--only", "label_balance", "--json", "found.json"]
    life = live(words, cwd=folder, patch=partial(without_reader, 1))
    assert SAID in life.err
    assert (folder / "found.json").is_file()


def test_a_store_is_whole_where_stdout_is_closed(tmp_path: Path) -> None:
    """Else what is printed stood in the first of its files."""
    command = [sys.executable, "-m", "data_prep", "synth", "--out", str(tmp_path / "store"), "--samples", "20"]
    code = "import os, sys; os.close(1); os.execv(sys.executable, sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *command], check=False, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "stdout is closed: nothing is printed\n")
    assert check_store(tmp_path / "store") == []
