"""Matching and masked modelling against plain loops: who is mismatched with whom, what is hidden, and what it costs."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mmtrain.data.batch import Keys, MaskedSequence
from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.hub import load_tokenizer
from mmtrain.objectives.pretext.masked_modelling import MaskedModelling, MaskedModellingConfig, MaskedModellingLoss
from mmtrain.objectives.pretext.matching import MatchingHead, MatchingLoss
from mmtrain.objectives.pretext.protocol import Alone
from mmtrain.objectives.pretext.words import Words

GROUPS = torch.tensor([1, 1, 2, 3, 3, 4])
TEXTS = torch.tensor([10, 20, 30, 40, 50, 10])  # the first and the last say the same
KEYS = Keys(GROUPS, TEXTS)
ALLOWED = [
    [j for j in range(6) if j != i and GROUPS[i] != GROUPS[j] and TEXTS[i] != TEXTS[j]] for i in range(6)
]  # by the rule's own words


def head(**settings) -> MatchingHead:
    torch.manual_seed(0)
    return MatchingHead(pairs=(("text", "video"),), joint_dim=2, **{"similarity": None, **settings})


@pytest.mark.parametrize("similarity", [None, 0.5])
@pytest.mark.parametrize("training", [True, False])
def test_a_mismatch_is_never_the_sample_nor_one_like_it(similarity, training: bool) -> None:
    module, vectors = head(similarity=similarity).train(training), torch.randn(6, 3)
    both = torch.tensor([True, True, True, True, False, True])
    for _ in range(50):
        source, exists = module.choose(both, KEYS, vectors)
        for i in range(6):
            candidates = [j for j in ALLOWED[i] if both[j]] if both[i] else []
            assert exists[i].item() == bool(candidates)
            assert not candidates or source[i].item() in candidates


def test_mismatches_are_drawn_alike_or_by_the_softmax_of_cosines() -> None:
    torch.manual_seed(1)
    vectors, both = torch.randn(6, 3), torch.ones(6, dtype=torch.bool)
    rows = F.normalize(vectors, dim=1).double().numpy()
    for similarity in (None, 0.3):
        module = head(similarity=similarity)
        drawn = torch.stack([module.choose(both, KEYS, vectors).source for _ in range(8000)])
        for i in range(6):
            weights = {j: 1.0 if similarity is None else math.exp(rows[i] @ rows[j] / similarity) for j in ALLOWED[i]}
            for j, weight in weights.items():
                expected = weight / sum(weights.values())
                assert (drawn[:, i] == j).float().mean().item() == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize("training", [True, False])
def test_rows_that_are_not_finite_break_no_draw(training: bool) -> None:
    vectors, both = torch.randn(6, 3), torch.ones(6, dtype=torch.bool)
    vectors[2] = torch.nan
    source, exists = head(similarity=0.3).train(training).choose(both, KEYS, vectors)
    assert exists.all()
    assert all(source[i].item() in ALLOWED[i] for i in range(6))


def test_in_evaluation_the_choice_is_that_of_the_samples_whatever_their_order() -> None:
    vectors, both = torch.randn(6, 3), torch.ones(6, dtype=torch.bool)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    for similarity in (None, 0.3):
        module = head(similarity=similarity).eval()
        source = module.choose(both, KEYS, vectors).source
        turned = module.choose(both, Keys(GROUPS[order], TEXTS[order]), vectors[order]).source
        same = [TEXTS[order[j]].item() for j in turned.tolist()]
        assert same == [TEXTS[source[i]].item() for i in order.tolist()]
        assert len(set(source.tolist())) > 1


class PlainViews:
    """Encoded rows as given; the fusion adds up what it sees, with a weight a modality."""

    def __init__(self, encoded: dict[str, MaskedSequence], keys: Keys | None = KEYS) -> None:
        self.encoded, self.keys = encoded, keys

    def pooled(self, modality: str) -> Tensor:
        values, mask = self.encoded[modality]
        return (values * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)

    def fuse(self, encoded: dict[str, MaskedSequence]) -> SimpleNamespace:
        sums = [(values * mask[..., None]).sum(dim=1) for values, mask in encoded.values()]
        return SimpleNamespace(joint=sum(number * rows for number, rows in enumerate(sums, 1)))


@torch.no_grad
def test_what_is_fused_is_the_pair_alone_and_then_the_mismatched_one() -> None:
    torch.manual_seed(2)
    lengths = {"text": [2, 1, 2, 2, 1, 2], "audio": [1, 2, 2, 1, 2, 1], "video": [2, 2, 0, 1, 2, 2]}
    encoded = {
        name: MaskedSequence(torch.randn(6, 2, 2), torch.arange(2) < torch.tensor(counts)[:, None])
        for name, counts in lengths.items()
    }
    module = head().eval()
    found = module(PlainViews(encoded))
    both = torch.tensor([True, True, False, True, True, True])
    source = module.choose(both, KEYS, torch.zeros(6, 2)).source
    weight, bias = module.outputs[0].weight[0].double().numpy(), float(module.outputs[0].bias)
    for i in range(6):
        for column, j in enumerate((i, int(source[i]))):
            text = encoded["text"].values[i, : lengths["text"][i]].sum(0).double().numpy()
            video = encoded["video"].values[j, : lengths["video"][j]].sum(0).double().numpy()
            expected = weight @ (1 * text + 3 * video) + bias  # the sound, second of three, is hidden
            assert float(found["logits/text-video"][i, column]) == pytest.approx(expected, abs=1e-5)
    assert found["exists/text-video"].tolist() == both.tolist()


def test_the_loss_of_matching_in_plain_loops() -> None:
    torch.manual_seed(3)
    pairs = (("text", "video"), ("text", "audio"), ("audio", "video"))
    names = [f"{first}-{second}" for first, second in pairs]
    logits = {name: torch.randn(4, 2).double() for name in names}
    exists = {
        names[0]: [True, True, False, True],
        names[1]: [True, False, False, True],
        names[2]: [False] * 4,  # nobody has it: it is no pair of this batch
    }
    spoken = torch.tensor([True, True, True, False])
    outputs = {f"logits/{name}": value for name, value in logits.items()}
    outputs |= {f"exists/{name}": torch.tensor(value) for name, value in exists.items()}
    loss = MatchingLoss(pairs=pairs)
    terms = loss(outputs, None, spoken=spoken, companions=Alone())
    means, own = [], {i: [] for i in range(4)}
    for name in names:
        values = []
        for i in range(4):
            if exists[name][i] and spoken[i]:
                true, mismatched = logits[name][i].tolist()
                value = (math.log1p(math.exp(-true)) + math.log1p(math.exp(mismatched))) / 2
                values.append(value)
                own[i].append(value)
        means += [sum(values) / len(values)] if values else []
    assert float(terms.training.sum()) / 3 == pytest.approx(sum(means) / len(means))
    assert terms.reported.tolist() == pytest.approx([np.mean(own[0]), np.mean(own[1]), 0, 0])
    accuracy = loss.score(outputs, None)["accuracy"]
    right = [[((a > 0) + (b <= 0)) / 2 for a, b in logits[name].tolist()] for name in names]
    assert float(accuracy[0]) == pytest.approx((right[0][0] + right[1][0]) / 2)
    assert float(accuracy[1]) == pytest.approx(right[0][1])
    assert math.isnan(accuracy[2])
    assert loss.chance({}, companions=9) == pytest.approx(0.6931472)


# ---- masked modelling

SPECIAL = (1, 2, 3)  # beginning, end, padding; 0 masks
WORDS = Words(mask=0, special=SPECIAL, vocabulary=40, probability=0.15)


def modelling(**settings) -> MaskedModelling:
    torch.manual_seed(0)
    widths = {"text": None, "audio": 3}
    return MaskedModelling(**{"widths": widths, "words": WORDS, "dim": 4, "joint_dim": 5, "probability": 0.25} | settings)


def test_words_are_hidden_as_in_bert() -> None:
    torch.manual_seed(4)
    ids = torch.randint(4, 40, (2000, 22))
    ids[:, 0], ids[:, 20] = 1, 2
    mask = torch.arange(22) < 21
    hidden, place = modelling().train()._hide_words(MaskedSequence(ids, mask.expand(2000, 22)))
    assert not place[:, [0, 20, 21]].any()
    assert place.any(dim=1).all()
    # 19 words: each with 15 %, and where none was drawn (0.85^19 = 4.6 %) one of them
    expected = 0.15 + 0.85**19 / 19
    assert place[:, 1:20].float().mean().item() == pytest.approx(expected, abs=0.006)
    changed, masked = hidden.values != ids, hidden.values == 0
    assert not (changed & ~place).any()
    assert masked[place].float().mean().item() == pytest.approx(0.8 + 0.1 / 40, abs=0.02)
    assert (changed & ~masked)[place].float().mean().item() == pytest.approx(0.1 * 38 / 40, abs=0.015)


@torch.no_grad
def test_rows_are_hidden_by_a_learned_row_and_at_least_one() -> None:
    torch.manual_seed(5)
    module = modelling().train()
    module.blanks[0].copy_(torch.tensor([7.0, 8.0, 9.0]))
    mask = torch.arange(6) < torch.tensor([[1], [4], [0], [6]]).repeat(1000, 1)
    values = torch.full((4000, 6, 3), math.nan).masked_fill(mask[..., None], 1)
    hidden, place = module._hide_rows(MaskedSequence(values, mask), module.blanks[0])
    assert not (place & ~mask).any()
    assert (place.any(dim=1) == mask.any(dim=1)).all()
    assert (hidden.values[place] == torch.tensor([7.0, 8.0, 9.0])).all()
    assert (hidden.values[mask & ~place] == 1).all()
    assert place[3::4].float().mean().item() == pytest.approx(0.25 + 0.75**6 / 6, abs=0.015)


def test_in_evaluation_what_is_hidden_depends_on_the_sample_alone() -> None:
    module = modelling().eval()
    lengths = [1, 2, 3, 9, 0]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    place = module._places(mask, 0.25)
    # every fourth from the third on, or the last where there are fewer
    assert [row.nonzero()[:, 0].tolist() for row in place] == [[0], [1], [2], [2, 6], []]
    state = torch.get_rng_state()
    module._hide_words(MaskedSequence(torch.full((5, 9), 8), mask))
    assert torch.equal(torch.get_rng_state(), state)


class Corruptible:
    """An encoder that widens rows and a fusion that sums them, so that a loop can follow."""

    def __init__(self, inputs: dict[str, MaskedSequence], table: Tensor, widen: Tensor) -> None:
        self.inputs, self._table, self._widen = inputs, table, widen
        self.calls: list[str] = []
        self.encoded = self.encode(inputs)
        self.calls.clear()

    def encode(self, inputs):
        self.calls += inputs
        return {name: MaskedSequence(self._rows(name, *sequence), sequence.mask) for name, sequence in inputs.items()}

    def _rows(self, name: str, values: Tensor, mask: Tensor) -> Tensor:
        return self._table[values] if name == "text" else values.masked_fill(~mask[..., None], 0) @ self._widen

    def fuse(self, encoded):
        parts = [(values * mask[..., None]).sum(dim=1) for values, mask in encoded.values()]
        return SimpleNamespace(joint=torch.cat([sum(parts), torch.ones(len(parts[0]), 1)], dim=1))


@torch.no_grad
def test_the_loss_of_hidden_words_and_rows_in_plain_loops() -> None:
    module = modelling().eval()
    module.blanks[0].copy_(torch.tensor([0.5, -1.0, 2.0]))
    generator = torch.Generator().manual_seed(6)
    ids = torch.tensor([[1, 9, 12, 7, 2], [1, 8, 2, 3, 3], [1, 2, 3, 3, 3]])
    inputs = {
        "text": MaskedSequence(ids, torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [False] * 5])),
        "audio": MaskedSequence(
            torch.randn(3, 4, 3, generator=generator), torch.tensor([[True] * 4, [False] * 4, [True] * 2 + [False] * 2])
        ),
    }
    table, widen = torch.randn(40, 4, generator=generator), torch.randn(3, 4, generator=generator)
    found = module(Corruptible(inputs, table, widen))
    hidden_words, hidden_rows = {0: [3], 1: [1], 2: []}, {0: [2], 1: [], 2: [1]}  # 1/0.15 = 7, its middle is the last of 3
    for sample in range(3):
        tokens, rows = ids[sample].clone(), inputs["audio"].values[sample].clone()
        tokens[hidden_words[sample]] = 0
        rows[hidden_rows[sample]] = module.blanks[0]
        real = {name: int(inputs[name].mask[sample].sum()) for name in inputs}
        joint = table[tokens[: real["text"]]].sum(0) + (rows[: real["audio"]] @ widen).sum(0)
        context = module.context(torch.cat([joint, torch.ones(1)]))
        for name, places, output in (("text", hidden_words, module.outputs[0]), ("audio", hidden_rows, module.outputs[1])):
            values = []
            for place in places[sample]:
                state = (table[tokens[place]] if name == "text" else rows[place] @ widen) + context
                predicted = output(state).double()
                if name == "text":
                    values.append(float(torch.logsumexp(predicted, 0) - predicted[ids[sample, place]]))
                else:
                    target = inputs["audio"].values[sample, place].double()
                    target = (target - target.mean()) / target.var(correction=0).add(1e-6).sqrt()
                    values.append(float((predicted - target).square().mean()))
            assert found[f"hidden/{name}"][sample].item() == bool(values)
            assert float(found[f"loss/{name}"][sample]) == pytest.approx(np.mean(values) if values else 0, abs=1e-5)
    loss = MaskedModellingLoss(("text", "audio"))
    spoken = torch.ones(3, dtype=torch.bool)
    terms = loss(found, None, spoken=spoken, companions=Alone())
    text, audio = found["loss/text"].double(), found["loss/audio"].double()
    assert float(terms.training.sum()) / 3 == pytest.approx(float(text[:2].mean() + audio[[0, 2]].mean()) / 2, abs=1e-6)
    assert terms.reported.tolist() == pytest.approx([float(text[0] + audio[0]) / 2, float(text[1]), float(audio[2])])
    scores = loss.score(found, None)
    assert scores["text_loss"].isnan().tolist() == [False, False, True]
    assert scores["audio_loss"].isnan().tolist() == [False, True, False]
    assert loss.chance({"text": np.ones(3, bool), "audio": np.ones(3, bool)}, companions=3) == pytest.approx(5.663, abs=1e-3)


@torch.no_grad
def test_what_is_not_hidden_is_not_encoded_again() -> None:
    module = MaskedModelling(widths={"audio": 3}, words=None, dim=4, joint_dim=5, probability=0.25)
    mask = torch.ones(2, 4, dtype=torch.bool)
    text, audio = torch.randint(40, (2, 4)), torch.randn(2, 4, 3)
    inputs = {"text": MaskedSequence(text, mask), "audio": MaskedSequence(audio, mask)}
    views = Corruptible(inputs, torch.randn(40, 4), torch.randn(3, 4))
    fused = []
    views.fuse = lambda encoded: fused.append(encoded) or SimpleNamespace(joint=torch.zeros(2, 5))
    assert module(views)["hidden/audio"].all()
    assert views.calls == ["audio"]
    assert fused[0]["text"] is views.encoded["text"]
    assert not torch.equal(fused[0]["audio"].values, views.encoded["audio"].values)


def test_a_tokenizer_without_a_mask_token_cannot(tiny_bert) -> None:
    tokenizer = Tokenizer(load_tokenizer(str(tiny_bert)), max_tokens=16)
    assert Words.of(tokenizer, 0.15).mask == 4
    assert set(Words.of(tokenizer, 0.15).special) == {0, 1, 2, 3, 4}
    tokenizer.tokenizer.mask_token = None
    with pytest.raises(ConfigError, match="modalities: the text's tokenizer has no mask token; name the other modalities"):
        Words.of(tokenizer, 0.15)


def test_what_cannot_be_hidden_is_refused() -> None:
    shape = {"modalities": ("audio", "pitch"), "dim": 4, "joint_dim": 4, "tokenizer": None}
    with pytest.raises(ConfigError, match="modalities: the rows of 'pitch' have one column, which at mean 0 is 0 everywh"):
        MaskedModellingConfig().build_module(**shape, input_dims={"audio": 3, "pitch": 1})
    MaskedModellingConfig(modalities=["audio"]).build_module(**shape, input_dims={"audio": 3, "pitch": 1})
    for key in ("text_probability", "feature_probability"):
        with pytest.raises(ValueError, match=r"less than or equal to 0\.5"):
            MaskedModellingConfig(**{key: 0.7})  # every second place is the most that an evaluation hides
    config = MaskedModellingConfig(modalities=["text", "face"])
    with pytest.raises(ConfigError, match="modalities: the model reads no 'face'; it reads text, audio"):
        config.check(("text", "audio"))
    with pytest.raises(
        ConfigError, match="modalities: the encoder of 'audio' gives one row a sample; name the others alone"
    ):
        MaskedModellingConfig().check_rows(("text", "audio"), pooled=("audio",), pixels=())
    with pytest.raises(
        ConfigError, match="modalities: 'face' holds pixels, of which no rows are hidden; name the others alone"
    ):
        MaskedModellingConfig().check_rows(("text", "face"), pooled=(), pixels=("face",))
