"""The reference of files beside experiments: every key of a matrix, a search, a manifest's sidecar and a store."""

from pydantic import BaseModel

from data_prep.manifest import Sidecar
from documentation.config_reference import Page, describe_file
from mmtrain.ablation.matrix import Matrix
from mmtrain.data.schema import StoreSchema
from mmtrain.tuning.search_space import Choices, Range

PATH = "reference/files.md"
FILES: dict[str, tuple[str, dict[str, type[BaseModel]]]] = {
    "Matrix files": ("What `mmtrain ablate` reads, as YAML.", {"": Matrix}),
    "Search files": (
        "What `mmtrain tune search` reads, as YAML: dotted keys of an experiment, each with a range or with choices.",
        {"<key>: {low: 0.1, high: 0.5}": Range, "<key>: {choices: [a, b]}": Choices},
    ),
    "Beside a manifest": ("Read by `python -m data_prep extract` and `import npy`.", {"": Sidecar}),
    "A store's dataset.json": (
        "Written by `python -m data_prep` and `StoreWriter`; it is not to be edited.",
        {"": StoreSchema},
    ),
}


def pages() -> dict[str, str]:
    """Markdown by path in the site: one page."""
    page = Page("files", ["# Other files", ""])
    for title, (words, sections) in FILES.items():
        page.lines += [f"## {title}", "", words, ""]
        for path, section in sections.items():
            describe_file(page, path, section)
    return {PATH: "\n".join(page.lines) + "\n"}
