"""Image encoders against plain float64 loops, and against torchvision's models on the real frames alone."""

import numpy as np
import pytest
import torch
from plain_layers import array, randomize
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders.cnn import Cnn, CnnEncoderConfig
from mmtrain.models.encoders.frames import FrameEncoder
from mmtrain.models.encoders.torchvision_backbone import TorchvisionEncoderConfig, load_backbone


def convolve(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """3 x 3 with stride 2 over maps [C, H, W] with a border of zeros: [O, ceil(H / 2), ceil(W / 2)]."""
    _, height, width = maps.shape
    bordered = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    found = np.zeros((len(weights), -(-height // 2), -(-width // 2)))
    for out, row, column in np.ndindex(found.shape):
        found[out, row, column] = (bordered[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] * weights[out]).sum()
    return found


def test_the_cnn_is_its_formula() -> None:
    encoder = randomize(
        CnnEncoderConfig(hidden=(4, 3), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)).build(shape=(3, 5, 6), dim=2)
    )
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    frame = torch.randint(0, 256, (3, 5, 6), dtype=torch.uint8)
    maps = (array(frame) / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.4, 0.5, 0.6])[:, None, None]
    for block, norm in zip(encoder.backbone.blocks, norms, strict=True):
        maps = convolve(maps, array(block[0].weight))
        mean, deviation = array(norm.running_mean), np.sqrt(array(norm.running_var) + 1e-5)
        normed = (maps - mean[:, None, None]) / deviation[:, None, None]
        maps = np.maximum(normed * array(norm.weight)[:, None, None] + array(norm.bias)[:, None, None], 0)
    row = array(encoder.projection.weight) @ maps.mean(axis=(1, 2)) + array(encoder.projection.bias)
    row = (row - row.mean()) / np.sqrt(row.var() + 1e-5) * array(encoder.norm.weight) + array(encoder.norm.bias)
    values = torch.stack([torch.full_like(frame, 200), frame])[None]
    found = encoder(MaskedSequence(values, torch.tensor([[False, True]])))
    np.testing.assert_allclose(array(found.values), np.stack([np.zeros(2), row])[None], atol=1e-6)
    assert found.mask.tolist() == [[False, True]]


def test_batch_norm_sees_the_real_frames_alone() -> None:
    """Output and running statistics are those of the backbone on the gathered frames, whatever lies between them."""
    torch.manual_seed(0)
    encoder = FrameEncoder(backbone=Pooled(nn.BatchNorm2d(3)), width=3, dim=2, mean=(0, 0, 0), std=(1, 1, 1))
    encoder.projection, encoder.norm = nn.Identity(), nn.Identity()
    mask = torch.tensor([[True, False, True], [False, True, False]])
    values = torch.randint(0, 256, (2, 3, 3, 1, 1), dtype=torch.uint8)
    found = encoder(MaskedSequence(values, mask))
    real = array(values[mask].double())[:, :, 0, 0] / 255  # [3 frames, 3]
    expected = np.zeros((2, 3, 3))
    expected[array(mask)] = (real - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-5)
    np.testing.assert_allclose(array(found.values), expected, atol=1e-5)
    norm = encoder.backbone.norm
    np.testing.assert_allclose(array(norm.running_mean), 0.1 * real.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(array(norm.running_var), 0.9 + 0.1 * real.var(axis=0, ddof=1), atol=1e-6)


class Pooled(nn.Module):
    """A norm and the mean over all places."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.norm(frames).mean(dim=(2, 3))


@pytest.mark.parametrize("count", [0, 1])
def test_with_fewer_than_two_frames_the_running_statistics_are_used_and_kept(count: int) -> None:
    torch.manual_seed(0)
    encoder = CnnEncoderConfig(hidden=(4,)).build(shape=(3, 8, 8), dim=2)
    norm = encoder.backbone.blocks[0][1]
    norm.running_mean.normal_()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    values = torch.randint(0, 256, (1, 2, 3, 8, 8), dtype=torch.uint8)
    sequence = MaskedSequence(values, torch.arange(2)[None] < count)
    trained = encoder.train()(sequence).values
    assert norm.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    torch.testing.assert_close(trained, encoder.eval()(sequence).values)


def test_two_forward_passes_may_come_before_a_backward_pass() -> None:
    """One with a single frame, which reads the running statistics, then one with three, which writes them."""
    torch.manual_seed(0)
    encoder = CnnEncoderConfig(hidden=(4,)).build(shape=(3, 8, 8), dim=4)
    values, target = torch.randint(0, 256, (1, 3, 3, 8, 8), dtype=torch.uint8), torch.randn(4)
    found = []
    for counts in ((1,), (1, 3)):
        encoder.zero_grad()
        rows = [encoder(MaskedSequence(values, torch.arange(3)[None] < count)).values for count in counts]
        (rows[0] @ target).sum().backward()
        found.append([value.grad for value in encoder.parameters()])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    assert all(slope.any() for slope in found[0][:2])


# pooled features of torchvision's own models, by what their documentation calls the last layer
LAST = {
    "squeezenet1_1": ("classifier", 512),
    "mobilenet_v3_small": ("classifier.3", 1024),
    "shufflenet_v2_x0_5": ("fc", 1024),
}
LARGE = {
    "resnet18": ("fc", 512),
    "densenet121": ("classifier", 1024),
    "efficientnet_b0": ("classifier.1", 1280),
    "convnext_tiny": ("classifier.2", 768),
    "swin_t": ("head", 768),
    "googlenet": ("fc", 1024),
    "regnet_y_400mf": ("fc", 440),
    "mnasnet0_5": ("classifier.1", 1280),
}


@pytest.mark.parametrize("model", [*LAST, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_a_backbone_gives_what_the_whole_model_gives_its_last_layer(model: str) -> None:
    from torchvision import models

    layer, width = (LAST | LARGE)[model]
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": True} if model == "googlenet" else {}
    whole = models.get_model(model, weights=None, **options).eval()
    torch.manual_seed(0)
    encoder = TorchvisionEncoderConfig(model=model).build(shape=(3, 32, 32), dim=4).eval()
    assert encoder.projection.in_features == width
    seen: list[torch.Tensor] = []
    # SqueezeNet has no last linear layer: its classifier convolves, then pools
    part = whole.get_submodule(layer)
    part.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    values = torch.randint(0, 256, (2, 2, 3, 32, 32), dtype=torch.uint8)
    mask = torch.tensor([[True, False], [True, True]])
    pixels = (values[mask] / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    logits = whole(pixels)
    expected = seen[0].mean(dim=(2, 3)) if model == "squeezenet1_1" else seen[0].flatten(1)
    rows: list[torch.Tensor] = []
    encoder.projection.register_forward_pre_hook(lambda _module, inputs: rows.append(inputs[0]))
    found = encoder(MaskedSequence(values, mask)).values
    torch.testing.assert_close(rows[0], expected)
    if isinstance(part, nn.Linear):
        torch.testing.assert_close(part(rows[0]), logits)
    torch.testing.assert_close(found[mask], encoder.norm(encoder.projection(expected)))
    assert not found[~mask].any()


@pytest.mark.slow
def test_every_model_of_torchvision_has_a_last_layer_that_goes() -> None:
    """All but the regular networks, which cannot be made without their numbers, and are alike."""
    from torchvision import models

    for name in models.list_models(module=models):
        if name.startswith("regnet"):
            continue
        with torch.device("meta"):
            whole, backbone = (
                models.get_model(name, weights=None, init_weights=False)
                if name
                in (
                    "googlenet",
                    "inception_v3",
                )
                else models.get_model(name, weights=None),
                load_backbone(name, "random"),
            )
        dropped = whole.state_dict().keys() - backbone.state_dict().keys()
        rest = {key for key in dropped if not key.startswith(("aux", "AuxLogits"))}
        assert len(rest) in (1, 2), (name, rest)  # weight and bias
        assert all(whole.state_dict()[key].shape[0] == 1000 for key in rest), name


def test_the_cnn_reads_pictures_of_any_size() -> None:
    backbone = Cnn(channels=3, hidden=(4, 5, 6))
    for size in ((1, 1), (2, 7), (33, 20)):
        assert backbone.eval()(torch.zeros(2, 3, *size)).shape == (2, 6)
