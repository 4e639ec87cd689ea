"""A matrix file: an experiment, what its variants change, the seeds, and the metric that they are compared by."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mmtrain.config_errors import config_error, nearest
from mmtrain.config_file import ConfigTree
from mmtrain.config_yaml import parse_yaml, place
from mmtrain.errors import ConfigError
from mmtrain.section import Name, Section

Settings = dict[str, Any]  # dotted keys of an experiment
Values = tuple[Name, ...]  # a variant: the name of its value on each axis, in the axes' order

_PER_RUN = {
    "name": "runs are named by the matrix",
    "seed": "write the seeds under `seeds:`",
    "runs": "all variants have one folder; write it under `overrides:`, or in the experiment",
}


class Matrix(Section):
    """Variants of one experiment, each run with every seed."""

    name: Name = Field(description="The runs' folder: runs/<name>/<variant>/seed-<seed>.")
    experiment: str = Field(min_length=1, description="The experiment file that is varied, relative to this file.")
    overrides: Settings = Field(default_factory=dict, description="Dotted keys that hold for every variant.")
    axes: dict[Name, Annotated[dict[Name, Settings], Field(min_length=1)]] = Field(
        min_length=1, description="What varies: by axis, named values, each the dotted keys that it sets."
    )
    design: Literal["grid", "one_factor"] | tuple[Values, ...] = Field(
        default="grid",
        description="Every combination; the baseline and what differs from it on one axis; or the combinations listed, "
        "each a list with one value of every axis in turn. The baseline is in it in any case.",
    )
    baseline: dict[str, str] = Field(description="By axis, the value of the variant that the others are compared with.")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        default=(0,), min_length=1, description="Every variant is trained once with each."
    )
    metric: str = Field(description="`val/loss`, or `val/<task>/<metric>`: what is compared.")
    also: tuple[str, ...] = Field(default=(), description="Metrics that are shown beside it.")

    @field_validator("design", mode="before")
    @classmethod
    def _is_one(cls, design: Any) -> Any:
        lists = isinstance(design, list | tuple) and all(isinstance(entry, list | tuple) for entry in design)
        if not (lists and design) and design not in ("grid", "one_factor"):
            raise ValueError("should be grid, one_factor, or a list of combinations such as [[a, x], [b, y]]")
        return design

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        complaints = [*self._baseline_complaints(), *self._design_complaints(), *self._key_complaints()]
        complaints += [f"seeds: {seed} stands here twice" for seed in sorted(set(self.seeds)) if self.seeds.count(seed) > 1]
        names = (self.metric, *self.also)
        complaints += [
            f"also: '{name}' is shown already; leave it out" for name in dict.fromkeys(names) if names.count(name) > 1
        ]
        if complaints:
            raise ValueError("\n".join(complaints))
        return self

    @property
    def baseline_values(self) -> Values:
        return tuple(self.baseline[axis] for axis in self.axes)

    def _baseline_complaints(self) -> Iterator[str]:
        for axis, value in self.baseline.items():
            if axis not in self.axes:
                yield f"baseline.{axis}: no axis '{axis}'{nearest(axis, self.axes)}"
            elif value not in self.axes[axis]:
                yield f"baseline.{axis}: the axis has no '{value}'{nearest(value, self.axes[axis])}"
        for axis in self.axes:
            if axis not in self.baseline:
                yield f"baseline: names no value of the axis '{axis}'; write one of {', '.join(self.axes[axis])}"

    def _design_complaints(self) -> Iterator[str]:
        for number, values in enumerate(self.design if isinstance(self.design, tuple) else ()):
            if len(values) != len(self.axes):
                yield (
                    f"design: entry {number + 1} names {len(values)} values, there are {len(self.axes)} axes: "
                    f"write [{', '.join(self.axes)}]"
                )
            for value, (axis, known) in zip(values, self.axes.items(), strict=False):
                if value not in known:
                    yield f"design: entry {number + 1}: the axis '{axis}' has no '{value}'{nearest(value, known)}"

    def _key_complaints(self) -> Iterator[str]:
        places = {"overrides": self.overrides}
        places |= {f"axes.{axis}.{value}": keys for axis, values in self.axes.items() for value, keys in values.items()}
        for where, keys in places.items():
            for key in keys:
                first = key.partition(".")[0]
                if first in _PER_RUN and (where, first) != ("overrides", "runs"):
                    yield f"{where}: '{key}' cannot be set here: {_PER_RUN[first]}"
        for (one, earlier), (other, later) in combinations(self.axis_keys().items(), 2):
            for key in sorted(earlier):
                if key in later:
                    yield f"axes.{other}: sets '{key}', as the axis '{one}' does: one of the two would be lost"
                elif undoing := next((name for name in sorted(later) if undoes(name, key)), None):
                    yield f"axes.{other}: sets '{undoing}' over '{key}' of the axis '{one}'; put this axis before that one"

    def axis_keys(self) -> dict[str, set[str]]:
        """The keys that each axis sets."""
        return {axis: {key for keys in values.values() for key in keys} for axis, values in self.axes.items()}


def undoes(key: str, earlier: str) -> bool:
    """Whether setting `key` may take back what was set under the dotted key `earlier` before."""
    return key == earlier or earlier.startswith(f"{key}.")


def read_matrix(file: Path) -> Matrix:
    """Errors: ConfigError with file, line and key, a line for each complaint."""
    try:
        values, lines = parse_yaml(file.read_text(encoding="utf-8-sig"), str(file))
    except FileNotFoundError:
        raise ConfigError(f"matrix file {file} does not exist") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"matrix file {file} is not UTF-8 text (byte {error.start})") from None
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file}: a matrix is a mapping with the keys {', '.join(Matrix.model_fields)}")
    if "datasets" in values or "base" in values:
        raise ConfigError(
            f"{file} is an experiment, not a matrix; a matrix has the keys {', '.join(Matrix.model_fields)}, "
            "and names an experiment under `experiment:`"
        )
    tree = ConfigTree(dict(values), {(): str(file)} | {path: place(str(file), line) for path, line in lines.items()})
    try:
        return Matrix.model_validate(tree.values)
    except ValidationError as error:
        raise config_error(error, Matrix, tree) from None
