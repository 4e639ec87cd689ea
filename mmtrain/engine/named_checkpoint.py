"""A checkpoint of a run by its name, and the weights in it."""

from pathlib import Path

from mmtrain.engine.checkpoint import Checkpoint, Tensors, read_checkpoint
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import CheckpointError, ConfigError


def read_named(run: RunFolder, name: str) -> tuple[Path, Checkpoint]:
    """The folder of `best`, `last` or a step, and what it holds, also while the run goes on and may delete what `best` or
    `last` led to a moment ago.

    Errors: ConfigError where there is no such checkpoint, CheckpointError where it is damaged.
    """
    while True:
        link = _folder(run, name)
        folder = link.resolve()
        try:
            return folder, read_checkpoint(folder)
        except CheckpointError:
            if link.resolve() == folder:
                raise


def _folder(run: RunFolder, name: str) -> Path:
    folder = run.checkpoints / name
    if Path(name).name != name or not folder.is_dir():
        found = sorted(path.name for path in run.checkpoints.glob("[!.]*"))
        raise ConfigError(f"{run.path} has no checkpoint '{name}'; it has {', '.join(found) or 'none yet'}")
    return folder


def saved_weights(checkpoint: Checkpoint, weights: str, *, origin: str) -> Tensors:
    """The `trained` weights of a checkpoint, or their `average`. Errors: ConfigError where it holds none."""
    found = checkpoint.tensors[{"trained": "model", "average": "average"}[weights]]
    if not found:
        raise ConfigError(
            f"checkpoint '{origin}', of step {checkpoint.state['step']}, holds no average; training.average was null or had "
            "not begun"
        )
    return found
