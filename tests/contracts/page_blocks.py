"""The code blocks of the documentation, with what the page says of how each is run.

A comment before a block may say `<!-- not run: REASON -->`, `<!-- run by: tests/FILE.py::TEST -->`, or of YAML
`<!-- part of: curriculum -->`: the key that it stands below; of the import of a new component `<!-- row of: FILE -->`: the
table that it is put into. Pages of WHOLE are run from top to bottom, by
tests/runs/test_docs_pages.py.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WHOLE = [ROOT / "docs" / "tutorial.md", *(page for page in PAGES if page.parent.name == "how-to" and page.stem != "index")]
_BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block; `file` is the name that its first line gives it, where that is a comment with one."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def file(self) -> str:
        found = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return found[1] if found else ""

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def noted(self, word: str) -> str:
        """What follows `word:` in the comment before the block; empty where it says something else."""
        return self.note.removeprefix(f"{word}: ") if self.note.startswith(f"{word}: ") else ""


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: found.start("text")].count("\n"), found["language"], found["text"], found["note"] or "")
        for found in _BLOCK.finditer(text)
    ]


def command_lines(text: str) -> list[list[str]]:
    """The commands of a shell block as words: continued lines joined, comments left out."""
    lines = text.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    return [words for line in commands for words in _split(line, "&&") if words]


def _split(words: list[str], mark: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for word in words:
        if word == mark:
            found.append([])
        else:
            found[-1].append(word)
    return found


def own_command(words: list[str]) -> list[str]:
    """The words of a command of ours, from `mmtrain` or `python -m data_prep` on; empty where it is another program's."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:1] == ["timeout"]:
        words = words[next(k for k in range(1, len(words)) if words[k][0] not in "-0123456789") :]
    if words[:2] == ["accelerate", "launch"]:
        start = next(k for k, word in enumerate(words) if word in ("mmtrain/train.py", "mmtrain"))
        return words[start:] if words[start] == "mmtrain" else ["mmtrain", "train", *words[start + 1 :]]
    return words if words[:1] == ["mmtrain"] or words[:3] == ["python", "-m", "data_prep"] else []
