"""The predecessors' arithmetic in plain float64 loops: what they pad, what they mask, and what they read of padding."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from plain_layers import array, layer_norm, linear, sigmoid, softmax
from torch import nn

from mmtrain.models.hiccap_legacy import VARIANTS, HiccapLegacy, LegacyPooling, Lengths, Padded, pad, probabilities

LENGTHS, DIM, HIDDEN, HEADS, IMAGE, AUDIO = Lengths(tokens=5, image=4, audio=3), 6, 2, 2, 4, 3
Rows = list[np.ndarray]


class Words(nn.Module):
    """In place of BERT: a row for each token, and nothing but tokens is given to it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, DIM)

    def forward(self, **given):
        assert set(given) == {"input_ids"}  # no attention mask: padding is read like words
        return SimpleNamespace(last_hidden_state=self.table(given["input_ids"]))


def legacy(variant: str) -> HiccapLegacy:
    torch.manual_seed(0)
    sizes = {"dim": DIM, "hidden": HIDDEN, "heads": HEADS, "image_dim": IMAGE, "audio_dim": AUDIO, "head_widths": (5, 4, 3)}
    model = HiccapLegacy(bert=Words(), tasks=("binary",), variant=VARIANTS[variant], **sizes).double().eval()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if "num_batches" not in name:
            value.data.copy_(torch.rand_like(value) + 0.5 if "running_var" in name else torch.randn_like(value) * 0.6)
    return model


def clips(variant: str) -> Padded:
    """Three clips: all that there may be; short; and one without video and audio."""
    draw = np.random.default_rng(0).normal
    images = [draw(size=(6, IMAGE)), draw(size=(2, IMAGE)), None]
    audios = [draw(size=(3, AUDIO)), draw(size=(1, AUDIO)), None]
    texts = [[1, 2, 3, 4, 5, 6, 7], [8, 7], [3, 1, 4]]
    batch = pad(texts, images, audios, variant=VARIANTS[variant], image_dim=IMAGE, audio_dim=AUDIO, lengths=LENGTHS)
    return batch._replace(image=batch.image.double(), audio=batch.audio.double())


