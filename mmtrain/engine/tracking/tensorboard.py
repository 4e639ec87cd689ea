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
    """Writes to `folder`; a resumed run writes the steps since its checkpoint once more."""

    def __init__(self, *, folder: Path, console: Console) -> None:
        self._writer: Any = None
        self._background = Background("TensorBoard", console)
        self._background.do(lambda: self._start(folder))

    def _start(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        self._background.do(lambda: self._write(scalars, step))

    def _write(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def _finish(self) -> None:
        self._writer.close()

    def close(self) -> None:
        self._background.do(self._finish)
        self._background.close()
