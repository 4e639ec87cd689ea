"""docs/troubleshooting.md: every message that it quotes is printed somewhere, every check and key that it names is there."""

import ast
import re
from pathlib import Path

import pytest

from mmtrain.config_schema import file_schema
from mmtrain.doctor import CHECKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = sorted(set(re.findall(r'"([^"\n]+)"', PAGE.partition('"quotation marks"')[2])))
SECTIONS = ("model", "training", "tasks", "batch", "curriculum", "selection", "augmentation")


@pytest.fixture(scope="module")
def sentences() -> set[str]:
    """Every string of the source, joined as Python joins it, with \\0 for what is filled in."""
    found = set()
    for file in [*(ROOT / "mmtrain").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_there_is_something_to_look_for() -> None:
    assert len(QUOTED) > 40


@pytest.mark.parametrize("quoted", QUOTED)
def test_what_is_quoted_is_printed(quoted: str, sentences: set[str]) -> None:
    pattern = re.compile(r"[^\n]*".join(re.escape(part) for part in quoted.split("...")))
    assert any(pattern.search(sentence) for sentence in sentences)


def test_the_look_sees_what_is_printed_nowhere(sentences: set[str]) -> None:
    assert not any("the loss does not fell" in sentence for sentence in sentences)


def test_every_check_has_its_row_and_no_other_is_named() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    assert rows == list(CHECKS)
    named = set(re.findall(r"doctor `(\w+)`", PAGE))
    assert named == set(CHECKS)


def _keys(node: object) -> set[str]:
    """Every property of a JSON schema, at any depth."""
    if isinstance(node, dict):
        own = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
        return own.union(*(_keys(value) for value in node.values()))
    return set().union(*(_keys(value) for value in node)) if isinstance(node, list) else set()


def test_keys_of_the_page_are_keys_of_an_experiment() -> None:
    known = _keys(file_schema())
    named = re.findall(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_.<>]+)", PAGE)
    words = {word for key in named for word in key.split(".") if word and "<" not in word}
    assert len(named) > 30
    assert words <= known


def test_every_cause_that_was_asked_for_has_its_item() -> None:
    for cause in (
        "softmax before cross-entropy",
        "wrong reduction",
        "frozen BatchNorm",
        "leaking groups",
        "exploding gradients",
    ):
        assert re.search(rf"^\| {cause}.* \| .+ \| .+ \|$", PAGE, re.M), cause
    assert "(docs/troubleshooting.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "mmtrain doctor configs/clips.yaml" in (ROOT / "README.md").read_text(encoding="utf-8")
