"""The generated reference: no key without words, no row of a table left out, and what it says of a key is so."""

import re
from typing import Annotated, Literal

import pytest
from pydantic import Field
from test_readme import ROWS

from documentation import command_reference, config_reference, file_reference
from documentation.keys import bounds, describe_default, describe_type, sections_below, yaml_text
from mmtrain.config import Experiment
from mmtrain.section import Name, Section

PAGES = config_reference.pages()


class Inner(Section):
    name: Literal["inner"] = "inner"


class Outer(Section):
    share: float = Field(default=0.1, ge=0, lt=1, description="A probability.")
    pair: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=1)]] = (1.0, 0.5)
    kinds: dict[Name, list[Inner] | None] = Field(default_factory=dict)
    file: str = Field(min_length=1)
    inner: Inner = Inner()
    mode: Literal["min", "max"] | None = None


def test_every_key_has_a_description() -> None:
    files = [section for _, sections in file_reference.FILES.values() for section in sections.values()]
    assert config_reference.undescribed() == config_reference.undescribed(*files) == []


def test_what_is_counted_is_named() -> None:
    """A whole number without its unit is read as steps by one and as epochs by the next."""
    units = (
        "bands|blocks|buckets|channels|checkpoints?|cycles|degrees|epochs|evaluations|features|folds?|heads|layers?|neighbors|"
        "parts|passes|positions|rank|rows|samples|seed|spans|steps?|streams|times|tokens|units|vectors|waves|weights|widths?"
    )
    unsaid = [
        f"{section.__name__}.{key}: {entry.description}"
        for section in config_reference.all_sections(Experiment)
        for key, entry in section.model_fields.items()
        if "integer" in describe_type(entry.annotation) and not re.search(rf"\b({units})\b", entry.description or "", re.I)
    ]
    assert unsaid == []


def test_the_files_beside_experiments_have_their_keys() -> None:
    (page,) = file_reference.pages().values()
    assert "| `seeds` | list of integer (>= 0, &lt; 2147483648) | at least 1 long | `[0]` | " in page
    for _, sections in file_reference.FILES.values():
        for root in sections.values():
            for section in config_reference.all_sections(root):
                assert all(f"\n| `{key}` |" in page for key in section.model_fields), section
    assert page.count("Variants of one experiment") == 1  # a section builds no class whose words would stand below its own


def test_no_component_is_passed_over() -> None:
    rows = {row for table in ROWS.values() for row in table}
    assert rows <= set(config_reference.all_sections(Experiment))


def test_a_key_without_one_is_named(monkeypatch) -> None:
    monkeypatch.setattr(config_reference, "Experiment", Outer)
    here = f"{__name__}.Outer."
    assert config_reference.undescribed() == [here + key for key in ("pair", "kinds", "file", "inner", "mode")]


def test_a_key_in_words() -> None:
    keys = Outer.model_fields
    words = {key: (describe_type(f.annotation), bounds(f.metadata), describe_default(f)) for key, f in keys.items()}
    assert words == {
        "share": ("number", [">= 0", "< 1"], "`0.1`"),
        "pair": ("list of 2: number (> 0), number (<= 1)", [], "`[1.0, 0.5]`"),
        "kinds": ("mapping of text (at most 100 long, a name) to list of section or null", [], "`{}`"),
        "file": ("text", ["at least 1 long"], "required"),
        "inner": ("section", [], "`inner`"),
        "mode": ("`min` or `max` or null", [], "`null`"),
    }
    assert sections_below(keys["kinds"].annotation) == [(".<name>[]", [Inner])]
    assert (yaml_text(None), yaml_text(True), yaml_text("no"), yaml_text(("a",))) == ("null", "true", "'no'", "[a]")


def test_the_row_of_a_key_on_its_page() -> None:
    assert (
        "| `size` | integer | >= 1 | `32` | Samples of a global batch, over all processes. |"
        in PAGES["reference/config/batch.md"]
    )
    assert "| `skip_limit` | integer | >= 1 | `10` | " in PAGES["reference/config/training.md"]
    assert "(&lt; 1)" not in PAGES["reference/config/batch.md"]


@pytest.mark.parametrize("key", ROWS)
def test_every_row_of_every_table_has_its_own_heading(key) -> None:
    text = "\n".join(PAGES.values())
    names = [config.model_fields["name"].default for config in ROWS[key]]
    path = re.escape(re.sub("<task>|<modality>", "<name>", key))
    below = re.findall(rf"^#+ `{path}(?:\.<name>)?: {{name: (\w+)}}`", text, re.M)
    assert below == names


def test_every_key_of_every_section_is_in_a_table() -> None:
    text = "\n".join(PAGES.values())
    for section in config_reference.all_sections(Experiment):
        for key in section.model_fields.keys() - {"name"}:
            assert re.search(rf"^\| (\[)?`{key}`", text, re.M), f"{section.__name__}.{key}"


def test_links_inside_a_page_lead_to_headings() -> None:
    for path, text in PAGES.items():
        ids = re.findall(r"\{#([\w-]+)\}$", text, re.M)
        assert len(set(ids)) == len(ids), path
        assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= set(ids), path


def test_formula_and_source_stand_below_a_row() -> None:
    page = PAGES["reference/config/curriculum.md"]
    row = page.split("`curriculum.sampler: {name: learning_progress}`")[1].split("\n####")[0]
    assert "share_t = floor + (1 - K floor) f(Q_t) / sum_s f(Q_s)" in row
    assert "Matiisen et al. 2017" in row
    assert "Source: `mmtrain/curriculum/samplers/learning_progress.py`" in row


def test_every_command_and_option_is_on_a_page() -> None:
    pages = command_reference.pages()
    for program, page in zip(command_reference.PROGRAMS, pages.values(), strict=True):
        found = list(command_reference.commands(program))
        assert re.findall(r"^## `(.*)`$", page, re.M) == [words for words, _ in found]
        for _, command in found:
            assert all(
                option in page for parameter in command.params for option in parameter.opts if option.startswith("--")
            )
    assert "## `mmtrain tune lr`" in pages["reference/commands/mmtrain.md"]
    assert "## `python -m data_prep import mmsa`" in pages["reference/commands/data_prep.md"]
