"""The text encoder: what is trained and what is not, the families it reads, and what it says of a wrong path."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.hub import position_limit
from mmtrain.models.encoders.text import TransformersTextConfig

IDS = torch.tensor([[2, 9, 12, 7, 3], [2, 8, 3, 0, 0], [0, 0, 0, 0, 0]])
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [False] * 5])
SIZES = {"vocab_size": 60, "max_position_embeddings": 24, "pad_token_id": 1}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}


def build(path: Path, **settings: object) -> nn.Module:
    torch.manual_seed(1)
    return TransformersTextConfig(path=str(path), **{"max_tokens": 16, **settings}).build(dim=8)


def run(module: nn.Module) -> Tensor:
    return module(MaskedSequence(IDS, MASK)).values


def folder_of(tmp_path: Path, family: str) -> Path:
    sizes = SIZES | (DISTILBERT if family == "distilbert" else BERT)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **sizes}))
    return tmp_path


def test_all_is_trained_and_nothing_is_idle(tiny_bert: Path) -> None:
    module = build(tiny_bert)
    run(module.train()).sum().backward()
    assert [name for name, value in module.named_parameters() if value.grad is None or not value.grad.isfinite().all()] == []
    assert module.encoder.pooler is None


def test_frozen_encoder_keeps_its_weights_still_and_its_dropout_off(tiny_bert: Path) -> None:
    module = build(tiny_bert, trainable_layers=0).train()
    assert module.training
    assert not any(part.training for part in module.encoder.modules())
    torch.testing.assert_close(run(module), run(module), atol=0, rtol=0)
    run(module).sum().backward()
    trained = [name for name, value in module.named_parameters() if value.requires_grad]
    assert trained == ["projection.weight", "projection.bias"]
    assert all(value.grad is None for value in module.encoder.parameters())


def test_only_the_top_layers_are_trained(tiny_bert: Path) -> None:
    module = build(tiny_bert, trainable_layers=1).train()
    needs_grad = {}
    for name, part in module.encoder.named_modules():
        if name in ("embeddings", "encoder.layer.0", "encoder.layer.1"):
            part.register_forward_hook(lambda _, __, output, name=name: needs_grad.update({name: output.requires_grad}))
    run(module).sum().backward()
    assert needs_grad == {"embeddings": False, "encoder.layer.0": False, "encoder.layer.1": True}
    for name, value in module.encoder.named_parameters():
        assert value.requires_grad == (value.grad is not None) == name.startswith("encoder.layer.1."), name


def test_random_weights_read_none(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_bert / "config.json").read_text())
    one, other = build(tmp_path, weights="random").eval(), build(tiny_bert).eval()
    assert (run(one) - run(other)).abs().max() > 1e-3


def test_without_projection_rows_are_the_encoders_own(tiny_bert: Path) -> None:
    module = TransformersTextConfig(path=str(tiny_bert), max_tokens=16, projection=False).build(dim=32).eval()
    hidden = module.encoder(input_ids=IDS[1:2, :3]).last_hidden_state
    torch.testing.assert_close(run(module)[1:2, :3], hidden, atol=1e-5, rtol=0)
    assert not run(module)[1, 3:].any()
    assert [name for name, _ in module.named_parameters() if not name.startswith("encoder.")] == []


def test_dropout_is_set_everywhere(tiny_bert: Path) -> None:
    module = build(tiny_bert, dropout=0.0).train()
    torch.testing.assert_close(run(module), run(module), atol=0, rtol=0)
    assert {part.p for part in module.encoder.modules() if isinstance(part, nn.Dropout)} == {0.0}


@pytest.mark.parametrize("layers", [None, 0, 1])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "electra"])
def test_families(tmp_path: Path, family: str, layers: int | None) -> None:
    module = build(folder_of(tmp_path, family), weights="random", trainable_layers=layers).eval()
    assert position_limit(module.encoder) == (22 if family in ("roberta", "mpnet") else 24)
    rows = run(module)
    alone = module(MaskedSequence(IDS[1:2, :3], MASK[1:2, :3])).values
    torch.testing.assert_close(rows[1:2, :3], alone, atol=1e-5, rtol=0)
    assert not rows[2].any()
    run(module.train()).square().sum().backward()
    gradients = [value.grad for value in module.parameters() if value.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_the_limit_is_reached_exactly(tmp_path: Path) -> None:
    module = build(folder_of(tmp_path, "roberta"), weights="random", max_tokens=22).eval()
    full = MaskedSequence(torch.full((1, 22), 5), torch.ones(1, 22, dtype=torch.bool))
    assert module(full).values.isfinite().all()


def test_tokenizer_cuts_at_the_stated_side(tiny_bert: Path) -> None:
    config = TransformersTextConfig(path=str(tiny_bert), max_tokens=4, truncation_side="left")
    tokenizer = config.build_tokenizer()
    known = tokenizer.tokenizer.convert_tokens_to_ids
    assert tokenizer(["a fish is funny", ""]) == [known(["[CLS]", "is", "funny", "[SEP]"]), []]
    assert (tokenizer.num_texts, tokenizer.num_truncated) == (1, 1)


def test_loading_is_silent_and_restores_the_librarys_voice(
    tiny_bert: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.utils import logging as voice

    before = voice.get_verbosity(), voice.is_progress_bar_enabled()
    with caplog.at_level(logging.INFO):
        build(tiny_bert)
    assert (voice.get_verbosity(), voice.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_errors_say_what_was_found(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config.json in it \(found: nothing\)"):
        build(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"not a Hugging Face model: .* \(found: a.csv, b.csv\)"):
        build(tmp_path)
    with pytest.raises(ConfigError, match=r"a.csv is a file; write the folder"):
        build(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match=r"config of 'no-such-model-here' cannot be loaded"):
        build(Path("no-such-model-here"))
    with pytest.raises(ConfigError, match=r"text.max_tokens is 65, but '.*' reads at most 64 tokens"):
        build(tiny_bert, max_tokens=65)
    with pytest.raises(ConfigError, match=r"text.trainable_layers is 3, but this bert encoder has 2 layers"):
        build(tiny_bert, trainable_layers=3)
    with pytest.raises(ConfigError, match=r"false, but rows of '.*' are 32 wide and model.dim is 8; write model.dim: 32"):
        build(tiny_bert, projection=False)


def test_errors_of_foreign_models(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{ not json")
    with pytest.raises(ConfigError, match=r"config of .* cannot be loaded"):
        build(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ConfigError, match="is a clip model, not a text encoder"):
        build(tmp_path, weights="random")
    (tmp_path / "config.json").write_text('{"model_type": "t5", "d_model": 16}')
    with pytest.raises(ConfigError, match="is a t5 model, not a text encoder"):
        build(tmp_path, weights="random")
    with pytest.raises(ConfigError, match="albert encoders have no separate layers; write null or 0"):
        build(folder_of(tmp_path, "albert"), weights="random", trainable_layers=1)
    with pytest.raises(ConfigError, match=r"weights of .* cannot be loaded"):
        build(folder_of(tmp_path, "bert"))
    (tmp_path / "model.safetensors").write_bytes((tiny_bert / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"not those of the distilbert encoder .* \d+ tensors are missing or .* \(first: "):
        build(folder_of(tmp_path, "distilbert"))


def test_tokenizer_of_another_encoder_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    for file in tiny_bert.glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    folder_of(tmp_path, "bert")
    with pytest.raises(ConfigError, match=r"tokenizer of .* has \d+ tokens, its encoder knows 60"):
        TransformersTextConfig(path=str(tmp_path)).build_tokenizer()


def test_a_mistyped_folder_is_not_asked_of_a_hub(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder .*nothing; write the folder of a model"):
        TransformersTextConfig(path=str(tmp_path / "nothing")).build(dim=4)
