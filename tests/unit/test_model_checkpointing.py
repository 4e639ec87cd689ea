"""Gradient checkpointing: the same gradients, fewer tensors kept; and an encoder of 4096 tokens that trains with it."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.block import CrossBlock, TransformerBlock
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.text import TransformersTextConfig
from mmtrain.models.heads.linear import LinearHeadConfig

IDS = torch.tensor([[2, 9, 12, 7, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
ROWS = torch.linspace(-1, 1, 2 * 5 * 3).reshape(2, 5, 3)


def model(path: Path, *, twice: bool, dropout: float, layers: int | None = None, fusion: str = "attention") -> nn.Module:
    """A text encoder, a transformer over rows, and a fusion of transformer blocks; the same weights for either."""
    torch.manual_seed(1)
    text = {"name": "transformers", "path": str(path), "max_tokens": 16, "dropout": dropout, "trainable_layers": layers}
    config = ModelConfig.model_validate(
        {
            "dim": 8,
            "text": text | {"gradient_checkpointing": twice},
            "sequences": {"audio": {"name": "transformer", "heads": 2, "dropout": dropout}},
            "fusion": {"name": fusion, "heads": 2, "dropout": dropout},
            "gradient_checkpointing": twice,
        }
    )
    return build_model(
        config, dims={"audio": 3}, outputs={"funny": 1}, heads={"funny": LinearHeadConfig()}, scalar_tasks=["funny"]
    ).train()


def gradients(module: nn.Module) -> tuple[dict[str, Tensor], int]:
    """Of a loss on one batch, and how many numbers were kept for the backward pass."""
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    torch.manual_seed(7)
    inputs = {"text": MaskedSequence(IDS, MASK), "audio": MaskedSequence(ROWS, MASK)}
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = module(inputs).logits["funny"].square().sum()
    count = sum(kept)
    loss.backward()
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}, count


@pytest.mark.parametrize("fusion", ["attention", "early_concat", "cross_attention", "bottleneck", "perceiver"])
@pytest.mark.parametrize("layers", [None, 1])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_the_same_and_less_is_kept(tiny_bert: Path, dropout: float, layers: int | None, fusion: str) -> None:
    """With dropout on exactly so: the second computation draws what the first one drew."""
    once, kept_once = gradients(model(tiny_bert, twice=False, dropout=dropout, layers=layers, fusion=fusion))
    twice, kept_twice = gradients(model(tiny_bert, twice=True, dropout=dropout, layers=layers, fusion=fusion))
    assert once.keys() == twice.keys()
    for name, value in once.items():
        torch.testing.assert_close(twice[name], value, rtol=0, atol=0, msg=name)
    assert kept_twice < kept_once / 2


def test_it_is_dropout_that_is_drawn_again(tiny_bert: Path) -> None:
    """A control: another seed gives other gradients, so the equality above is not that of a dropout left out."""
    module = model(tiny_bert, twice=True, dropout=0.3)
    once, _ = gradients(module)
    first = {name: value.clone() for name, value in once.items()}
    module.zero_grad(set_to_none=True)
    with pytest.MonkeyPatch.context() as patch:
        seed = torch.manual_seed
        patch.setattr(torch, "manual_seed", lambda _: seed(8))
        other, _ = gradients(module)
    assert any((first[name] - other[name]).abs().max() > 1e-6 for name in first)


@pytest.mark.parametrize("fusion", ["attention", "cross_attention", "perceiver"])
def test_a_block_keeps_its_inputs_alone(tiny_bert: Path, fusion: str) -> None:
    """Also one that reads other rows: nothing that a block computes inside is kept."""
    inside: list[int] = []

    def count(block: nn.Module) -> int:
        inside.clear()
        rows, context = torch.randn(2, 5, 8, requires_grad=True), MaskedSequence(torch.randn(2, 5, 8), MASK)
        with saved_tensors_hooks(lambda tensor: inside.append(tensor.numel()) or tensor, lambda tensor: tensor):
            block(rows, context if isinstance(block, CrossBlock) else MASK)
        return sum(inside)

    plain, both = (model(tiny_bert, twice=twice, dropout=0.0, fusion=fusion) for twice in (False, True))
    blocks = [
        (one, other)
        for one, other in zip(plain.fusion.modules(), both.fusion.modules(), strict=True)
        if isinstance(one, TransformerBlock | CrossBlock)
    ]
    assert blocks
    assert {type(one) for one, _ in blocks} >= ({CrossBlock} if fusion != "attention" else {TransformerBlock})
    assert all(count(other) < count(one) / 4 for one, other in blocks)


def test_each_switch_is_its_own(tiny_bert: Path) -> None:
    plain, both = model(tiny_bert, twice=False, dropout=0.0), model(tiny_bert, twice=True, dropout=0.0)
    for module, expected in ((plain, False), (both, True)):
        blocks = [part for part in module.modules() if isinstance(part, TransformerBlock)]
        assert [block.is_checkpointed for block in blocks] == [expected] * 4
        layers = module.text.encoder.encoder.layer
        assert [layer.gradient_checkpointing for layer in layers] == [expected] * 2
    with torch.no_grad():
        inputs = {"text": MaskedSequence(IDS, MASK), "audio": MaskedSequence(ROWS, MASK)}
        torch.testing.assert_close(both.eval()(inputs).joint, plain.eval()(inputs).joint, rtol=0, atol=0)


def test_an_encoder_that_cannot(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertModel

    monkeypatch.setattr(BertModel, "supports_gradient_checkpointing", False)
    with pytest.raises(ConfigError, match=r"bert encoders such as '.*' do not support it; write false"):
        TransformersTextConfig(path=str(tiny_bert), max_tokens=16, gradient_checkpointing=True).build(dim=8)


@pytest.fixture
def longformer(tmp_path: Path) -> TransformersTextConfig:
    """A random one of 2 layers, 4096 tokens, windows of 64."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"vocab_size": 60, "max_position_embeddings": 4098, "pad_token_id": 1, "attention_window": [64, 64]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "longformer", **sizes}))
    return TransformersTextConfig(path=str(tmp_path), weights="random", max_tokens=4096, gradient_checkpointing=True)


