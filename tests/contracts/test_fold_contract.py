"""Batch normalization of every image encoder and of every head that has any is folded, and the answers stay."""

import pytest
import torch
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.inference.compression.fold import Fold
from mmtrain.inference.compression.folded import Folded
from mmtrain.models.encoders import IMAGE_ENCODERS
from mmtrain.models.heads import HEADS

BACKBONES = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5")


def rows() -> list[pytest.param]:
    found = []
    for encoder in IMAGE_ENCODERS:
        if "model" not in encoder.model_fields:
            found.append(pytest.param(encoder, "", id=encoder.__name__))
            continue
        slow = pytest.mark.slow
        found += [pytest.param(encoder, model, id=f"{encoder.__name__}-{model}", marks=slow) for model in BACKBONES]
    return found


def observed(model: nn.Module) -> nn.Module:
    """Running statistics and factors as of some training."""
    random = torch.Generator().manual_seed(1)
    for module in model.modules():
        if "BatchNorm" in type(module).__name__:
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, -1.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=random) * (high - low) + low)
    return model.eval()


def num_norms(model: nn.Module) -> int:
    return sum("BatchNorm" in type(module).__name__ for module in model.modules())


@torch.inference_mode()
@pytest.mark.parametrize(("encoder", "model"), rows())
def test_image_encoders_are_folded(encoder, model):
    torch.manual_seed(0)
    built = observed((encoder(model=model) if model else encoder(hidden=(4, 6))).build(shape=(3, 32, 32), dim=8))
    frames = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    batch = MaskedSequence(frames, torch.tensor([[True, True, False], [True, False, False]]))
    expected, count = built(batch).values, num_norms(built)
    applied = Fold().apply(built)
    assert num_norms(built) == 0
    assert sum(isinstance(module, Folded) for module in built.modules()) == len(applied.layers) == count > 0
    torch.testing.assert_close(built(batch).values, expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("head", [head for head in HEADS if "batch_norm" in head.model_fields])
def test_heads_are_folded(head):
    torch.manual_seed(0)
    built = observed(head(hidden=(5, 4), batch_norm=True).build(input_dim=8, num_outputs=3))
    joint = torch.randn(6, 8)
    expected = built(joint)
    Fold().apply(built)
    assert num_norms(built) == 0
    torch.testing.assert_close(built(joint, torch.zeros(6, dtype=torch.bool)), expected, atol=1e-5, rtol=1e-5)
