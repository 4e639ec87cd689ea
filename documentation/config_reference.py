"""The reference of experiment files: every key of every section, read from the configs themselves."""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import BaseModel

from documentation.keys import bounds, describe_default, describe_type, sections_below
from mmtrain.config import Experiment

FOLDER = "reference/config"
Section = type[BaseModel]


@dataclass
class Page:
    """A page under way; `shown` says where a section has been described, so that it is described once a page."""

    name: str
    lines: list[str] = field(default_factory=list)
    shown: dict[tuple[Section, ...], str] = field(default_factory=dict)


def pages() -> dict[str, str]:
    """Markdown by path in the site: an index of the experiment's keys, and a page for each that is a section."""
    found = {f"{FOLDER}/{page.name}.md": "\n".join(page.lines) + "\n" for page in map(_section_page, section_keys())}
    return {f"{FOLDER}/index.md": _index()} | found


def section_keys() -> list[str]:
    """The experiment's keys that hold sections, each a page."""
    return [key for key, entry in Experiment.model_fields.items() if sections_below(entry.annotation)]


def describe_file(page: Page, path: str, section: Section) -> None:
    """A section that is a whole file, or what stands at any of its keys: its table, and those below it."""
    if path:
        page.lines += [f"### `{path}`", ""]
    _describe_one(page, path, section, level=2)


def undescribed(*roots: Section) -> list[str]:
    """`Class.key` of every key without a description; of `name`, which chooses a row, the row's own words serve."""
    return [
        f"{section.__module__}.{section.__name__}.{key}"
        for root in roots or (Experiment,)
        for section in all_sections(root)
        for key, entry in section.model_fields.items()
        if (key != "name" or section is root) and not entry.description
    ]


def all_sections(root: Section) -> list[Section]:
    """`root` and every section that may stand below it, each once."""
    found: dict[Section, None] = {root: None}
    for section in (waiting := [root]):
        for entry in section.model_fields.values():
            new = [model for _, models in sections_below(entry.annotation) for model in models if model not in found]
            found |= dict.fromkeys(new)
            waiting += dict.fromkeys(new)
    return list(found)


def _index() -> str:
    lines = [
        "# Experiment files",
        "",
        "Every key of an experiment, generated from the classes that read it. `mmtrain config show FILE` prints a file with "
        "all defaults filled in, `mmtrain config schema` a JSON schema for editors. Beside these keys a file may have "
        "`base` (a file that it refines), `stages` and `stage`; a key is overridden on the command line as `batch.size=16`.",
        "What is said of a number names its unit; shares, factors and probabilities have none.",
        "",
        *_table(Experiment, prefix="", links={key: f"{key}.md" for key in section_keys()}),
    ]
    return "\n".join(lines) + "\n"


def _section_page(key: str) -> Page:
    page = Page(key)
    entry = Experiment.model_fields[key]
    places = sections_below(entry.annotation)
    if [(suffix, len(models)) for suffix, models in places] == [("", 1)]:  # the page is this section
        _describe(page, key, places[0][1], level=1)
        return page
    page.lines += [f"# `{key}`", "", entry.description or "", ""]
    for suffix, models in places:
        _describe(page, f"{key}{suffix}", models, level=2)
    return page


def _describe(page: Page, path: str, models: list[Section], *, level: int) -> None:
    """The sections that may stand at a key: one table, or a row of the table of components each."""
    page.shown[tuple(models)] = path
    marks = "#" * min(level, 5)
    page.lines += [f"{marks} `{path}` {{#{anchor(path)}}}", ""]
    if len(models) == 1:
        _describe_one(page, path, models[0], level=level)
        return
    names = {model: row_name(model) for model in models}
    page.lines += ["One of " + ", ".join(f"[`{name}`](#{anchor(path, name)})" for name in names.values()) + ".", ""]
    for model, name in names.items():
        page.lines += [f"{marks}# `{path}: {{name: {name}}}` {{#{anchor(path, name)}}}", ""]
        _describe_one(page, path, model, level=level + 1)


def _describe_one(page: Page, path: str, section: Section, *, level: int) -> None:
    page.lines += [*_words(section), *_table(section, prefix=path)]
    for key, entry in section.model_fields.items():
        for suffix, models in sections_below(entry.annotation):
            there = page.shown.get(tuple(models))
            below = f"{path}.{key}{suffix}".removeprefix(".")
            if there is None:
                _describe(page, below, models, level=level + 1)
            else:
                page.lines += [f"`{below}` is read as [`{there}`](#{anchor(there)}).", ""]


def _table(section: Section, *, prefix: str, links: dict[str, str] | None = None) -> list[str]:
    rows = []
    for key, entry in section.model_fields.items():
        if key == "name" and prefix:
            continue
        name = f"[`{key}`]({links[key]})" if links and key in links else f"`{key}`"
        cells = [name, describe_type(entry.annotation), ", ".join(bounds(entry.metadata)), describe_default(entry)]
        rows.append([*cells, entry.description or ""])
    if not rows:
        return ["No keys besides `name`.", ""]
    head = ["| key | type | bounds | default | what it says |", "| --- | --- | --- | --- | --- |"]
    return [*head, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows), ""]


def _words(section: Section) -> Iterator[str]:
    """What the config says of itself, and what the class says that it builds: formula and source."""
    yield from (_escaped(inspect.getdoc(section) or ""), "")
    built = implementation(section)
    if built is not None:
        yield from ("```text", inspect.getdoc(built) or "", "```", "")
    yield from (f"Source: `{section.__module__.replace('.', '/')}.py`", "")


def implementation(section: Section) -> type | None:
    """The documented class beside a config that it is built into: named by `build`, or as the config is."""
    module = sys.modules[section.__module__]
    returned = inspect.signature(section.build).return_annotation if hasattr(section, "build") else None
    names = (str(getattr(returned, "__name__", returned)).strip("\"'"), section.__name__.removesuffix("Config"))
    for name in names:
        there = vars(module).get(name)
        if inspect.isclass(there) and there is not section and there.__module__ == section.__module__ and there.__doc__:
            return there
    return None


def row_name(section: Section) -> str:
    """What `name:` chooses a component by."""
    return str(section.model_fields["name"].default)


def anchor(path: str, name: str = "") -> str:
    """The id of a heading: letters, digits and single hyphens."""
    words = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in f"{path} {name}")
    return "-".join(words.split())


def _cell(text: str) -> str:
    """A cell of a table: `<` is no tag, but in code, where it is one letter anyhow."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    """A docstring as markdown: no letter of it is a mark, but those around code."""
    parts = text.split("`")
    marks = "\\*_[]<>#"
    escaped = ["".join(f"\\{letter}" if letter in marks else letter for letter in part) for part in parts]
    return "`".join(part if number % 2 else escaped[number] for number, part in enumerate(parts))
