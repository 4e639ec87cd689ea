"""Parts as HTML. Whatever a text holds, it stays text: the one place where a page's texts are escaped."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from mmtrain.report.parts import Cell, Chart, Code, DataTable, Missing, Part, Section, Value

_SHORT = 8  # rows of a table that is read without searching
_LONG = 40  # characters of a text that is read in lines
_CODE = re.compile(r"`([^`]+)`")
_TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
# what ends a script element, opens a comment or ends a line of JavaScript, in the form that JSON has for it
_IN_SCRIPT = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def section_html(section: Section, anchor: str) -> str:
    """A section; charts, and tables, that follow each other share what room there is."""
    pieces = []
    for kind, parts in groupby(section.parts, key=_shelf):
        html = "".join(map(_part_html, parts))
        pieces.append(f'<div class="{kind}">\n{html}</div>\n' if kind else html)
    heading = f'<h2 id="{anchor}-title">{escape(section.title)}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n{heading}\n{"".join(pieces)}</section>\n'


def _shelf(part: Part) -> str:
    return "charts" if isinstance(part, Chart) else "tables" if isinstance(part, DataTable) else ""


def _part_html(part: Part) -> str:
    match part:
        case str():
            return f"<p>{paragraph(part)}</p>\n"
        case DataTable():
            return _table_html(part)
        case Chart():
            return _chart_html(part)
        case Code(title, text):
            return f"<details><summary>{escape(title)}</summary><pre tabindex='0'>{escape(text)}</pre></details>\n"
        case Missing(what, command):
            joined = " " if what.endswith(".") else ": "
            shown = f"{joined}<code>{escape(command)}</code>" if command else ""
            return f'<p class="missing">{paragraph(what)}{shown}</p>\n'


def anchors(titles: Sequence[str]) -> list[str]:
    """A name for each title that is like no other on the page."""
    names: list[str] = []
    for title in titles:
        plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        name, number = plain, 2
        while name in names or name == "content":
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def paragraph(text: str) -> str:
    """Text as HTML; what stands in `backticks` is set as code.

    Marks that turn the direction of what follows, which a name of a data set may hold, would turn the numbers behind it.
    """
    return _CODE.sub(r"<code>\1</code>", escape(text.translate(_TURNS)))


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element, see `plain_json`."""
    return json.dumps(plain_json(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_IN_SCRIPT)


def plain_json(value: Any) -> Any:
    """Numbers with six significant digits, NaN and Inf as null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, float):
        return _short(value)
    return value


def _short(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded


def _chart_html(chart: Chart) -> str:
    data = script_json({"drawing": chart.drawing, "columns": {name: list(values) for name, values in chart.columns.items()}})
    wide = " wide" if chart.is_wide else ""
    title = escape(chart.title)
    return (
        f'<figure class="chart{wide}"><figcaption><h3><bdi>{title}</bdi></h3>'
        f'<button type="button" class="csv" aria-label="Download the data of: {title}">CSV</button></figcaption>\n'
        f'<div class="drawing" role="img" aria-label="{title}. {escape(chart.summary)}"></div>\n'
        f'<p class="summary">{paragraph(chart.summary)}</p>\n'
        f'<script type="application/json">{data}</script></figure>\n'
    )


def _table_html(table: DataTable) -> str:
    title = escape(table.title)
    kinds = [_kind([row[number] for row in table.rows]) for number in range(len(table.header))]
    head = "".join(
        f'<th scope="col"{kind}><button type="button">{escape(name)}</button></th>'
        for name, kind in zip(table.header, kinds, strict=True)
    )
    formats = [table.formats.get(name, "") for name in table.header]
    rows = "".join(f"<tr>{''.join(map(_cell_html, row, formats, kinds))}</tr>\n" for row in table.rows)
    note = f'<p class="summary">{paragraph(table.note)}</p>\n' if table.note else ""
    search = (
        f'<input type="search" placeholder="Search" aria-label="Search in: {title}"><output aria-live="polite"></output>'
    )
    return (
        f'<figure class="table"><figcaption><h3><bdi>{title}</bdi></h3>'
        f"{search if len(table.rows) > _SHORT else ''}"
        f'<button type="button" class="csv" aria-label="Download the rows of: {title}">CSV</button></figcaption>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>\n{note}</figure>\n"
    )


def _kind(values: Sequence[Value | Cell]) -> str:
    """The class of a column: numbers, which stand to the right, or long texts, which need room on a phone."""
    texts = [value for value in values if isinstance(value, str)]
    if not texts and any(value is not None for value in values):
        return ' class="number"'
    return ' class="long"' if max(map(len, texts), default=0) > _LONG else ""


def _cell_html(value: Value | Cell, form: str, kind: str) -> str:
    match value:
        case Cell(text, number):
            return f'<td{kind} data-value="{"" if number is None else number}"><bdi>{escape(text)}</bdi></td>'
        case str():
            return f"<td{kind}><bdi>{escape(value)}</bdi></td>"
        case float() | int() if math.isfinite(value):
            return f'<td{kind} data-value="{value}">{format(value, form or _usual(value))}</td>'
        case _:  # None, NaN, Inf
            return f'<td{kind} data-value="">-</td>'


def _usual(value: float) -> str:
    return "," if isinstance(value, int) else ".4g"
