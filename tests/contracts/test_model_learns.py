"""Every encoder, fusion, pooling and head can learn 16 samples by heart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders import SEQUENCE_ENCODERS, TEXT_ENCODERS
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.fusion.bottleneck import BottleneckFusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.only import OnlyFusionConfig
from mmtrain.models.fusion.pair_cosine import PairCosineFusionConfig
from mmtrain.models.heads import HEADS
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.heads.scale import ScaleHeadConfig
from mmtrain.models.model import ModelConfig, build_model
from mmtrain.models.pooling import POOLINGS
from mmtrain.models.pooling.attention import AttentionPoolingConfig
from mmtrain.section import Section

SMALL: dict[str, Any] = {"heads": 2, "layers": 1, "hidden": 16}


def small(kind: type[Section]) -> Section:
    """A row with few layers and no dropout, as far as it has such fields."""
    settings: dict[str, Any] = {name: 0.0 for name in kind.model_fields if "dropout" in name}
    for name in SMALL.keys() & kind.model_fields.keys():
        default = kind.model_fields[name].default
        settings[name] = (SMALL[name],) if isinstance(default, Sequence) else SMALL[name]
    if kind is BottleneckFusionConfig:
        settings["layers"] = 2  # what one layer collects is read in the next
    if kind is OnlyFusionConfig:
        settings["modality"] = "audio"
    return kind(**settings)


def learn(config: ModelConfig, head: Section, *, steps: int, lr: float, classes: int = 4) -> float:
    """Mean cross-entropy on 16 samples with random labels of 4 classes, or of yes and no (1), after `steps` of AdamW."""
    torch.manual_seed(0)
    scalar = ["mood"] if classes == 1 else []
    heads = {"mood": head}
    model = build_model(config, dims={"audio": 6, "video": 5}, outputs={"mood": classes}, heads=heads, scalar_tasks=scalar)
    mask = torch.arange(5) < torch.randint(1, 6, (16, 1))
    inputs = {
        "text": MaskedSequence(torch.randint(5, 40, (16, 5)), mask),
        "audio": MaskedSequence(torch.randn(16, 5, 6), mask),
        "video": MaskedSequence(torch.randn(16, 5, 5), mask.flip(0)),
    }
    target, labelled = torch.randint(0, max(classes, 2), (16,)), {"mood": torch.ones(16, dtype=torch.bool)}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = model.train()(inputs, labelled)
        logits = outputs.logits["mood"]
        loss = F.binary_cross_entropy_with_logits(logits, target.float()) if scalar else F.cross_entropy(logits, target)
        (loss + sum(outputs.aux.values())).backward()
        optimizer.step()
    return loss.item()


def label(kind: type[Section]) -> str:
    return kind.model_fields["name"].default


@pytest.mark.parametrize("kind", SEQUENCE_ENCODERS, ids=label)
def test_sequence_encoder_learns(kind: type[Section]) -> None:
    config = ModelConfig(dim=16, sequences={"audio": small(kind)}, fusion=small(ConcatFusionConfig))
    assert learn(config, small(LinearHeadConfig), steps=150, lr=1e-2) < 0.1


@pytest.mark.parametrize("kind", TEXT_ENCODERS, ids=label)
def test_text_encoder_learns(kind: type[Section], tiny_bert: Path) -> None:
    text = kind(path=str(tiny_bert), weights="random", max_tokens=8, dropout=0.0)
    config = ModelConfig(dim=16, text=text, fusion=small(ConcatFusionConfig))
    assert learn(config, small(LinearHeadConfig), steps=100, lr=3e-3) < 0.1


QUICK = ("concat", "attention", "gated")  # of the fusions; the rest is in the slow suite


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=label(kind), marks=[] if label(kind) in QUICK else pytest.mark.slow) for kind in FUSIONS]
)
def test_fusion_learns(kind: type[Section], tiny_bert: Path) -> None:
    sequences = {"audio": LinearEncoderConfig(), "video": LinearEncoderConfig()}
    text = TEXT_ENCODERS[0](path=str(tiny_bert), weights="random", max_tokens=8, trainable_layers=0)
    if label(kind).startswith("pair"):
        text = None  # these take two modalities
    config = ModelConfig(dim=16, text=text, sequences=sequences, fusion=small(kind), pooling=AttentionPoolingConfig())
    if kind is PairCosineFusionConfig:  # one number tells two classes apart
        assert learn(config, ScaleHeadConfig(), steps=150, lr=2e-2, classes=1) < 0.1
    else:
        assert learn(config, small(LinearHeadConfig), steps=150, lr=1e-2) < 0.1


@pytest.mark.parametrize("kind", POOLINGS, ids=label)
def test_pooling_learns(kind: type[Section]) -> None:
    config = ModelConfig(
        dim=16, sequences={"audio": LinearEncoderConfig()}, fusion=small(ConcatFusionConfig), pooling=kind()
    )
    assert learn(config, small(LinearHeadConfig), steps=150, lr=2e-2) < 0.1


HEADS_OF_CLASSES = [small(kind) for kind in HEADS if kind is not ScaleHeadConfig]  # that one is met with its fusion


@pytest.mark.parametrize("head", [*HEADS_OF_CLASSES, MlpHeadConfig(hidden=(16,), dropout=0, batch_norm=True)])
def test_head_learns(head: Section) -> None:
    config = ModelConfig(dim=16, sequences={"audio": LinearEncoderConfig()}, fusion=small(ConcatFusionConfig))
    assert learn(config, head, steps=150, lr=2e-2) < 0.1
