"""What a run has logged so far, by columns: steps, evaluations, windows of the curriculum, and clock readings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.run_folder import RunFolder

Floats = npt.NDArray[np.float64]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One value over the steps, [n] each, ascending; NaN where there was none."""

    name: str
    steps: Floats
    values: Floats


@dataclass(frozen=True)
class RunLog:
    """`columns`: of the step records, by `objective`, `loss/<task>`, `grad_norm`, `lr/<group>`, ...; [n] each."""

    steps: Floats
    columns: Mapping[str, Floats]
    evaluations: Sequence[Record]
    curve: Sequence[Record]
    windows: Sequence[Record]
    timing: Sequence[Record]

    def line(self, name: str) -> Line | None:
        """A column; None where it holds no number."""
        values = self.columns.get(name)
        return None if values is None or np.isnan(values).all() else Line(name, self.steps, values)

    def lines(self, prefix: str) -> list[Line]:
        """The columns below a prefix, named by what follows it; those without any number are left out."""
        found = {name.removeprefix(prefix): values for name, values in self.columns.items() if name.startswith(prefix)}
        return [Line(name, self.steps, values) for name, values in found.items() if not np.isnan(values).all()]

    @property
    def last_step(self) -> int:
        steps = [record["step"] for record in (*self.evaluations[-1:], *self.windows[-1:])]
        return int(max([*steps, *self.steps[-1:].tolist()], default=0))


def read_run_log(run: RunFolder) -> RunLog:
    """Everything that stands in metrics.jsonl, curriculum.jsonl and timing.jsonl, also while the run writes them."""
    table = _Columns()
    others: dict[str, list[Record]] = {"evaluation": [], "curve": []}
    for record in _records(run.metrics):
        if record["kind"] == "step":
            table.add(record)
        else:
            others.setdefault(record["kind"], []).append(record)
    return RunLog(
        steps=np.array(table.steps, np.float64),
        columns=table.arrays(),
        evaluations=others["evaluation"],
        curve=others["curve"],
        windows=list(_records(run.curriculum)),
        timing=_newest(list(_records(run.timing))),
    )


def over_steps(records: Sequence[Record], value: Callable[[Record], Mapping[str, float | None]]) -> list[Line]:
    """A line for each name that `value` gives of any record; NaN where a record has none."""
    found = [value(record) for record in records]
    steps = np.array([record["step"] for record in records], np.float64)
    names = dict.fromkeys(name for row in found for name in row)
    return [Line(name, steps, np.array([_number(row.get(name)) for row in found])) for name in names]


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _records(file: Path) -> Iterator[dict[str, Any]]:
    return read_jsonl(file) if file.is_file() else iter(())


def _newest(records: list[Record]) -> list[Record]:
    """Of steps that a run went through twice (it was killed, or went back), the last reading."""
    by_place = {(record["kind"], record["step"]): record for record in records}
    return sorted(by_place.values(), key=lambda record: int(record["step"]))


class _Columns:
    """Step records, a list for each name: a hundred thousand records as dictionaries would take a gigabyte."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._values: dict[str, list[float]] = {}

    def add(self, record: Record) -> None:
        for name, value in _numbers(record):
            column = self._values.setdefault(name, [])
            column.extend([float("nan")] * (len(self.steps) - len(column)))
            column.append(_number(value))
        self.steps.append(record["step"])

    def arrays(self) -> dict[str, Floats]:
        arrays = {}
        for name, column in self._values.items():
            arrays[name] = np.full(len(self.steps), np.nan)
            arrays[name][: len(column)] = column
        return arrays


def _numbers(record: Record) -> Iterator[tuple[str, float | None]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}/{name}", number) for name, number in value.items())
        elif key not in ("kind", "step"):
            yield key, value
