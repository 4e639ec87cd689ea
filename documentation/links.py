"""Links that are written for a Git host, as links of the site: README and its like are pages, configs have one."""

import posixpath
import re
from pathlib import Path

from documentation import shipped_configs

# files beside docs/ that are pages, and their paths in the site
ROOT_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```)$", re.M | re.S)


def rewrite(markdown: str, *, source: str, page: str, root: Path) -> str:
    """The links of a file `source` (its path from the root) as the page `page` of the site has to write them.

    Errors: ValueError where a link leads to no page; code is left alone.
    """
    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda link: _link(link, source, page, root), part) for part in parts
    )


def _link(link: re.Match[str], source: str, page: str, root: Path) -> str:
    text, target = link.groups()
    path, _, fragment = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return link[0]
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    found = _in_site(there, fragment, root)
    if found is None:
        raise ValueError(f"{source}: the link to {target} leads to no page of the site; name the file in `code` instead")
    return f"[{text}]({_relative(found, page)})"


def _in_site(there: str, fragment: str, root: Path) -> str | None:
    """Path and fragment in the site of a file of the project."""
    tail = f"#{fragment}" if fragment else ""
    if there in ROOT_PAGES:
        return ROOT_PAGES[there] + tail
    if there.startswith("docs/") and (root / there).is_file():
        return there.removeprefix("docs/") + tail
    if there.startswith("configs") and (root / there).exists():
        file = shipped_configs.first_below(root, there) if (root / there).is_dir() else there
        return f"{shipped_configs.PATH}#{shipped_configs.anchor(file)}"
    return None


def _relative(target: str, page: str) -> str:
    path, mark, fragment = target.partition("#")
    return posixpath.relpath(path, posixpath.dirname(page) or ".") + mark + fragment
