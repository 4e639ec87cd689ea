"""docs/reliability.md promises nothing without a test: each one that it names is there, and slow where it says so."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| \d+\. ", line)]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@cache
def functions_of(file: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_that_is_named_is_there(file: str, test: str) -> None:
    assert test.startswith("test_")
    assert test in functions_of(file)


def test_every_promise_is_numbered_and_has_a_test() -> None:
    assert [int(re.findall(r"\d+", row)[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert all("::test_" in row for row in ROWS)
    assert len(NAMED) >= len(ROWS) > 20


def test_a_test_that_only_the_slow_suite_runs_is_called_slow() -> None:
    for row in ROWS:
        fast, _, _ = re.sub(r"controls?:[^|]*", "", row).partition("slow:")
        for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", fast):
            marks = [ast.unparse(decorator) for decorator in functions_of(file)[test].decorator_list]
            assert "pytest.mark.slow" not in marks, test


def test_readme_leads_here() -> None:
    assert "(docs/reliability.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
