"""Pixels through any classification model of torchvision, without its classifier."""

import difflib
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from mmtrain.data.schema import FrameShape
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.frames import FrameEncoder, FramesSection
from mmtrain.weight_file import fill_weights, read_weights

# no second classifiers beside the last, and the initialization said outright, which torchvision asks for
_PLAIN = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}
_SECOND_CLASSIFIERS = ("aux1", "aux2", "AuxLogits")


class TorchvisionEncoderConfig(FramesSection):
    """A backbone of torchvision by name, whose last layer's inputs are the features of a frame."""

    name: Literal["torchvision"] = "torchvision"
    model: str = Field(
        min_length=1, description="A classification model of torchvision: resnet18, efficientnet_b0, convnext_tiny, ..."
    )
    weights: str = Field(
        default="random", min_length=1, description="`random`, or a file of its weights: safetensors, or torch's .pth."
    )
    frozen: bool = Field(
        default=False, description="Nothing of the backbone is trained: eval mode, its running statistics stand still."
    )

    def build(self, *, shape: FrameShape, dim: int) -> nn.Module:
        """Errors: ConfigError for an unknown model, weights that are not its own, or pictures that it does not read."""
        backbone = load_backbone(self.model, self.weights)
        width = feature_width(backbone, self.model, shape)
        return FrameEncoder(backbone=backbone, width=width, dim=dim, mean=self.mean, std=self.std, is_frozen=self.frozen)


def load_backbone(model: str, weights: str) -> nn.Module:
    """Frames [n, 3, H, W] to what the model's last linear (or 1 x 1 convolution) layer would read, pooled: [n, width].

    Errors: ConfigError as `TorchvisionEncoderConfig.build`.
    """
    from torchvision import models  # slow to import

    known = models.list_models(module=models)
    if model not in known:
        near = ", ".join(difflib.get_close_matches(model, known, n=3, cutoff=0))
        raise ConfigError(
            f"model: torchvision has no classification model '{model}'; nearest: {near} "
            "(torchvision.models.list_models() names all)"
        )
    net: nn.Module = models.get_model(model, weights=None, **_PLAIN.get(model, {}))
    classifier = [name for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    net.set_submodule(classifier, nn.Identity())
    if weights != "random":
        unused = tuple(f"{part}." for part in (classifier, *_SECOND_CLASSIFIERS))
        file = Path(weights)
        given = {name: value for name, value in read_weights(file, key="weights").items() if not name.startswith(unused)}
        fill_weights(net, given, key="weights", origin=str(file), of=f"torchvision's {model}")
    return net


@torch.no_grad()
def feature_width(backbone: nn.Module, model: str, shape: FrameShape) -> int:
    """Width of the features of a frame. Errors: ConfigError where the backbone does not read frames of this shape."""
    try:
        features: torch.Tensor = backbone.eval()(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"model: '{model}' does not read pictures of {shape[1]} x {shape[2]} pixels ({first}); extract them with "
            "another --size, or choose another model"
        ) from None
    return features.shape[1]
