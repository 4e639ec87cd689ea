"""Where an analysis of a run goes: a JSON file, and the same as tables in a file and on the console."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmtrain.engine.jsonl import plain
from mmtrain.engine.run_folder import write_whole
from mmtrain.evaluation.table import TextTable


def write_json(folder: Path, name: str, values: Mapping[str, Any], *, indent: int | None = 1) -> Path:
    """Write evaluation/<name>.json below a run's folder, NaN and Inf as null; `indent` None: in one line."""
    file = folder / "evaluation" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(plain(values), indent=indent, allow_nan=False, ensure_ascii=False))
    return file


def write_analysis(
    folder: Path,
    name: str,
    values: Mapping[str, Any],
    *,
    tables: Sequence[TextTable],
    notes: Sequence[str],
    console: Console,
) -> None:
    """Write evaluation/<name>.{json,md} below a run's folder, and print the tables and notes."""
    file = write_json(folder, name, values)
    page = file.with_suffix(".md")
    write_whole(page, "\n".join([*(table.markdown() for table in tables), *notes, ""]))
    for table in tables:
        console.print(table.rich())
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    console.print(f"written: {page}, {file}", highlight=False, soft_wrap=True, markup=False)
