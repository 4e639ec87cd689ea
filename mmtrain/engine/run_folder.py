"""Where a run keeps its files, and the refusal to write over somebody else's."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from mmtrain.errors import ConfigError


@dataclass(frozen=True)
class RunFolder:
    """Paths inside runs/<name>."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def curriculum(self) -> Path:
        return self.path / "curriculum.jsonl"

    @property
    def timing(self) -> Path:
        return self.path / "timing.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def predictions(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.parquet"

    def is_run(self) -> bool:
        return self.config.is_file()

    def prepare(self, *, resume: bool, overwrite: bool) -> bool:
        """Make the folder; True if a run in it is to be continued.

        Errors: ConfigError where a run exists and neither `resume` nor `overwrite` was asked, or the folder holds
        something that is no run of ours.
        """
        if resume and overwrite:
            raise ConfigError("--resume and --overwrite contradict each other; choose one")
        occupied = self.path.exists() and any(self.path.iterdir())
        if occupied and not self.is_run():
            raise ConfigError(f"{self.path} exists and is not a run folder (no config.yaml); choose another `name:`")
        if occupied and not resume and not overwrite:
            raise ConfigError(
                f"run folder {self.path} exists already. Continue it with --resume, replace it with --overwrite, or "
                "choose another name: name=..."
            )
        if occupied and overwrite:
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        return occupied and resume
