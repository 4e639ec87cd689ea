"""What `mmtrain tune search` tries: dotted keys of an experiment, each with a range or with choices."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from mmtrain.config_yaml import parse_yaml
from mmtrain.errors import ConfigError
from mmtrain.section import Section

# one process trains several trials and compares them by one metric: these cannot differ between them
_FIXED = ("name", "runs", "stage", "selection", "training.precision", "training.deterministic")


class Range(Section):
    """Numbers from `low` to `high`, both included; whole ones where all of them are whole."""

    low: int | float = Field(description="The least, in the key's own unit.")
    high: int | float = Field(description="The most; above `low`.")
    log: bool = Field(default=False, description="Even in the logarithm.")
    step: int | float | None = Field(default=None, gt=0, description="Distance between values; null: any between.")

    @model_validator(mode="after")
    def _rises(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0, and has no step")
        return self

    @property
    def first(self) -> Any:
        return self.low

    def suggest(self, trial: Any, key: str) -> Any:
        """A value, as an optuna trial chooses it."""
        numbers = [self.low, self.high, *([] if self.step is None else [self.step])]
        if all(isinstance(number, int) for number in numbers):
            return trial.suggest_int(key, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)


class Choices(Section):
    """Any values, whole sections too: `{name: hca, heads: 8}`."""

    choices: tuple[Any, ...] = Field(min_length=1, description="The values that are tried.")

    @property
    def first(self) -> Any:
        return self.choices[0]

    def suggest(self, trial: Any, key: str) -> Any:
        """A value, as an optuna trial chooses it; the study keeps choices as JSON."""
        return json.loads(trial.suggest_categorical(key, [json.dumps(choice, sort_keys=True) for choice in self.choices]))


Space = Mapping[str, Range | Choices]


def read_space(file: Path) -> dict[str, Range | Choices]:
    """Errors: ConfigError naming file and key."""
    try:
        values, _ = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        raise ConfigError(f"search file {file} does not exist") from None
    wanted = "write key.path: {low: 1, high: 9}, with log: true or step: 2 if you like, or key.path: {choices: [a, b]}"
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{file}: holds no keys to search; {wanted}")
    for key, value in values.items():
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in _FIXED):
            raise ConfigError(f"{file}: {key} has to be the same in all trials; set it in the experiment")
        if not isinstance(value, dict) or ("choices" in value) == ("low" in value):
            raise ConfigError(f"{file}: {key}: {wanted}")
    return {key: _parse(file, key, value) for key, value in values.items()}


def _parse(file: Path, key: str, value: Mapping[str, Any]) -> Range | Choices:
    try:
        return (Choices if "choices" in value else Range).model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([key, *map(str, first["loc"])])
        raise ConfigError(f"{file}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Chosen values as `key.path=value`."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]
