"""Multimodal, multi-task training under a curriculum that decides while training runs."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "history", "load"]


def __getattr__(name: str) -> Any:
    if name == "history":  # loaded when asked for, so that `import mmtrain` stays light
        from mmtrain.engine.history import history

        return history
    if name == "load":
        from mmtrain.inference.load import load

        return load
    raise AttributeError(f"module 'mmtrain' has no attribute '{name}'")
