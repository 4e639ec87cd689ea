"""Where a run's records go: JSON lines always, W&B and TensorBoard on request."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes flat scalars at a step. A tracker never raises or waits: what it cannot do, it says once and leaves."""

    def log(self, scalars: Mapping[str, float], *, step: int) -> None: ...

    def close(self) -> None: ...


def log_all(trackers: Sequence[Tracker], record: Mapping[str, Any]) -> None:
    """Hand a record of metrics.jsonl to every tracker, its nested numbers as a/b names."""
    scalars = flatten({key: value for key, value in record.items() if key not in ("kind", "step", "samples")})
    for tracker in trackers:
        tracker.log(scalars, step=int(record["step"]))


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested mappings under joined names."""
    flat: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            flat[f"{prefix}{key}"] = float(value)
    return flat
