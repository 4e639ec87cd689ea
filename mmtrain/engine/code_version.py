"""Whether the code of a run is the code of now: this package's files, by git and by version, and nothing beside them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtrain.engine.environment import ask_git, describe_git, package_version

_PACKAGE = Path(__file__).resolve().parents[1]


def code_now() -> dict[str, Any]:
    """What `code_change` compares: as an entry of environment.json has it."""
    return {"versions": {"mmtrain": package_version("mmtrain")}, "git": describe_git(_PACKAGE)}


def code_change(starts: Sequence[Mapping[str, Any]], now: Mapping[str, Any], *, package: Path = _PACKAGE) -> str:
    """How the code differs between any start of a run (the entries of its environment.json) and now; '' if it does not.

    A commit, or a change not committed, that touches no file of `package` is none.
    """
    return next((words for start in starts if (words := _change(start, now, package))), "")


def _change(start: Mapping[str, Any], now: Mapping[str, Any], package: Path) -> str:
    versions = [str(entry.get("versions", {}).get("mmtrain")) for entry in (start, now)]
    if versions[0] != versions[1]:
        return f"made by mmtrain {versions[0]}, now {versions[1]}"
    (before, then), (commit, diff) = ((entry["git"]["commit"], entry["git"]["diff"] or "") for entry in (start, now))
    prefix = (ask_git(package, "rev-parse", "--show-prefix") or "").strip()
    if before == commit and _parts(then, prefix) == _parts(diff, prefix):
        return ""
    moved = before != commit and (
        before is None or commit is None or ask_git(package, "diff", "--name-only", before, commit, "--", ".") != ""
    )
    if not moved and _parts(then, prefix) == _parts(diff, prefix):
        return ""
    return f"made at {_name(before, then, prefix)}, now {_name(commit, diff, prefix)}"


def _parts(diff: str, prefix: str) -> list[str]:
    """The files' parts of a diff that touch the folder `prefix`."""
    return [part for part in _files(diff) if part.startswith(f"diff --git a/{prefix}")]


def _files(diff: str) -> Iterator[str]:
    part: list[str] = []
    for line in diff.splitlines(keepends=True):
        if line.startswith("diff --git ") and part:
            yield "".join(part)
            part = []
        part.append(line)
    if part:
        yield "".join(part)


def _name(commit: str | None, diff: str, prefix: str) -> str:
    changed = " with changes" if _parts(diff, prefix) else ""
    return f"{f'commit {commit[:10]}' if commit else 'no commit'}{changed}"
