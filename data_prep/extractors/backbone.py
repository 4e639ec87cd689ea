"""A backbone of torchvision without its classifier: its weights from a file or torchvision's registry, and their hash."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.errors import ConfigError
from mmtrain.weight_file import fill_weights, read_weights

RANDOM, REGISTRY = "random", "torchvision"


class Backbone:
    """Pictures, prepared as torchvision's own weights of this model want them, to what its classifier would read.

    `prepare`: torchvision's preset for the model's newest weights. `weights`: name -> sha256.
    """

    def __init__(self, model: str, *, weights: str, device: str, half: bool) -> None:
        from torchvision import models  # slow to import

        known = models.get_model_weights(model).DEFAULT
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net: nn.Module = models.get_model(model, weights=None)
        if weights != RANDOM:
            given = _from_registry(known, model) if weights == REGISTRY else read_weights(Path(weights), key="--weights")
            fill_weights(net, given, key="--weights", origin=weights, of=f"torchvision's {model}")
        name = f"{model}: {known}" if weights == REGISTRY else weights if weights == RANDOM else Path(weights).name
        self.weights = {name: hash_weights(net) if weights in (RANDOM, REGISTRY) else _file_hash(Path(weights))}
        classifier = [key for key, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)][
            -1
        ]
        net.set_submodule(classifier, nn.Identity())
        self.prepare: Any = known.transforms()
        self._device, self._type = find_device(device), half_type(device) if half else torch.float32
        self._net = net.eval().to(self._device, self._type)

    def __call__(self, prepared: Tensor) -> Tensor:
        """Prepared inputs [n, ...] to features [n, D], float32 on the CPU."""
        with torch.inference_mode():
            features: Tensor = self._net(prepared.to(self._device, self._type)).float().cpu()
        return features


def find_device(name: str) -> torch.device:
    """Errors: ConfigError where torch knows no such device, or this machine has none."""
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(f"--device {name}: torch cannot use it here ({first}); write cpu, cuda or cuda:1") from None


def half_type(device: str) -> torch.dtype:
    """What half precision is on a device: float16, which a CPU is slow at, or bfloat16."""
    return torch.bfloat16 if device == "cpu" else torch.float16


def _from_registry(known: Any, model: str) -> dict[str, Tensor]:
    """Errors: ConfigError where they can be neither fetched nor found in torch's cache."""
    try:
        weights: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            known.url, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except Exception as error:  # without a network: URLError, a time-out, an HTML page in place of the file, ...
        raise ConfigError(
            f"the weights {known} cannot be had from {known.url} ({error}). Fetch that file elsewhere and write "
            f"--weights {model}=FILE, or --weights {model}=random to try things out"
        ) from None
    return weights


def hash_weights(net: nn.Module) -> str:
    """One sha256 over names, types and values of all tensors of a model that is on the CPU."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        content = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode() + content)
    return digest.hexdigest()


def _file_hash(file: Path) -> str:
    with file.expanduser().open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
