"""What a fusion says to modalities and sizes that it cannot join, and which encoders a model builds for it."""

import pytest
import torch
from pydantic import ValidationError

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.fusion.cross_attention import CrossAttentionFusionConfig
from mmtrain.models.fusion.misa import MisaFusionConfig
from mmtrain.models.fusion.tensor import TensorFusionConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import ModelConfig, build_model
from mmtrain.models.pooling.mean import MeanPoolingConfig

WIDTHS = {"audio": 3, "video": 2}
AUDIO, VIDEO = {"audio": {"name": "linear"}}, {"video": {"name": "linear"}}


@pytest.mark.parametrize(
    ("fusion", "read", "message"),
    [
        (
            {"name": "bilinear"},
            AUDIO,
            "joins pairs of modalities, the model reads only audio; add a modality, or write .* concat",
        ),
        ({"name": "cross_attention"}, AUDIO, "needs two modalities, the model reads only audio; add a .* fusion attention"),
        ({"name": "misa"}, AUDIO, "what modalities share, the model reads only audio; add a modality, or write .* concat"),
        (
            {"name": "mag"},
            AUDIO | VIDEO,
            "shifts text .*, the model reads audio, video; give model.text an encoder, or write",
        ),
        ({"name": "only", "modality": "face"}, AUDIO | VIDEO, "'face' is not read by the model; write one of audio, video"),
        (
            {"name": "tensor", "width": 600},
            AUDIO | VIDEO,
            r"fusion.width 600: the product of 2 modalities has \(width \+ 1\)\^2 = 361,201 features, the most is 200,000; "
            "write fusion.width 446 or less, or the fusion low_rank",
        ),
    ],
)
def test_what_does_not_fit_is_said_when_the_config_is_read(fusion, read, message) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(sequences=read, fusion=fusion)


def test_mag_needs_something_beside_the_text() -> None:
    with pytest.raises(
        ValidationError, match=r"the model reads text alone; name one under model.sequences, or write the fusion"
    ):
        ModelConfig(text={"path": "anywhere"}, fusion={"name": "mag"})


def test_tensor_takes_what_its_message_offers() -> None:
    TensorFusionConfig(width=446).check(("audio", "video"))
    with pytest.raises(ConfigError, match="write the fusion low_rank"):
        TensorFusionConfig(width=1).check([str(number) for number in range(18)])


def test_a_dim_that_the_heads_do_not_divide_is_refused() -> None:
    config = CrossAttentionFusionConfig(heads=4)
    with pytest.raises(ConfigError, match="dim 6 is not a multiple of heads 4; heads that fit: 1, 2, 3, 6"):
        config.build(modalities=("audio", "video"), dim=6, pooling=MeanPoolingConfig())


def test_only_builds_no_encoder_that_nothing_would_train() -> None:
    config = ModelConfig(dim=4, sequences=AUDIO | VIDEO, fusion={"name": "only", "modality": "video"})
    heads = {"funny": LinearHeadConfig()}
    model = build_model(config, dims=WIDTHS, outputs={"funny": 1}, heads=heads, scalar_tasks=[])
    assert list(model.sequences) == ["video_encoder"]
    inputs = {
        name: MaskedSequence(torch.randn(2, 3, dim), torch.ones(2, 3, dtype=torch.bool)) for name, dim in WIDTHS.items()
    }
    outputs = model(inputs)
    assert list(outputs.per_modality) == ["video"]
    outputs.logits["funny"].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", FUSIONS, ids=lambda kind: kind.model_fields["name"].default)
def test_half_precision(kind, half: torch.dtype) -> None:
    """Under autocast, modalities of two precisions, one of them missing somewhere; batch terms stay in full precision."""
    modalities = ("audio", "a.b") if "pair" in kind.__name__.lower() else ("text", "audio", "a.b")
    config = kind(modality="a.b") if "modality" in kind.model_fields else kind()
    fusion = config.build(modalities=modalities, dim=8, pooling=MeanPoolingConfig())
    torch.manual_seed(0)
    inputs = {name: MaskedSequence(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)) for name in modalities}
    inputs["a.b"] = MaskedSequence(inputs["a.b"].values.to(half), inputs["a.b"].mask)
    inputs["audio"] = MaskedSequence(inputs["audio"].values, torch.tensor([[True] * 3, [False] * 3]))
    inputs["audio"].values.requires_grad_()  # a few fusions have no parameters
    with torch.autocast("cpu", half):
        fused = fusion(inputs)
        (fused.joint.float().square().sum() + sum(fused.aux.values())).backward()
    assert all(parameter.grad.isfinite().all() for parameter in fusion.parameters())
    assert fused.joint.shape == (2, fusion.joint_dim)
    assert fused.joint.isfinite().all()
    assert {name: tuple(rows.shape) for name, rows in fused.per_modality.items()} == dict.fromkeys(fusion.modalities, (2, 8))
    assert list(fused.aux) == list(getattr(fusion, "batch_terms", ()))
    assert {term.dtype for term in fused.aux.values()} <= {torch.float32}


def test_misa_terms_of_a_batch_that_lacks_a_modality_are_those_of_the_others() -> None:
    torch.manual_seed(0)
    fusion = MisaFusionConfig().build(modalities=("audio", "video"), dim=4, pooling=MeanPoolingConfig()).eval()
    audio = MaskedSequence(torch.randn(5, 3, 4, requires_grad=True), torch.ones(5, 3, dtype=torch.bool))
    video = MaskedSequence(torch.full((5, 2, 4), float("nan")), torch.zeros(5, 2, dtype=torch.bool))
    aux = fusion({"audio": audio, "video": video}).aux
    assert aux["similarity"].item() == 0  # no two distributions
    assert aux["difference"].item() > 0
    assert aux["reconstruction"].item() > 0
    sum(aux.values()).backward()
    assert audio.values.grad.isfinite().all()
    assert audio.values.grad.any()
