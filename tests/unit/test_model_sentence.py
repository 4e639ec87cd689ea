"""Sentence encoders and pairs of texts: means over real tokens, lengths of 1, cosines, and what a pair needs."""

import math
from pathlib import Path

import pytest
import torch

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.sentence import SentenceText, SentenceTextConfig
from mmtrain.models.fusion.pair import PairFusionConfig
from mmtrain.models.fusion.pair_cosine import PairCosineFusionConfig
from mmtrain.models.model import ModelConfig, build_model
from mmtrain.models.pooling.mean import MeanPoolingConfig

IDS = torch.tensor([[2, 9, 12, 7, 3], [2, 8, 3, 0, 0], [0, 0, 0, 0, 0]])
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [False] * 5])
HIDDEN = 32  # of the tiny encoder


def build(path: Path, *, dim: int = HIDDEN, **settings: object) -> SentenceText:
    torch.manual_seed(1)
    return SentenceTextConfig(path=str(path), max_tokens=16, **settings).build(dim=dim).eval()


@torch.no_grad
def test_a_sentence_is_the_mean_of_its_real_tokens(tiny_bert: Path) -> None:
    module = build(tiny_bert)
    found = module(MaskedSequence(IDS, MASK))
    for sample, length in enumerate((5, 3)):
        states = module.encoder(input_ids=IDS[sample : sample + 1, :length])[0][0].double()
        expected = sum(states) / length
        torch.testing.assert_close(found.values[sample, 0].double(), expected, atol=1e-5, rtol=0)
    assert not found.values[2].any()
    assert found.mask.tolist() == [[True], [True], [False]]


@torch.no_grad
def test_a_sentence_of_another_width_passes_a_linear_map(tiny_bert: Path) -> None:
    module, plain = build(tiny_bert, dim=8), build(tiny_bert)
    expected = module.projection(plain(MaskedSequence(IDS, MASK)).values[:2])
    torch.testing.assert_close(module(MaskedSequence(IDS, MASK)).values[:2], expected)


@torch.no_grad
@pytest.mark.parametrize("dim", [8, HIDDEN])
def test_a_normalized_sentence_has_length_one(tiny_bert: Path, dim: int) -> None:
    found = build(tiny_bert, dim=dim, normalize=True)(MaskedSequence(IDS, MASK)).values
    torch.testing.assert_close(found.norm(dim=2)[:, 0], torch.tensor([1.0, 1.0, 0.0]))


def rows(*vectors: list[float] | None) -> MaskedSequence:
    """One row a sample; None = missing."""
    mask = torch.tensor([[vector is not None] for vector in vectors])
    return MaskedSequence(torch.tensor([[vector or [math.nan, math.nan]] for vector in vectors]), mask)


FIRST, SECOND = rows([3.0, 4.0], [1.0, 0.0], [1.0, 1.0]), rows([4.0, 3.0], [-2.0, 0.0], None)


def test_pairs_by_hand() -> None:
    fusion = PairFusionConfig().build(modalities=("text", "second_text"), dim=2, pooling=MeanPoolingConfig()).eval()
    joint = fusion({"text": FIRST, "second_text": SECOND}).joint
    assert joint.tolist() == [[3, 4, 4, 3, 1, 1], [1, 0, -2, 0, 3, 0], [1, 1, 0, 0, 1, 1]]


def test_cosines_by_hand() -> None:
    fusion = PairCosineFusionConfig().build(modalities=("text", "second_text"), dim=2, pooling=MeanPoolingConfig())
    joint = fusion({"text": FIRST, "second_text": SECOND}).joint
    torch.testing.assert_close(joint, torch.tensor([[24 / 25], [-1.0], [0.0]]))


@pytest.mark.parametrize("name", ["pair", "pair_cosine"])
def test_a_pair_is_of_two(tiny_bert: Path, name: str) -> None:
    message = (
        f"fusion {name} compares two modalities, the model reads text; write model.second_text: true for pairs of texts"
    )
    with pytest.raises(ValueError, match=message):
        ModelConfig(text={"path": str(tiny_bert)}, fusion={"name": name})
    with pytest.raises(ConfigError, match="the model reads a, b, c"):
        PairFusionConfig().check(("a", "b", "c"))


@torch.no_grad
def test_both_texts_of_a_pair_go_through_one_encoder(tiny_bert: Path) -> None:
    text = {"name": "sentence", "path": str(tiny_bert), "max_tokens": 16}
    config = ModelConfig(dim=HIDDEN, text=text, second_text=True, fusion={"name": "pair_cosine"})
    assert config.modalities == ("text", "second_text")
    model = build_model(config, dims={}, outputs={}, heads={}, scalar_tasks=[]).eval()
    same, other = MaskedSequence(IDS[:2], MASK[:2]), MaskedSequence(IDS[[1, 0]], MASK[[1, 0]])
    torch.testing.assert_close(model({"text": same, "second_text": same}).joint, torch.ones(2, 1))
    assert (model({"text": same, "second_text": other}).joint < 0.999).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"second_text": True, "sequences": {"audio": {"name": "linear"}}},
            "`second_text` is read with the encoder of",
        ),
        ({"sequences": {"second_text": {"name": "linear"}}}, "may not hold a modality called 'second_text'"),
    ],
)
def test_a_second_text_needs_the_first(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**settings)
