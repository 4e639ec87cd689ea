"""Texts without padding between them: the states and gradients of the padded pass, in every family that can."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders.packed import FAMILIES
from mmtrain.models.encoders.text import TransformersTextConfig

IDS = torch.tensor([[2, 9, 12, 7, 3, 8, 4], [2, 8, 3, 0, 0, 0, 0], [0] * 7, [2, 1, 5, 9, 3, 1, 1], [2] + [0] * 6])
MASK = torch.tensor(
    [[True] * 7, [True] * 3 + [False] * 4, [False] * 7, [True, True, False, True, True, False, False], [True] + [False] * 6]
)  # of all tokens, some, none, some with a hole, one


def build(folder: Path, family: str = "bert", **settings: object) -> nn.Module:
    sizes = {"vocab_size": 60, "max_position_embeddings": 24, "pad_token_id": 1, "num_attention_heads": 2}
    sizes |= {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps({"model_type": family, **sizes}))
    torch.manual_seed(1)
    config = TransformersTextConfig(path=str(folder), weights="random", max_tokens=16, **settings)
    module = config.build(dim=8)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.5)  # so that positions and attention tell
    return module


def run(module: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    module.zero_grad()
    torch.manual_seed(5)
    rows = module(MaskedSequence(IDS, MASK)).values
    rows.square().sum().backward()
    return rows.detach(), {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_states_and_gradients_are_those_of_the_padded_pass(tmp_path: Path, family: str) -> None:
    module = build(tmp_path, family, dropout=0.0).double().train()
    assert module.packs
    rows, gradients = run(module)
    module.packs = False
    padded_rows, padded_gradients = run(module)
    torch.testing.assert_close(rows, padded_rows, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(gradients, padded_gradients, atol=1e-9, rtol=1e-9)


def test_the_encoder_sees_real_tokens_alone(tmp_path: Path) -> None:
    module, seen = build(tmp_path), []
    module.encoder.register_forward_pre_hook(lambda _, __, named: seen.append(named), with_kwargs=True)
    run(module)
    assert seen[0]["input_ids"].tolist() == [[2, 9, 12, 7, 3, 8, 4, 2, 8, 3, 1, 2, 1, 9, 3, 2]]  # the first 1 is of no text
    assert seen[0]["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 0, 0, 1, 3, 4, 0]]
    assert seen[0]["lengths"] == [7, 3, 1, 4, 1]


def test_layers_computed_again_are_packed_as_well(tmp_path: Path) -> None:
    plain, checkpointed = build(tmp_path).train(), build(tmp_path, gradient_checkpointing=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    torch.testing.assert_close(run(checkpointed), run(plain), atol=1e-6, rtol=1e-5)


def test_attention_weights_are_dropped_in_training_alone(tmp_path: Path) -> None:
    module = build(tmp_path, dropout=0.0).train()
    before, _ = run(module)
    for layer in module.encoder.encoder.layer:
        layer.attention.self.dropout.p = 0.5
    after, _ = run(module)
    assert (after - before)[MASK].abs().max() > 1e-3
    torch.testing.assert_close(run(module.eval())[0], before, atol=1e-6, rtol=1e-5)


def test_other_families_are_left_as_they_are(tmp_path: Path) -> None:
    module = build(tmp_path, "mpnet")
    assert not module.packs
    assert module.encoder.config._attn_implementation != "mmtrain_packed"


def test_autocast(tmp_path: Path) -> None:
    module = build(tmp_path).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows, gradients = run(module)
    assert rows.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
