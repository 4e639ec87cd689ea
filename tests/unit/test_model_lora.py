"""LoRA in the text encoder: nothing at the start, W + (alpha / rank) B A later, and nothing else of the encoder learns."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.engine.optimizers.groups import parameter_groups
from mmtrain.engine.text_layers import TextLayers
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.hub import transformer_layers
from mmtrain.models.encoders.text import TransformersText, TransformersTextConfig

IDS = torch.tensor([[2, 9, 12, 7, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def build(path: Path, lora: dict | None = None) -> TransformersText:
    torch.manual_seed(1)
    return TransformersTextConfig(path=str(path), max_tokens=16, lora=lora).build(dim=8)


def run(module: nn.Module) -> torch.Tensor:
    return module.states(MaskedSequence(IDS, MASK))


def test_adapters_begin_as_nothing_and_learn_alone(tiny_bert: Path) -> None:
    plain, adapted = build(tiny_bert).eval(), build(tiny_bert, {"rank": 2}).eval()
    torch.testing.assert_close(run(adapted), run(plain), atol=0, rtol=0)
    trained = {name for name, value in adapted.encoder.named_parameters() if value.requires_grad}
    parts = [f"encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "value")]
    assert trained == {f"{part}.lora_{side}.default.weight" for part in parts for side in "AB"}
    run(adapted.train()).square().sum().backward()
    assert {name for name, value in adapted.encoder.named_parameters() if value.grad is not None} == trained


@torch.no_grad
def test_adapters_by_hand(tiny_bert: Path) -> None:
    plain, adapted = build(tiny_bert).eval(), build(tiny_bert, {"rank": 2, "alpha": 6.0, "targets": ["value"]}).eval()
    torch.manual_seed(2)
    for layer in (0, 1):
        part = adapted.encoder.encoder.layer[layer].attention.self.value
        down, up = torch.randn(2, 32) / 8, torch.randn(32, 2) / 8
        part.lora_A["default"].weight.copy_(down)
        part.lora_B["default"].weight.copy_(up)
        plain.encoder.encoder.layer[layer].attention.self.value.weight += 3.0 * (up @ down)  # alpha / rank = 3
    torch.testing.assert_close(run(adapted), run(plain), atol=1e-5, rtol=0)
    assert (run(adapted) - run(build(tiny_bert).eval())).abs().max() > 1e-2


def test_adapters_learn_at_the_rate_of_the_text(tiny_bert: Path) -> None:
    module = build(tiny_bert, {"rank": 2})
    text = TextLayers(module.encoder, transformer_layers(module.encoder), kind="bert")
    groups = {group["name"]: group for group in parameter_groups(module, text=text, lr=1.0, text_lr=0.1, weight_decay=0.5)}
    assert set(groups) == {"text.matrices", "model.matrices", "model.others"}
    assert groups["text.matrices"]["lr"] == 0.1
    assert sum(value.numel() for value in groups["text.matrices"]["params"]) == 2 * 2 * (2 * 32 + 32 * 2)


def test_a_target_that_is_not_there_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(ConfigError, match="bert encoder has no linear layer 'q_proj'; it has dense, key, query, value"):
        build(tiny_bert, {"targets": ["q_proj"]})


def test_an_encoder_that_peft_does_not_know_needs_targets(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import model

    monkeypatch.setattr(model.LoraModel, "target_module_mapping", {})
    with pytest.raises(ConfigError, match="knows no usual layers of bert encoders; name some of dense, key, query, value"):
        build(tiny_bert, {})


def test_one_choice_of_what_is_trained() -> None:
    with pytest.raises(ValueError, match="lora: trainable_layers is 2; write null for one of them"):
        TransformersTextConfig(path="anywhere", trainable_layers=2, lora={})


def test_without_peft_it_says_what_to_install(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtrain.extras.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"LoRA needs peft, which this Python lacks: pip install 'mmtrain\[lora\]'"):
        build(tiny_bert, {})
