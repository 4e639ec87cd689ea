"""AdamW with weight decay on matrices only, and a learning rate of its own for the text encoder."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from mmtrain.section import Section

Decay = Annotated[float, Field(ge=0, lt=1)]  # of a running average


class AdamWConfig(Section):
    """Decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, description="Peak learning rate of everything but the text encoder.")
    text_lr: float = Field(default=2e-5, gt=0, description="Peak learning rate of the text encoder's own weights.")
    weight_decay: float = Field(default=0.01, ge=0, description="Decay of matrices; biases, norms and embeddings have none.")
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)

    def build(self, model: nn.Module, *, text: nn.Module | None) -> torch.optim.Optimizer:
        """AdamW over the parameters that train; `text` is the pretrained encoder inside `model`, if there is one."""
        groups = parameter_groups(model, text=text, lr=self.lr, text_lr=self.text_lr, weight_decay=self.weight_decay)
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused)


def parameter_groups(
    model: nn.Module, *, text: nn.Module | None, lr: float, text_lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """At most four groups, each with a `name`: {model, text} x {matrices, others}; frozen parameters are in none."""
    of_text = {id(parameter) for parameter in text.parameters()} if text is not None else set()
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    groups: dict[str, dict[str, Any]] = {}
    for parameter in _unique(model.parameters()):
        if not parameter.requires_grad:
            continue
        owner = "text" if id(parameter) in of_text else "model"
        decays = parameter.ndim >= 2 and id(parameter) not in embeddings
        name = f"{owner}.{'matrices' if decays else 'others'}"
        settings = {"name": name, "lr": text_lr if owner == "text" else lr, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault(name, {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def _unique(parameters: Iterable[nn.Parameter]) -> Iterable[nn.Parameter]:
    return {id(parameter): parameter for parameter in parameters}.values()
