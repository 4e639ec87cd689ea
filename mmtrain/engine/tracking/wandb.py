"""Weights & Biases, which may fail or fall silent in any way without stopping the training."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from mmtrain.engine.run_folder import write_whole
from mmtrain.engine.tracking.background import Background


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
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self._run: Any = None
        self._background = Background("W&B", console)
        settings = {"mode": mode, "project": project, "name": name, "group": group, "tags": list(tags)}
        self._background.do(lambda: self._start(folder=folder, config=dict(config), **settings))

    def _start(self, *, folder: Path, **settings: Any) -> None:
        import wandb

        self._run = wandb.init(
            id=_run_id(folder),
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(init_timeout=10, silent=True),
            **settings,
        )

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        self._background.do(lambda: self._run.log(dict(scalars), step=step))

    def _finish(self) -> None:
        self._run.finish()

    def close(self) -> None:
        self._background.do(self._finish)
        self._background.close()


def _run_id(folder: Path) -> str:
    """What W&B knows the run by: drawn at its first start and kept in its folder, so that a resumed run goes on under it
    and one that replaces it, or has its name elsewhere, does not.
    """
    file = folder / "wandb" / "id.txt"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, secrets.token_hex(8))
    return file.read_text(encoding="utf-8")
