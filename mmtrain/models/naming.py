"""Names of tasks and modalities as names of submodules, whatever they are called."""

from collections.abc import Mapping

from torch import nn


def module_key(name: str, role: str) -> str:
    """A legal key, another one for every name: a task may be called `type` or `a.b`, an attribute of a module may not."""
    return f"{name.replace('.', ':')}_{role}"


def module_dict(role: str, modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Modules under their names with the role behind them: `heads.speaker_head.weight`."""
    return nn.ModuleDict({module_key(name, role): module for name, module in modules.items()})
