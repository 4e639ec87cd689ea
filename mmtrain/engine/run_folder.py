"""Where a run keeps its files, and the refusal to write over somebody else's."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from mmtrain.engine.run_lock import LOCK
from mmtrain.errors import ConfigError

_TRAIN_EPOCH = re.compile(r"train-epoch-(\d{4,})\.parquet")


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

    @property
    def bad_samples(self) -> Path:
        return self.path / "bad_samples.jsonl"

    @property
    def nonfinite(self) -> Path:
        return self.path / "nonfinite"

    @property
    def preempted(self) -> Path:
        """The marker of a run that SIGUSR1 has stopped, until it goes on."""
        return self.path / "PREEMPTED"

    @property
    def profile(self) -> Path:
        return self.path / "profile"

    @property
    def test_reads(self) -> Path:
        """A line for each reading of the test split."""
        return self.path / "test_reads.jsonl"

    def calibration(self, weights: str) -> Path:
        """What validation chose for `trained` weights, or their `average`."""
        return self.path / ("calibration.json" if weights == "trained" else f"calibration_{weights}.json")

    @property
    def initial(self) -> Path:
        """What a run that begins with other weights than its own took of them."""
        return self.path / "initial.json"

    def predictions(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.parquet"

    def train_predictions(self, epoch: int) -> Path:
        """Of every training sample, after an epoch (counted from 1)."""
        return self.predictions(f"train-epoch-{epoch:04d}")

    def epochs_predicted(self) -> list[int]:
        """The epochs whose training predictions are there, in order."""
        names = [_TRAIN_EPOCH.fullmatch(path.name) for path in self.predictions("any").parent.glob("train-epoch-*.parquet")]
        return sorted(int(match[1]) for match in names if match)

    def is_run(self) -> bool:
        """Whether a run began here: config.yaml alone could be anybody's."""
        return self.config.is_file() and self.environment.is_file()

    def refusal(self) -> str:
        """Why the folder is no run, with the runs that lie in it."""
        runs = sorted(str(path) for path in self.path.iterdir() if RunFolder(path).is_run()) if self.path.is_dir() else []
        inside = f"; it holds the runs {', '.join(runs)}: name one of them" if runs else ""
        return f"{self.path} is not a run folder: it has no {self.config.name}{inside}"

    def check(self, *, resume: bool, overwrite: bool) -> bool:
        """True if a run in the folder is to be continued. Nothing is written or deleted.

        Errors: ConfigError where a run exists and neither `resume` nor `overwrite` was asked, or the folder holds
        something that is no run of ours, or lies inside another run.
        """
        if resume and overwrite:
            raise ConfigError("--resume and --overwrite contradict each other; choose one")
        outer = next((path for path in self.path.parents if RunFolder(path).is_run()), None)
        if outer is not None:
            raise ConfigError(f"{self.path} lies inside the run {outer}; choose another `name:`")
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; choose another `name:`")
        occupied = bool(self._contents())
        if occupied and not self.is_run():
            raise ConfigError(
                f"{self.path} exists and is not a run folder (no {self.config.name} with an {self.environment.name}); "
                "choose another `name:`, or empty it"
            )
        if occupied and not resume and not overwrite:
            raise ConfigError(
                f"run folder {self.path} exists already. Continue it with --resume, replace it with --overwrite, or "
                "choose another name: name=..."
            )
        return occupied and resume

    def begin(self, *, config: str, environment: str) -> None:
        """Start a run whose folder was checked: what it replaces is deleted now, when all else is known to be right.

        Whenever this is cut off, what is left is the run that was there, to be replaced, or a folder that is free.
        Errors: ConfigError where the folder has become something that is no run since.
        """
        self.clear()
        self.path.mkdir(parents=True, exist_ok=True)
        for file, text in ((self.environment, environment), (self.config, config)):
            _write_partial(file, text)
        for file in (self.environment, self.config):
            _partial(file).replace(file)

    def clear(self) -> None:
        """Delete the run, if there is one. Errors: ConfigError where the folder is something else."""
        self.check(resume=False, overwrite=True)
        if not self.is_run():
            return
        for path in self._contents():
            if path in (self.environment, self.config):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.config.replace(_partial(self.config))  # until here it is still a run, to be replaced; from here on free
        self.environment.unlink()
        _partial(self.config).unlink()

    def _contents(self) -> list[Path]:
        """What stands in the folder besides the lock of a training that is about to begin, and what is left of one that was
        killed while it began: its two files, one of them or both not yet under their names.
        """
        marks = (self.environment, self.config)
        litter = {LOCK, *(_partial(file).name for file in marks)}
        if not self.is_run() and any(_partial(file).is_file() for file in marks):
            litter |= {file.name for file in marks}
        return [path for path in self.path.iterdir() if path.name not in litter] if self.path.is_dir() else []


def scored_name(split: str, weights: str) -> str:
    """What files about a split are called: the split, and what the weights are where they are not the trained ones."""
    return split if weights == "trained" else f"{split}_{weights}"


def write_whole(file: Path, text: str) -> None:
    """Write a small file that is there whole or not at all."""
    _write_partial(file, text)
    try:
        _partial(file).replace(file)
    except OSError as error:
        _partial(file).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from None


def _write_partial(file: Path, text: str) -> None:
    """What is to become `file`. Errors: OSError that names `file`, nothing being left."""
    try:
        _partial(file).write_text(text, encoding="utf-8")
    except OSError as error:
        _partial(file).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from None


def _partial(file: Path) -> Path:
    return file.with_name(f".{file.name}.partial")