def lstm(network: nn.LSTM, rows: Rows) -> Rows:
    """Both layers in both directions, over every row that it is given."""
    for layer in range(2):
        directions = []
        for suffix, walk in (("", rows), ("_reverse", rows[::-1])):
            parts = (f"{kind}_l{layer}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            w, u, b, c = (array(getattr(network, part)) for part in parts)
            state, cell, seen = np.zeros(HIDDEN), np.zeros(HIDDEN), []
            for row in walk:
                gates = w @ row + u @ state + b + c
                keep, forget, new, out = gates.reshape(4, HIDDEN)
                cell = sigmoid(forget) * cell + sigmoid(keep) * np.tanh(new)
                state = sigmoid(out) * np.tanh(cell)
                seen.append(state)
            directions.append(seen if not suffix else seen[::-1])
        rows = [np.concatenate(pair) for pair in zip(*directions, strict=True)]
    return rows


def read(layer, row: np.ndarray, context: Rows, mask: list[int]) -> np.ndarray:
    """What one row reads: rows under a mask of 0 lose 10000 from their scores."""
    query, width, result = linear(layer.query, row), DIM // HEADS, []
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        scores = [query[part] @ linear(layer.key, other)[part] / math.sqrt(width) for other in context]
        least = max(score - 10000 * (1 - real) for score, real in zip(scores, mask, strict=True))
        weights = softmax([score - 10000 * (1 - real) - least for score, real in zip(scores, mask, strict=True)])
        result.append(sum(w * linear(layer.value, other)[part] for w, other in zip(weights, context, strict=True)))
    return np.concatenate(result)


def pooled(layer: LegacyPooling, rows: Rows) -> np.ndarray:
    """Over all rows, whatever is padding."""
    weights = [math.exp(float(array(layer.v) @ np.tanh(linear(layer.u, row)))) + 1e-10 for row in rows]
    return sum(weight / sum(weights) * row for weight, row in zip(weights, rows, strict=True))


def joint(model: HiccapLegacy, batch: Padded, clip: int, variant: str) -> np.ndarray:
    rows = {"text": [array(model.bert.table.weight)[token] for token in batch.tokens[clip]]}
    for name, place in (("image", "img"), ("audio", "audio")):
        norm, projection = getattr(model, f"rnn_{place}_drop_norm")[1], getattr(model, f"sequential_{name}")
        states = lstm(getattr(model, f"rnn_{place}"), list(array(getattr(batch, name)[clip])))
        rows[name] = [layer_norm(projection[1], linear(projection[0], layer_norm(norm, state))) for state in states]
    masks = {"text": batch.token_mask, "image": batch.image_mask, "audio": batch.audio_mask}
    contexts = {
        "binary": {"text": "image audio", "audio": "image text", "image": "text audio"},
        "four_tasks": {"text": "image audio", "audio": "image text", "image": "audio text"},
        "pretraining": {"text": "audio image", "audio": "text image", "image": "text audio"},
        "curriculum": {"text": "image audio", "audio": "image text", "image": "text audio"},
        "curriculum_branch": {"text": "image audio", "audio": "image text", "image": "audio text"},
    }[variant]
    parts = {"text": ("att1", "attention"), "audio": ("att2", "attention_audio"), "image": ("att3", "attention_image")}
    result = []
    for name, (attention, pooling) in parts.items():
        summed = []
        for own in rows[name]:
            row = own
            for place, other in enumerate(contexts[name].split(), start=1):
                row = own if variant == "curriculum_branch" and name == "image" else row
                found = read(getattr(model, attention), row, rows[other], masks[other][clip].tolist())
                row = layer_norm(getattr(model, f"{attention}_drop_norm{place}")[1], found)
            summed.append(row + own)
        result.append(layer_norm(getattr(model, f"{pooling}_drop_norm")[1], pooled(getattr(model, pooling), summed)))
    return np.concatenate(result)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_joint_vector_in_plain_loops(variant: str) -> None:
    model, batch = legacy(variant), clips(variant)
    found = array(model.joint(batch))
    for clip in range(3):
        np.testing.assert_allclose(found[clip], joint(model, batch, clip, variant), atol=1e-12)


def test_a_mask_is_ten_thousand_and_no_more() -> None:
    """A score that is larger by that much wins from under the mask."""
    model = legacy("binary")
    for layer in (model.att1.query, model.att1.key, model.att1.value):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    model.att1_drop_norm1[1] = nn.Identity()
    context, mask = torch.eye(2, DIM).double()[None], torch.tensor([[1, 0]])  # the second of two rows is padding
    for score, winner in ((9000, 0), (11000, 1)):  # the padding's score; the other's is 0, and both heads' width is 3
        rows = torch.zeros(1, 1, DIM).double()
        rows[0, 0, 1] = score * math.sqrt(DIM / HEADS)
        assert torch.equal(
            model.read("att1_drop_norm1", "att1", rows, context, mask)[0, 0, :2], torch.eye(2).double()[winner]
        )


def test_a_head_is_an_affine_map_and_its_softmax_two_probabilities() -> None:
    model = legacy("binary")
    head, row = model.heads["binary"], np.random.default_rng(1).normal(size=3 * DIM)
    expected = row
    for place in (0, 3):
        norm = head[place + 1]
        scaled = (linear(head[place], expected) - array(norm.running_mean)) / np.sqrt(array(norm.running_var) + norm.eps)
        expected = scaled * array(norm.weight) + array(norm.bias)
    expected = linear(head[7], linear(head[6], expected))
    logits = head(torch.from_numpy(row)[None])
    np.testing.assert_allclose(array(logits)[0], expected, atol=1e-12)
    no, yes = (math.exp(value) / sum(map(math.exp, expected)) for value in expected)
    np.testing.assert_allclose(array(probabilities(logits))[0], [no, yes], atol=1e-12)
    batch = clips("binary")
    torch.testing.assert_close(model(batch)["binary"], head(model.joint(batch)))


def test_how_clips_are_padded() -> None:
    batch = clips("binary")
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 5], [0, 0, 0, 8, 7], [0, 0, 3, 1, 4]]
    assert batch.token_mask.tolist() == [[1] * 5, [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert clips("curriculum").token_mask.tolist() == [[1] * 5, [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert batch.image_mask.tolist() == [[1] * 4, [1, 1, 0, 0], [0] * 4]
    assert batch.audio_mask.tolist() == [[1] * 3, [1, 0, 0], [1, 0, 0]]  # a missing audio counts as a row of zeros
    assert not batch.image[1, 2:].any()
    assert batch.image[1, :2].all()
    assert not batch.image[2].any()
    assert not batch.audio[2].any()
    usual = pad([[7]], [None], [None], variant=VARIANTS["binary"])
    shapes = [(1, 500), (1, 500), (1, 36, 1024), (1, 36), (1, 63, 128), (1, 63)]
    assert [tuple(value.shape) for value in usual] == shapes


def test_a_score_above_88_overflows() -> None:
    pooling = LegacyPooling(dim=2)
    with torch.no_grad():
        pooling.u.weight.copy_(torch.eye(2) * 50)
        pooling.u.bias.zero_()
        pooling.v.copy_(torch.tensor([88.0, 0.0]))
        rows = torch.ones(1, 2, 2)
        assert pooling(rows, torch.ones(1, 2)).isfinite().all()
        pooling.v[0] = 89.0
        assert pooling(rows, torch.ones(1, 2)).isnan().all()
