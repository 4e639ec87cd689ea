"""TensorBoard event files inside the run folder."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from mmtrain.engine.tracking.background import Background
from mmtrain.errors import ConfigError


def require_tensorboard() -> None:
    """Errors: ConfigError where the library is not installed."""
    if find_spec("tensorboard") is None:
        raise ConfigError("tracking.tensorboard: needs the library: pip install tensorboard")


class TensorBoardTracker:
    """Writes to `folder`; what a killed life, or a run that went back, wrote beyond its checkpoint is purged.

    `settings`: the run's columns on the HParams page, beside `metric`, the name of a scalar; none: the run is not there.
    """

    def __init__(
        self, *, folder: Path, console: Console, settings: Mapping[str, bool | float | str] | None = None, metric: str = ""
    ) -> None:
        self._folder, self._settings, self._metric = folder, dict(settings or {}), metric
        self._writer: Any = None
        self._written: dict[str, int] = {}  # name -> its last step
        self._background = Background("TensorBoard", console)

    def _open(self, step: int) -> Any:
        from torch.utils import tensorboard

        writer: Any = tensorboard.SummaryWriter(str(self._folder), purge_step=step)
        summaries: Any = tensorboard.summary
        if self._settings:
            for summary in summaries.hparams(self._settings, {self._metric: 0.0}):  # the number is read from the scalars
                writer.file_writer.add_summary(summary)
        return writer

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        self._background.do(lambda: self._write(scalars, step))

    def _write(self, scalars: Mapping[str, float], step: int) -> None:
        if any(self._written.get(name, 0) >= step for name in scalars):  # the run went back to a checkpoint
            self._finish()
            self._writer, self._written = None, {}
        self._written |= dict.fromkeys(scalars, step)
        self._writer = self._writer or self._open(step)
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def close(self) -> None:
        self._background.do(self._finish)
        self._background.close()
