"""Pretext losses against numbers done by hand, and against plain float64 loops over samples, pairs and negatives."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from mmtrain.data.batch import Batch
from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.pretext.contrastive_margin import ContrastiveMarginConfig
from mmtrain.objectives.pretext.info_nce import InfoNceConfig
from mmtrain.objectives.pretext.nt_xent import NtXentConfig
from mmtrain.objectives.pretext.pairs import PairSection
from mmtrain.objectives.pretext.protocol import Alone, PretextTerms
from mmtrain.objectives.pretext.siglip import SiglipConfig
from mmtrain.objectives.pretext.supervised_contrastive import SupervisedContrastiveConfig
from mmtrain.objectives.pretext.triplet_hardest import TripletHardestConfig
from mmtrain.objectives.pretext.triplet_semi_hard import TripletSemiHardConfig

MODALITIES = ("text", "audio", "video")
SCALE, BIAS = 3.0, -1.5
Vectors = list[list[float]]
# anchor number, its vectors, those of the other modality, its negatives -> the loss of one direction
Direction = Callable[[int, Vectors, Vectors, list[int]], float]


def batch_of(count: int, *, groups: list[int] | None = None, texts: list[int] | None = None) -> Batch:
    rows = torch.arange(count)
    return Batch(
        ids=tuple(map(str, range(count))),
        stream=rows,
        index=rows,
        inputs={},
        targets={},
        labelled={},
        group=torch.tensor(groups or range(count)),
        text_key=torch.tensor(texts or range(count)),
    )


def units(count: int, dim: int, seed: int) -> Tensor:
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=1, keepdim=True)


def outputs_of(vectors: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
    outputs = {f"embedding/{name}": value.masked_fill(~present[name][:, None], 0) for name, value in vectors.items()}
    outputs |= {f"present/{name}": value for name, value in present.items()}
    scalars = {"log_scale": math.log(SCALE), "bias": BIAS}
    return outputs | {name: torch.tensor(value, dtype=torch.float64) for name, value in scalars.items()}


def terms_of(config: PairSection, outputs: dict[str, Tensor], batch: Batch, spoken: Tensor) -> PretextTerms:
    names = [name.removeprefix("embedding/") for name in outputs if name.startswith("embedding/")]
    loss = config.build_loss(modalities=names, tasks={})
    found: PretextTerms = loss(outputs, batch, spoken=spoken, companions=Alone())
    return found


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def distance(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def loop_info_nce(i: int, own: Vectors, others: Vectors, negatives: list[int]) -> float:
    whole = sum(math.exp(SCALE * dot(own[i], others[j])) for j in (i, *negatives))
    return -math.log(math.exp(SCALE * dot(own[i], others[i])) / whole)


def loop_nt_xent(i: int, own: Vectors, others: Vectors, negatives: list[int]) -> float:
    whole = sum(math.exp(dot(own[i], others[j]) / 0.5) for j in (i, *negatives))
    whole += sum(math.exp(dot(own[i], own[j]) / 0.5) for j in negatives)
    return -math.log(math.exp(dot(own[i], others[i]) / 0.5) / whole)


def loop_siglip(i: int, own: Vectors, others: Vectors, negatives: list[int]) -> float:
    def cost(j: int, sign: int) -> float:
        return math.log(1 + math.exp(-sign * (SCALE * dot(own[i], others[j]) + BIAS)))

    return cost(i, 1) + sum(cost(j, -1) for j in negatives)


def loop_hardest(i: int, own: Vectors, others: Vectors, negatives: list[int]) -> float:
    match = distance(own[i], others[i])
    return max([0.0, *(match - distance(own[i], others[j]) + 0.7 for j in negatives)])


def loop_semi_hard(i: int, own: Vectors, others: Vectors, negatives: list[int]) -> float:
    match, far = distance(own[i], others[i]), [distance(own[i], others[j]) for j in negatives]
    if not far:
        return 0.0
    beyond = [value for value in far if value > match]
    return max(0.0, match - (min(beyond) if beyond else max(far)) + 0.7)


def loop_margin(i: int, own: Vectors, others: Vectors, negatives: list[int]) -> float:
    repelled = [max(0.0, 1.3 - math.sqrt(distance(own[i], others[j]))) ** 2 / 2 for j in negatives]
    return distance(own[i], others[i]) / 2 + (sum(repelled) / len(repelled) if repelled else 0.0)


LOOPS: list[tuple[PairSection, Direction, bool]] = [  # config, one direction, whether alike samples are no negatives
    (InfoNceConfig(), loop_info_nce, False),
    (InfoNceConfig(exclude_alike=True), loop_info_nce, True),
    (NtXentConfig(temperature=0.5), loop_nt_xent, False),
    (NtXentConfig(temperature=0.5, exclude_alike=True), loop_nt_xent, True),
    (SiglipConfig(), loop_siglip, False),
    (SiglipConfig(exclude_alike=True), loop_siglip, True),
    (TripletHardestConfig(margin=0.7), loop_hardest, True),
    (TripletSemiHardConfig(margin=0.7), loop_semi_hard, True),
    (ContrastiveMarginConfig(margin=1.3), loop_margin, True),
]


@pytest.mark.parametrize(("config", "direction", "excludes"), LOOPS, ids=lambda value: getattr(value, "name", None))
@pytest.mark.parametrize("seed", [0, 1])
def test_a_loss_equals_a_loop_with_missing_modalities_and_likenesses(
    config: PairSection, direction: Direction, excludes: bool, seed: int
) -> None:
    count, groups, texts = 9, [0, 0, 1, 2, 2, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 1, 7, 2]
    generator = np.random.default_rng(seed)
    present = {name: torch.from_numpy(generator.random(count) < 0.7) for name in MODALITIES}
    spoken = torch.from_numpy(generator.random(count) < 0.9)
    vectors = {name: units(count, 3, seed + number) for number, name in enumerate(MODALITIES)}
    found = terms_of(config, outputs_of(vectors, present), batch_of(count, groups=groups, texts=texts), spoken)
    lists = {name: value.tolist() for name, value in vectors.items()}
    of_pairs, have_negatives = [], []
    for first, second in combinations(MODALITIES, 2):
        having = [i for i in range(count) if present[first][i] and present[second][i] and spoken[i]]
        losses, compared = {}, set()
        for i in having:
            negatives = [j for j in having if j != i]
            if excludes:
                negatives = [j for j in negatives if groups[i] != groups[j] and texts[i] != texts[j]]
            ways = (lists[first], lists[second]), (lists[second], lists[first])
            compared |= {i} if negatives else set()
            losses[i] = sum(direction(i, own, others, negatives) for own, others in ways) / 2
        of_pairs.append(losses)
        have_negatives.append(compared)
    number = int(spoken.sum())
    expected = np.mean([np.mean(list(losses.values())) for losses in of_pairs if losses])
    assert float(found.training[spoken].sum()) / number == pytest.approx(expected, rel=1e-12)
    for i in range(count):
        own = [losses[i] for losses, others in zip(of_pairs, have_negatives, strict=True) if i in others]
        assert found.defined[i].item() == bool(own)
        assert float(found.reported[i]) == pytest.approx(np.mean(own) if own else 0.0, rel=1e-12)


def two_by_two(angle: float, config: PairSection) -> PretextTerms:
    """Two samples: text at 0 and 90 degrees, audio turned away from it by `angle`."""
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    both = torch.tensor([True, True])
    outputs = outputs_of({"text": text, "audio": text @ turn}, {"text": both, "audio": both})
    return terms_of(config, outputs, batch_of(2), both)


def test_two_samples_by_hand() -> None:
    """Aligned: similarities 1 to the match and 0 to the other; distances 0 and the root of 2."""
    e3 = math.exp(3)
    aligned = {
        InfoNceConfig(): math.log(1 + 1 / e3),
        NtXentConfig(temperature=0.5): math.log(1 + 2 / math.exp(2)),
        SiglipConfig(): math.log(1 + math.exp(-1.5)) * 2,  # logits 3 - 1.5 for the match, -1.5 for the other
        TripletHardestConfig(margin=0.7): 0.0,
        TripletSemiHardConfig(margin=3): 1.0,  # 0 - 2 + 3
        ContrastiveMarginConfig(margin=1.5): (1.5 - math.sqrt(2)) ** 2 / 2,
    }
    for config, value in aligned.items():
        assert two_by_two(0, config).training.tolist() == pytest.approx([value] * 2, rel=1e-12, abs=1e-15), config.name
    away = two_by_two(
        math.pi / 2, TripletHardestConfig(margin=0.7)
    )  # text 0: match at 2, other at 4; text 1: match 2, other 0
    assert away.training.tolist() == pytest.approx([(0 + 2.7) / 2, (2.7 + 0) / 2])


@pytest.mark.parametrize("count", [2, 5, 16])
def test_embeddings_that_are_all_alike_cost_what_chance_does(count: int) -> None:
    everywhere = torch.ones(count, dtype=torch.bool)
    same = units(1, 4, 0).expand(count, 4)
    outputs = outputs_of({"text": same, "audio": same}, {"text": everywhere, "audio": everywhere})
    expected = {
        InfoNceConfig(): math.log(count),
        NtXentConfig(): math.log(2 * count - 1),
        TripletHardestConfig(): 0.2,
        TripletSemiHardConfig(): 0.2,
    }
    present = {name: np.ones(100, bool) for name in ("text", "audio")}
    for config, value in expected.items():
        found = terms_of(config, outputs, batch_of(count), everywhere)
        assert found.reported.tolist() == pytest.approx([value] * count), config.name
        loss = config.build_loss(modalities=("text", "audio"), tasks={})
        assert loss.chance(present, companions=count) == pytest.approx(value), config.name


def test_no_constant_beats_the_chance_of_siglip_and_of_the_margin() -> None:
    present = {name: np.ones(100, bool) for name in ("text", "audio")}
    siglip = SiglipConfig().build_loss(modalities=("text", "audio"), tasks={})
    logits = np.linspace(-8, 3, 100001)
    costs = np.log1p(np.exp(-logits)) + 6 * np.log1p(np.exp(logits))
    assert siglip.chance(present, companions=7) == pytest.approx(costs.min(), rel=1e-8)
    margin = ContrastiveMarginConfig(margin=1.2).build_loss(modalities=("text", "audio"), tasks={})
    apart = np.linspace(0, 2, 100001)
    costs = apart**2 / 2 + np.clip(1.2 - apart, 0, None) ** 2 / 2
    assert margin.chance(present, companions=7) == pytest.approx(costs.min(), rel=1e-8)


def test_chance_goes_by_who_has_the_pair() -> None:
    """Half of the samples have audio, all have text and video: 8 companions are 4, 8 and 4 with the pairs."""
    present = {"text": np.ones(10, bool), "audio": np.arange(10) < 5, "video": np.ones(10, bool)}
    loss = InfoNceConfig().build_loss(modalities=MODALITIES, tasks={})
    assert loss.chance(present, companions=8) == pytest.approx((2 * math.log(4) + math.log(8)) / 3)
    one = InfoNceConfig(pairs=(("text", "video"),)).build_loss(modalities=MODALITIES, tasks={})
    assert one.chance({"text": present["text"]} | {"video": present["audio"]}, companions=2) == pytest.approx(math.log(2))


def test_supervised_contrast_equals_a_loop() -> None:
    classes, labelled = [0, 1, 0, 2, 1, 0, 1], [True, True, True, True, True, False, True]
    vectors, spoken = units(7, 3, 4), torch.tensor(labelled)
    config = SupervisedContrastiveConfig(task="mood", temperature=0.5)
    loss = config.build_loss(modalities=(), tasks={"mood": TaskSchema(kind="multiclass", classes=("a", "b", "c"))})
    batch = batch_of(7)
    batch.targets["mood"] = torch.tensor(classes)
    found = loss({"embedding": vectors}, batch, spoken=spoken, companions=Alone())
    rows = vectors.tolist()
    losses = {}
    for i in range(7):
        others = [j for j in range(7) if j != i and labelled[j]]
        alike = [j for j in others if classes[j] == classes[i]]
        if labelled[i] and alike:
            whole = sum(math.exp(dot(rows[i], rows[a]) / 0.5) for a in others)
            losses[i] = -sum(math.log(math.exp(dot(rows[i], rows[p]) / 0.5) / whole) for p in alike) / len(alike)
    assert sorted(losses) == [0, 1, 2, 4, 6]  # 3 is alone in its class, 5 has no label
    assert float(found.training[spoken].sum()) / 6 == pytest.approx(np.mean(list(losses.values())), rel=1e-12)
    assert found.reported.tolist() == pytest.approx([losses.get(i, 0.0) for i in range(7)], rel=1e-12)
    same = loss({"embedding": vectors[:1].expand(7, 3)}, batch, spoken=spoken, companions=Alone())
    assert float(same.reported[0]) == pytest.approx(math.log(5)) == loss.chance({}, companions=6)


def test_a_pair_that_one_sample_has_weighs_as_much_as_one_that_all_have() -> None:
    """Five samples with text and audio, of which one has video: its part of the pairs with video is five times as large."""
    everywhere, one = torch.ones(5, dtype=torch.bool), torch.arange(5) == 2
    vectors = {name: units(5, 3, number) for number, name in enumerate(MODALITIES)}
    outputs = outputs_of(vectors, {"text": everywhere, "audio": everywhere, "video": one})
    found = terms_of(ContrastiveMarginConfig(margin=1.3), outputs, batch_of(5), everywhere)
    lists = {name: value.tolist() for name, value in vectors.items()}
    apart = [distance(lists[name][2], lists["video"][2]) / 2 for name in ("text", "audio")]
    pair = terms_of(
        ContrastiveMarginConfig(margin=1.3, pairs=(("text", "audio"),)), outputs, batch_of(5), everywhere
    ).training
    assert float(found.training[2]) == pytest.approx(float(pair[2]) / 3 + 5 / 3 * sum(apart))
    assert float(found.reported[2]) == pytest.approx(float(pair[2]))  # in its pairs with video it has no negative


def test_a_pair_that_nobody_has_is_none_of_the_pairs() -> None:
    """Two of three modalities are there: the mean over the one pair with samples, not a third of it."""
    everywhere = torch.ones(4, dtype=torch.bool)
    vectors = {name: units(4, 3, number) for number, name in enumerate(MODALITIES)}
    outputs = outputs_of(vectors, {"text": everywhere, "audio": everywhere, "video": ~everywhere})
    both, one = (
        terms_of(InfoNceConfig(pairs=pairs), outputs, batch_of(4), everywhere) for pairs in (None, (("text", "audio"),))
    )
    assert both.training.tolist() == pytest.approx(one.training.tolist(), rel=1e-12)


@pytest.mark.parametrize(("config", "excludes"), [(config, excludes) for config, _, excludes in LOOPS], ids=str)
def test_a_sample_without_negatives_is_only_drawn_to_its_match(config: PairSection, excludes: bool) -> None:
    """Alone in the batch, or among samples of its own group: finite, and 0 where the match alone costs nothing."""
    for count, groups in ((1, [0]), (3, [5, 5, 5])):
        everywhere = torch.ones(count, dtype=torch.bool)
        vectors = {name: units(count, 3, number).requires_grad_() for number, name in enumerate(("text", "audio"))}
        outputs = outputs_of(vectors, {"text": everywhere, "audio": everywhere})
        found = terms_of(config, outputs, batch_of(count, groups=groups), everywhere)
        found.training.sum().backward()
        assert all(value.grad is not None and value.grad.isfinite().all() for value in vectors.values())
        assert found.reported.isfinite().all()
        if (excludes or count == 1) and not isinstance(config, SiglipConfig | ContrastiveMarginConfig):
            assert found.reported.tolist() == pytest.approx([0.0] * count, abs=1e-12)
