"""Columns of a manifest that are neither the store's own nor media nor labels: kept as numbers or as texts."""

import math
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

Cells = Mapping[str, str]


def further_columns(rows: Sequence[Cells], taken: Collection[str]) -> dict[str, pa.DataType]:
    """Each column that is not in `taken`: float64 where every cell that is not empty is a finite number, else text."""
    names = [name for name in rows[0] if name not in taken]
    return {name: pa.float64() if _are_numbers([row[name] for row in rows]) else pa.string() for name in names}


def further_values(row: Cells, columns: Mapping[str, pa.DataType]) -> dict[str, float | str | None]:
    """One sample's values; None where a cell is empty."""
    return {
        name: None if not row[name].strip() else float(row[name]) if kind == pa.float64() else row[name]
        for name, kind in columns.items()
    }


def _are_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and all(is_number(cell) and math.isfinite(float(cell)) for cell in filled)


def is_number(cell: str) -> bool:
    """Whether `float` reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