def test_4096_tokens_train_with_checkpointing(longformer: TransformersTextConfig) -> None:
    torch.manual_seed(0)
    module = longformer.build(dim=8).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    ids = torch.randint(2, 60, (1, 4096))
    before = [value.detach().clone() for value in module.parameters() if value.requires_grad]
    module(MaskedSequence(ids, torch.ones(1, 4096, dtype=torch.bool))).values.square().sum().backward()
    gradients = [value.grad for value in module.parameters() if value.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    optimizer.step()
    after = [value for value in module.parameters() if value.requires_grad]
    assert any((one - other).abs().max() > 1e-5 for one, other in zip(before, after, strict=True))


def test_the_first_token_sees_all(longformer: TransformersTextConfig) -> None:
    """Two layers of windows of 64 reach 64 tokens to either side: what token 1000 says gets to others by the first alone."""
    torch.manual_seed(0)
    module = longformer.build(dim=8).double().eval()  # what is passed on is small
    mask = torch.ones(1, 1024, dtype=torch.bool)
    ids = torch.full((1, 1024), 5)
    other = ids.clone()
    other[0, 1000] = 9
    with torch.no_grad():
        change = (module(MaskedSequence(ids, mask)).values - module(MaskedSequence(other, mask)).values).abs().amax(2)[0]
    assert change[0] > 1e-6
    assert change[500] > 1e-12  # in the second layer, from the first token


def test_padding_of_a_long_text_is_invisible(longformer: TransformersTextConfig) -> None:
    torch.manual_seed(0)
    module = longformer.build(dim=8).eval()
    ids, mask = torch.full((2, 300), 5), torch.ones(2, 300, dtype=torch.bool)
    mask[1, 90:] = False
    with torch.no_grad():
        padded = module(MaskedSequence(ids, mask)).values[1, :90]
        alone = module(MaskedSequence(ids[1:, :90], mask[1:, :90])).values[0]
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)
