"""What MkDocs calls while it builds: generated pages come in, links are turned from the Git host's to the site's."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from documentation import command_reference, config_reference, file_reference, shipped_configs
from documentation.links import ROOT_PAGES, rewrite

ROOT = Path(__file__).parents[1]
_SOURCES = {page: source for source, page in ROOT_PAGES.items()}


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that stand in no file of docs/."""
    generated = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in ROOT_PAGES.items()}
    generated |= config_reference.pages() | file_reference.pages() | command_reference.pages()
    generated[shipped_configs.PATH] = shipped_configs.page(ROOT)
    for path, text in generated.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links that are valid on a Git host become links of the site."""
    path = page.file.src_uri
    source = _SOURCES.get(path) or f"docs/{path}"
    if page.file.generated_by is not None and path not in _SOURCES:
        return markdown
    return rewrite(markdown, source=source, page=path, root=ROOT)
