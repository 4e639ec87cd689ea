"""A run folder as the sections of its report read it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmtrain.data.schema import SPLITS
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.predictions import Predictions
from mmtrain.report.charts import Limits
from mmtrain.report.run_log import RunLog, read_run_log

HELD_OUT = tuple(split for split in SPLITS if split != "train")


@dataclass(frozen=True)
class RunRecord:
    """`predictions`: by split and task, of the splits that were evaluated; the run itself leaves those of `val`."""

    run: RunFolder
    config: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]  # environment.json
    log: RunLog
    predictions: Mapping[str, Mapping[str, Predictions]]
    limits: Limits = field(default_factory=Limits)

    @property
    def name(self) -> str:
        return str(self.config.get("name") or self.run.path.name)

    def values(self, name: str) -> Any:
        """What a JSON or JSON lines file below the folder holds; None where it is missing or cut off."""
        file = self.run.path / name
        try:
            return list(read_jsonl(file)) if name.endswith(".jsonl") else json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def command(self, words: str) -> str:
        """A command of mmtrain on this run."""
        first, _, rest = words.partition(" ")
        return f"mmtrain {first} {self.run.path}{' ' if rest else ''}{rest}"


def read_run(folder: Path, *, limits: Limits | None = None) -> RunRecord:
    """Errors: ConfigError where the folder is no run, or its config is damaged."""
    run = RunFolder(folder)
    if not run.is_run():
        raise ConfigError(run.refusal())
    try:
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        starts = json.loads(run.environment.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{folder}: config.yaml or environment.json is damaged ({error})") from None
    found = {split: run.predictions(split) for split in HELD_OUT if run.predictions(split).is_file()}
    predictions = {split: read_predictions(file) for split, file in found.items()}
    return RunRecord(run, config, starts, read_run_log(run), predictions, limits or Limits())
