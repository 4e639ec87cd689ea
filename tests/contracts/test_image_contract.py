"""What every image encoder holds to: what is no real frame changes nothing, costs nothing and teaches nothing."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders import IMAGE_ENCODERS
from mmtrain.models.encoders.frames import FrameEncoder
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.fusion.attention import AttentionFusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.only import OnlyFusionConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.models.outputs import Outputs

SHAPE = (3, 16, 16)
LENGTHS = (3, 1, 2, 4)
# the smallest torchvision model with batch normalization
SMALL = {"cnn": {"hidden": (4, 6)}, "torchvision": {"model": "shufflenet_v2_x0_5"}}
KINDS = {row.model_fields["name"].default: row for row in IMAGE_ENCODERS}
CASES = [*((name, {}) for name in KINDS), ("torchvision", {"frozen": True})]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join((case[0], *case[1])))
def built(request: pytest.FixtureRequest) -> MultimodalModel:
    name, more = request.param
    config = ModelConfig(
        dim=8,
        sequences={"audio": LinearEncoderConfig()},
        images={"image": KINDS[name](**SMALL[name], **more)},
        fusion=AttentionFusionConfig(layers=1, heads=2),
    )
    torch.manual_seed(0)
    heads = {"funny": LinearHeadConfig(), "mood": LinearHeadConfig()}
    outputs = {"funny": 1, "mood": 3}
    model = build_model(
        config, dims={"audio": 5}, frames={"image": SHAPE}, outputs=outputs, heads=heads, scalar_tasks=["funny"]
    )
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for momentum in (1.0, 0.1):  # running statistics that are not those of the first day
        model.train()
        for norm in norms:
            norm.momentum, norm.training = momentum, True  # also of what is frozen, else the frames hardly show
        model(padded(real_frames()))
    return model


@pytest.fixture
def model(built: MultimodalModel) -> MultimodalModel:
    built.zero_grad(set_to_none=True)
    return built.eval()


def real_frames(*, without: tuple[int, ...] = ()) -> list[Tensor]:
    """Pixels of four samples; the samples `without` have none."""
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8) for count in LENGTHS]
    return [pixels[:0] if sample in without else pixels for sample, pixels in enumerate(drawn)]


def padded(frames: list[Tensor], *, more: int = 0, junk: int = 0) -> dict[str, MaskedSequence]:
    """A batch with `more` frames than it needs, and junk under the mask."""
    longest = max(1, *map(len, frames)) + more
    values = torch.full((len(frames), longest, *SHAPE), junk, dtype=torch.uint8)
    mask = torch.zeros(len(frames), longest, dtype=torch.bool)
    for number, own in enumerate(frames):
        values[number, : len(own)], mask[number, : len(own)] = own, True
    audio = torch.linspace(-1, 1, 10).view(1, 2, 5).expand(len(frames), 2, 5)
    return {
        "image": MaskedSequence(values, mask),
        "audio": MaskedSequence(audio, torch.ones(len(frames), 2, dtype=torch.bool)),
    }


def flat(outputs: Outputs) -> Tensor:
    logits = [value if value.dim() == 2 else value[:, None] for value in outputs.logits.values()]
    return torch.cat([*logits, outputs.joint, *outputs.per_modality.values()], dim=1)


def gradients(model: MultimodalModel, batch: Mapping[str, MaskedSequence]) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    flat(model(batch)).square().sum().backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def trained(model: MultimodalModel) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


def test_every_row_is_tried() -> None:
    assert set(SMALL) == set(KINDS) == {name for name, _ in CASES}


@torch.no_grad
def test_more_padding_is_invisible(model: MultimodalModel) -> None:
    expected = flat(model(padded(real_frames())))
    for junk in (0, 7, 255):
        torch.testing.assert_close(flat(model(padded(real_frames(), more=3, junk=junk))), expected, atol=1e-5, rtol=0)


@torch.no_grad
def test_companions_and_order_are_invisible(model: MultimodalModel) -> None:
    frames = real_frames(without=(1,))
    expected = flat(model(padded(frames)))
    torch.testing.assert_close(flat(model(padded(frames[::-1]))).flip(0), expected, atol=1e-5, rtol=0)
    alone = torch.cat([flat(model(padded([own]))) for own in frames])
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)


@torch.no_grad
def test_real_frames_are_visible(model: MultimodalModel) -> None:
    expected = flat(model(padded(real_frames())))
    frames = real_frames()
    frames[2][1] = 255 - frames[2][1]
    change = (flat(model(padded(frames))) - expected).abs().amax(dim=1)
    assert change[2] > 1e-4
    assert change[[0, 1, 3]].max() < 1e-5


@pytest.mark.parametrize("samples", [(1,), (0, 2), (0, 1, 2, 3)])
def test_a_missing_image_is_as_frames_masked_out(model: MultimodalModel, samples: tuple[int, ...]) -> None:
    missing = padded(real_frames(without=samples))
    masked_out = padded(real_frames(), junk=9)
    masked_out["image"].mask[list(samples)] = False
    expected = model(missing)
    torch.testing.assert_close(flat(model(masked_out)), flat(expected), atol=1e-5, rtol=0)
    assert flat(expected).isfinite().all()
    assert not expected.per_modality["image"][list(samples)].any()
    model.train()
    for batch in (missing, masked_out):
        slopes = gradients(model, batch)
        assert slopes.keys() == trained(model)  # several processes wait for every gradient, also of what a slice lacks
        assert all(slope.isfinite().all() for slope in slopes.values())


def test_without_a_frame_the_encoder_learns_nothing_and_its_statistics_stand_still(model: MultimodalModel) -> None:
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    slopes = gradients(model.train(), padded(real_frames(without=(0, 1, 2, 3))))
    of_images = {name for name in slopes if name.startswith("images.")}
    assert of_images
    assert not any(slopes[name].any() for name in of_images)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_every_trained_parameter_has_a_gradient(model: MultimodalModel) -> None:
    outputs = model.train()(padded(real_frames()))
    sum(value.square().sum() for value in outputs.logits.values()).backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == trained(model)


def test_what_is_frozen_stands_still_and_nothing_else(model: MultimodalModel) -> None:
    (encoder,) = (module for module in model.modules() if isinstance(module, FrameEncoder))
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    gradients(model.train(), padded(real_frames()))
    optimizer.step()
    changed = {name for name, value in encoder.backbone.state_dict().items() if not torch.equal(value, before[name])}
    counted = {name for name in before if name.endswith("num_batches_tracked")}
    assert counted
    assert changed == set() if encoder.is_frozen else changed >= counted
    assert encoder.backbone.training != encoder.is_frozen


@pytest.mark.parametrize(
    "kind", [pytest.param(row, id=name, marks=[] if name == "cnn" else pytest.mark.slow) for name, row in KINDS.items()]
)
def test_image_encoder_learns_sixteen_samples_by_heart(kind) -> None:
    torch.manual_seed(0)
    name = kind.model_fields["name"].default
    config = ModelConfig(dim=16, images={"image": kind(**SMALL[name] | ({"hidden": (16,)} if name == "cnn" else {}))})
    config = config.model_copy(update={"fusion": ConcatFusionConfig(dropout=0)})
    heads = {"mood": LinearHeadConfig(dropout=0)}
    model = build_model(config, dims={}, frames={"image": SHAPE}, outputs={"mood": 4}, heads=heads, scalar_tasks=[])
    tints = torch.randint(0, 160, (16, 1, 3, 1, 1))
    pixels = (tints + torch.randint(0, 96, (16, 1, *SHAPE))).to(torch.uint8)
    inputs = {"image": MaskedSequence(pixels, torch.ones(16, 1, dtype=torch.bool))}
    target = torch.randint(0, 4, (16,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model.train()(inputs).logits["mood"], target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_only_the_image_may_be_read() -> None:
    config = ModelConfig(
        dim=8,
        sequences={"audio": LinearEncoderConfig()},
        images={"image": KINDS["cnn"](hidden=(4,))},
        fusion=OnlyFusionConfig(modality="image"),
        modality_dropout={"image": 0.5},
    )
    heads = {"funny": LinearHeadConfig()}
    model = build_model(
        config, dims={"audio": 5}, frames={"image": SHAPE}, outputs={"funny": 1}, heads=heads, scalar_tasks=[]
    )
    assert (len(model.images), len(model.sequences)) == (1, 0)
    assert model.train()(padded(real_frames())).logits["funny"].shape == (4, 1)
