"""Which learning rate and which weight decay a parameter gets."""

from collections.abc import Collection, Iterable
from typing import Annotated, Any

from pydantic import Field
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from mmtrain.engine.text_layers import TextLayers
from mmtrain.errors import ConfigError
from mmtrain.section import Section

Decay = Annotated[float, Field(ge=0, lt=1)]  # of a running average


class RatesSection(Section):
    """What every optimizer's config has: rates and decay of the groups."""

    name: str
    lr: float = Field(default=1e-3, gt=0, description="Peak learning rate of everything but the text encoder.")
    text_lr: float = Field(default=2e-5, gt=0, description="Peak learning rate of the text encoder's own weights.")
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Layer l of the text encoder's L learns at text_lr * layer_decay^(L - l); the embeddings are l = 0.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Decay of matrices; biases, norms and embeddings have none.")

    def groups(self, model: nn.Module, *, text: TextLayers | None) -> list[dict[str, Any]]:
        """The parameter groups of `model`; `text`: the encoder in it. Errors: ConfigError where it has no layers."""
        return parameter_groups(
            model,
            text=text,
            lr=self.lr,
            text_lr=self.text_lr,
            layer_decay=self.layer_decay,
            weight_decay=self.weight_decay,
        )


def parameter_groups(
    model: nn.Module, *, text: TextLayers | None, lr: float, text_lr: float, layer_decay: float = 1.0, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups with a `name`: {model, text} x {matrices, others}; parameters frozen for good are in none.

    Embeddings are among the others, also those that a module of several parts holds itself: marks of modalities, tokens and
    latents, positions. In the text encoder these are nn.Embedding, and what else such a module holds (XLNet) is a matrix.

    With `layer_decay` below 1 there is one of the text for each of its levels: `text.embeddings.others`,
    `text.layer_1.matrices`, ... (ELECTRA, Clark et al. 2020, "layerwise learning-rate decay").
    """
    if text is not None and text.layers is None and layer_decay < 1:
        raise ConfigError(f"training.optimizer.layer_decay: {text.kind} encoders have no separate layers; write 1")
    of_text = {id(parameter) for parameter in text.encoder.parameters()} if text is not None else set()
    levels = text.levels() if text is not None and layer_decay < 1 else {}
    embeddings = _embeddings(model, of_text)
    groups: dict[str, dict[str, Any]] = {}
    for parameter in _unique(model.parameters()):
        if not parameter.requires_grad:
            continue
        owner, rate = ("text", text_lr) if id(parameter) in of_text else ("model", lr)
        if level := levels.get(id(parameter)):
            owner, rate = f"text.{level.name}", text_lr * layer_decay**level.below
        decays = parameter.ndim >= 2 and id(parameter) not in embeddings
        name = f"{owner}.{'matrices' if decays else 'others'}"
        settings = {"name": name, "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault(name, {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def _embeddings(model: nn.Module, of_text: Collection[int]) -> set[int]:
    """The ids of all parameters that are looked up, or that a module of several parts holds itself: put beside the rows, or
    scales of them. A weight that is made of others (torch's parametrizations) is none.
    """
    found = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        is_layer = isinstance(module, nn.MultiheadAttention | ParametrizationList)
        if any(True for _ in module.children()) and not is_layer:
            found |= {id(value) for value in module.parameters(recurse=False)} - set(of_text)
    return found


def is_fusable(model: nn.Module) -> bool:
    """Whether torch has the fused form of Adam for the devices of all parameters."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())


def _unique(parameters: Iterable[nn.Parameter]) -> Iterable[nn.Parameter]:
    return {id(parameter): parameter for parameter in parameters}.values()
