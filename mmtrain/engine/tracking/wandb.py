"""Weights & Biases, which may fail in any way without stopping the training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console


class WandbTracker:
    """Logs until the first failure, which is printed once; after that it is silent."""

    def __init__(
        self,
        *,
        mode: Literal["online", "offline"],
        project: str,
        name: str,
        folder: Path,
        config: Mapping[str, Any],
        console: Console,
    ) -> None:
        self._console = console
        self._run: Any = None
        self._try(lambda: self._start(mode=mode, project=project, name=name, folder=folder, config=config))

    def _start(self, **settings: Any) -> None:
        import wandb

        self._run = wandb.init(
            project=settings["project"],
            name=settings["name"],
            id=settings["name"].replace("/", "-"),
            dir=str(settings["folder"]),
            config=dict(settings["config"]),
            mode=settings["mode"],
            resume="allow",
            settings=wandb.Settings(init_timeout=10, silent=True),
        )

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        if self._run is not None:
            self._try(lambda: self._run.log(dict(scalars), step=step))

    def close(self) -> None:
        if self._run is not None:
            self._try(self._run.finish)

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever a tracker's library raises, training goes on
            self._run = None
            self._console.print(f"W&B failed and is left out from here on: {type(error).__name__}: {error}", markup=False)
