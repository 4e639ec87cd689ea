"""TensorBoard event files inside the run folder."""

from collections.abc import Mapping
from pathlib import Path

from mmtrain.errors import ConfigError


class TensorBoardTracker:
    """Writes to `folder`; a resumed run writes the steps since its checkpoint once more."""

    def __init__(self, *, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("tracking.tensorboard: needs the library: pip install tensorboard") from None
        self._writer = SummaryWriter(str(folder))

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
