"""A page with every experiment, matrix and search that is shipped: links to configs/ lead here in the site."""

from pathlib import Path

PATH = "reference/configs.md"


def page(root: Path) -> str:
    """Markdown of all files below configs/."""
    lines = ["# Shipped configs", "", "The files of `configs/`, as they are shipped.", ""]
    for file in sorted((root / "configs").rglob("*.yaml")):
        name = file.relative_to(root).as_posix()
        lines += [f"## `{name}` {{#{anchor(name)}}}", "", "```yaml", file.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(lines)


def anchor(name: str) -> str:
    """The id of a file's heading, by its path from the root."""
    return name.replace("/", "-").replace(".", "-")


def first_below(root: Path, folder: str) -> str:
    """The first file of a folder, which a link to the folder leads to."""
    return min(file.relative_to(root).as_posix() for file in (root / folder).rglob("*.yaml"))
