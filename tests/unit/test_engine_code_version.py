"""Whether a run was made by the code of now: commits, changes not committed, and what lies beside the package."""

import subprocess
from pathlib import Path

import pytest

from mmtrain.engine.code_version import code_change, code_now
from mmtrain.engine.environment import describe_git


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the package `pack` and a config beside it."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "code.py").write_text("a = 1\n")
    (tmp_path / "config.yaml").write_text("a: 1\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "x")


def state(checkout: Path, version: str = "1") -> dict[str, object]:
    return {"versions": {"mmtrain": version}, "git": describe_git(checkout / "pack")}


def change(before: object, checkout: Path, version: str = "1") -> str:
    return code_change([before], state(checkout, version), package=checkout / "pack")


def test_nothing_changed(checkout: Path) -> None:
    assert change(state(checkout), checkout) == ""
    assert code_change([], state(checkout)) == ""


def test_another_commit_of_the_package(checkout: Path) -> None:
    before = state(checkout)
    (checkout / "pack" / "code.py").write_text("a = 2\n")
    words = change(before, checkout)
    assert words.startswith("made at commit ")
    assert words.endswith(" with changes")
    changed = state(checkout)
    assert change(changed, checkout) == ""
    commit(checkout)
    words = change(before, checkout)
    assert "with changes" not in words
    first, last = before["git"]["commit"][:10], state(checkout)["git"]["commit"][:10]
    assert words == f"made at commit {first}, now commit {last}"
    assert change(changed, checkout) == f"made at commit {first} with changes, now commit {last}"


def test_what_lies_beside_the_package_is_no_change(checkout: Path) -> None:
    before = state(checkout)
    (checkout / "config.yaml").write_text("a: 2\n")
    assert change(before, checkout) == ""
    commit(checkout)
    assert change(before, checkout) == ""


def test_a_commit_that_is_gone_and_no_checkout_at_all(checkout: Path) -> None:
    gone = {"versions": {"mmtrain": "1"}, "git": {"commit": "0" * 40, "diff": ""}}
    assert change(gone, checkout).startswith("made at commit 0000000000, now commit ")
    none = {"versions": {"mmtrain": "1"}, "git": {"commit": None, "diff": None}}
    assert change(none, checkout).startswith("made at no commit, now commit ")
    assert code_change([none], none, package=checkout / "pack") == ""


def test_another_version_and_any_start_of_a_run(checkout: Path) -> None:
    before = state(checkout)
    assert change(before, checkout, "2") == "made by mmtrain 1, now 2"
    now = state(checkout, "2")
    assert code_change([before, now], now, package=checkout / "pack") == "made by mmtrain 1, now 2"
    assert code_change([now, now], now, package=checkout / "pack") == ""


def test_the_code_of_now_is_what_a_run_records() -> None:
    assert code_change([code_now()], code_now()) == ""
