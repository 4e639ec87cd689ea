"""What a frozen encoder makes of texts for a cache: its own states, to the bit in one batch and to rounding in another."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from mmtrain.config import Experiment, load_experiment
from mmtrain.data.batch import MaskedSequence
from mmtrain.data.cached_block import open_block, write_block
from mmtrain.data.cached_texts import CachedTexts
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Sample
from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.cached_rows import RowMaker, encoder_fingerprint
from mmtrain.models.encoders.sentence import SentenceTextConfig
from mmtrain.models.encoders.text import HubText, TransformersTextConfig

KINDS = {"transformers": TransformersTextConfig, "sentence": SentenceTextConfig}
TEXTS = [
    "the fish is very good",
    "a king",
    "",
    "never go there",
    "dance and sing and laugh and cry",
    "red",
    " ",
    "you look sad",
]


def build(path: Path, kind: str = "transformers", **settings: object) -> tuple[HubText, Tokenizer]:
    torch.manual_seed(1)
    values = {"max_tokens": 16, "trainable_layers": 0, "dropout": 0.5, **settings}
    config = KINDS[kind](path=str(path), **values)
    return config.build(dim=8), config.build_tokenizer()


def cached(folder: Path, text: HubText, tokenizer: Tokenizer) -> CachedTexts:
    maker = RowMaker(text, tokenizer, autocast=nullcontext)
    real = [each for each in TEXTS if each.strip()]
    write_block(folder / "file", maker(real), width=maker.width, dtype=maker.dtype)
    return CachedTexts([open_block(folder / "file")], max_tokens=16, truncation_side="right", remedy="Mend it")


def batch_of(texts: list[str], reader: Tokenizer | CachedTexts) -> MaskedSequence:
    collate = Collator(dims={}, tasks={}, tokenizer=reader)
    samples = [Sample(id=str(number), index=number, text=text, features={}, labels={}) for number, text in enumerate(texts)]
    return collate(samples, [0] * len(samples)).inputs["text"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_comes_back_bit_for_bit(tiny_bert: Path, tmp_path: Path, kind: str) -> None:
    """The longest first and none blank, as the maker has them."""
    text, tokenizer = build(tiny_bert, kind)
    texts = sorted((each for each in TEXTS if each.strip()), key=lambda each: -len(tokenizer.read([each])[0][0]))
    text.train()  # a frozen encoder's dropout stays off
    expected = text(batch_of(texts, tokenizer))
    found = text(batch_of(texts, cached(tmp_path, text, tokenizer)))
    assert torch.equal(found.mask, expected.mask)
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("kind", KINDS)
def test_another_batch_differs_by_rounding(
    tiny_bert: Path, tmp_path: Path, kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    text, tokenizer = build(tiny_bert, kind, normalize=True) if kind == "sentence" else build(tiny_bert, kind)
    text.to(dtype)
    reader = cached(tmp_path, text, tokenizer)
    for texts in (TEXTS, TEXTS[::-1], *([each] for each in TEXTS)):
        expected, found = text(batch_of(texts, tokenizer)), text(batch_of(texts, reader))
        assert torch.equal(found.mask, expected.mask)
        assert found.values.dtype == dtype
        torch.testing.assert_close(found.values, expected.values, atol=tolerance, rtol=0)


def test_tokens_of_the_cache_are_those_of_the_tokenizer(tiny_bert: Path, tmp_path: Path) -> None:
    text, tokenizer = build(tiny_bert, max_tokens=5)
    reader = cached(tmp_path, text, tokenizer)
    assert torch.equal(batch_of(TEXTS, reader).mask, batch_of(TEXTS, tokenizer).mask)
    assert (reader.num_texts, reader.num_truncated) == (tokenizer.num_texts, tokenizer.num_truncated) == (6, 2)
    sentences, other = build(tiny_bert, "sentence")
    assert batch_of(TEXTS, cached(tmp_path, sentences, other)).mask[:, 0].tolist() == [bool(each.strip()) for each in TEXTS]


def test_what_lies_under_the_mask_of_cached_rows_does_not_exist(tiny_bert: Path) -> None:
    text, _ = build(tiny_bert)
    values, mask = torch.randn(2, 3, 32), torch.tensor([[True, True, False], [False] * 3])
    expected = text(MaskedSequence(values, mask)).values
    found = text(MaskedSequence(values.masked_fill(~mask[..., None], torch.nan), mask)).values
    assert torch.equal(found, expected)
    assert not found[~mask].any()
    found.sum().backward()
    assert text.projection.weight.grad.isfinite().all()


def test_the_encoder_is_not_needed_for_cached_rows(tiny_bert: Path) -> None:
    for kind in KINDS:
        text, _ = build(tiny_bert, kind)
        text.encoder.to("meta")
        rows = MaskedSequence(torch.randn(2, 1, 32), torch.ones(2, 1, dtype=torch.bool))
        text(rows).values.sum().backward()
        assert text.projection.weight.grad is not None


def test_passes_have_like_lengths_and_at_most_so_many_tokens(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtrain.models.encoders.cached_rows._TOKENS_OF_CPU", 12)
    text, tokenizer = build(tiny_bert)
    text.packs = False  # so that batches are seen as they are padded
    shapes, dones = [], []
    text.encoder.register_forward_pre_hook(
        lambda _, __, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    texts = ["red", "the fish", "the very good red fish is here very good", "sad", "a big ship"]  # 3, 4, 11, 3, 5 tokens
    found = [entry.text for entry in RowMaker(text, tokenizer, autocast=nullcontext)(texts, dones.append)]
    assert shapes == [(1, 11), (2, 5), (2, 3)]
    assert dones == [1, 3, 5]
    assert found == [texts[2], texts[4], texts[1], texts[0], texts[3]]


def test_half_precision_is_kept_without_loss(tiny_bert: Path) -> None:
    """Under autocast of the run, in float32."""
    text, tokenizer = build(tiny_bert)
    half: Callable[[], torch.autocast] = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    entry = next(RowMaker(text, tokenizer, autocast=half)(["the fish is very good"]))
    with half(), torch.no_grad():
        expected: Tensor = text.states(batch_of(["the fish is very good"], tokenizer))
    np.testing.assert_array_equal(entry.rows, expected[0].float().numpy())
    plain = next(RowMaker(text, tokenizer, autocast=nullcontext)(["the fish is very good"]))
    assert np.abs(entry.rows - plain.rows).max() > 1e-4


def test_dropout_is_off_though_nobody_said_so(tiny_bert: Path) -> None:
    """transformers gives an encoder with random weights in training mode."""
    text, tokenizer = build(tiny_bert, weights="random")
    first, second = (next(RowMaker(text, tokenizer, autocast=nullcontext)(["the fish"])).rows for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_an_encoder_is_known_by_its_weights(tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    text, _ = build(tiny_bert)
    known = encoder_fingerprint(text)
    shutil.copytree(tiny_bert, tmp_path / "copy")
    assert encoder_fingerprint(build(tmp_path / "copy", projection=True)[0]) == known
    assert encoder_fingerprint(build(tiny_bert, "sentence")[0]) != known
    assert encoder_fingerprint(build(tiny_bert, weights="random")[0]) != known
    with torch.no_grad():
        next(text.encoder.parameters())[3, 5] += 1e-6
    assert encoder_fingerprint(text) != known
    text.encoder.config.hidden_act = "relu"
    again, _ = build(tiny_bert)
    again.encoder.config.hidden_act = "relu"
    assert encoder_fingerprint(again) != known


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """What is said of an experiment over cached texts, with changes."""
    values = {
        "name": "x",
        "datasets": {"clips": {"store": "clips"}},
        "streams": {"clips": {"dataset": "clips", "tasks": ["funny", "own"]}},
        "pretext": {"own": {"name": "info_nce"}},
        "model": {
            "text": {"path": "bert", "trainable_layers": 0, "cache": True},
            "second_text": True,
            "sequences": {"audio": {"name": "linear"}},
        },
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values))

    def load(*overrides: str) -> str:
        with pytest.raises(ConfigError) as error:
            load_experiment(tmp_path / "x.yaml", list(overrides))
        return str(error.value)

    assert isinstance(load_experiment(tmp_path / "x.yaml"), Experiment)  # second texts and contrasts are none of it
    return load


WHOLE = "or write model.text.cache: false"
REFUSALS = {
    "model.text.trainable_layers=null": "model.text.cache: only what a frozen encoder makes of a text stays as it is, and "
    "trainable_layers is null (all); write trainable_layers: 0, or cache: false",
    "model.text.trainable_layers=2": "trainable_layers is 2; write trainable_layers: 0, or cache: false",
    "model.text={trainable_layers: null, lora: {rank: 4}}": "model.text.cache: lora changes what the encoder makes of a "
    "text; write cache: false, or lora: null",
    "training.unfreeze={stages: [{at: 0, layers: 1}]}": "training.unfreeze: model.text.trainable_layers is 0; write null "
    "for one of them",
    "augmentation.second_text.words={name: word_dropout, probability: 0.1}": "augmentation.second_text.words: word_dropout "
    f"changes texts, and model.text.cache holds whole ones; leave it out, {WHOLE}",
    "pretext.own={name: masked_modelling}": "pretext.own.modalities: of 'text' words are hidden, which the text encoder "
    f"has to read; name other modalities alone, {WHOLE}",
}


@pytest.mark.parametrize("override", REFUSALS)
def test_what_would_change_the_rows_is_refused(refused: Callable[..., str], override: str) -> None:
    assert REFUSALS[override] in refused(override)


def test_hidden_rows_of_other_modalities_are_none_of_the_cache(refused: Callable[..., str], tmp_path: Path) -> None:
    load_experiment(tmp_path / "x.yaml", ["pretext.own={name: masked_modelling, modalities: [audio]}"])
    load_experiment(tmp_path / "x.yaml", ["pretext.own={name: matching}"])
    assert "of 'second_text' words are hidden" in refused("pretext.own={name: masked_modelling, modalities: [second_text]}")
