"""What a page is made of: sections of paragraphs, tables, charts, folded texts, and lines for what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | None


@dataclass(frozen=True)
class Cell:
    """A cell that is shown as `text` and sorted by `value`, such as a number with its interval."""

    text: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class DataTable:
    """Rows that a reader sorts by any column, searches, and downloads as CSV.

    `formats`: how the numbers of a column are shown, by its name, as Python's format() takes it. Errors: ValueError where a
    row has not one cell for each name of the header.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Value | Cell]]
    formats: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"table '{self.title}': a row has {len(row)} cells, the header {len(self.header)}")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A Vega-Lite drawing of columns of equal length.

    `summary` says in words what is drawn: it stands below the chart, and in its place for who cannot see it. `drawing`: the
    specification without its data (see `mmtrain.report.drawing`); `is_wide`: it takes a whole line of the page.
    Errors: ValueError where the columns differ in length.
    """

    title: str
    summary: str
    columns: Mapping[str, Sequence[Value]]
    drawing: Mapping[str, Any]
    is_wide: bool = False

    def __post_init__(self) -> None:
        if len({len(column) for column in self.columns.values()}) > 1:
            lengths = ", ".join(f"{name} {len(column)}" for name, column in self.columns.items())
            raise ValueError(f"chart '{self.title}': its columns differ in length: {lengths}")


@dataclass(frozen=True)
class Code:
    """A long text as it is, folded away under its title."""

    title: str
    text: str


@dataclass(frozen=True)
class Missing:
    """One line in the place of what is not there: what it is, and the command that makes it."""

    what: str
    command: str = ""


Part = str | DataTable | Chart | Code | Missing  # a string is a paragraph; what stands in `backticks` is set as code


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it. Charts that follow each other stand side by side where there is room."""

    title: str
    parts: Sequence[Part]
