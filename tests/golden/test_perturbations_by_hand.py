"""Perturbations: what is hit at a level is hit at every higher one; noise, cuts and typing errors as numbers say by hand."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtrain.data.dataset import Sample, Stream
from mmtrain.data.schema import FeatureSpec, Statistics, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError
from mmtrain.evaluation.perturbation import PERTURBATIONS
from mmtrain.evaluation.perturbation.drop import Drop
from mmtrain.evaluation.perturbation.noise import Noise, train_deviations
from mmtrain.evaluation.perturbation.protocol import has, without
from mmtrain.evaluation.perturbation.truncate import Truncate
from mmtrain.evaluation.perturbation.typos import Typos, misspell, neighbors
from mmtrain.evaluation.perturbation.word_loss import WordLoss

TEXT = "you never know what comes out of the deep blue sea"
# of the column that varies in train: 0, 0, 4, 4, so a deviation of 2; the other one is 7 throughout
TRAIN = {"a": [[0.0, 7.0], [0.0, 7.0], [4.0, 7.0]], "b": [[4.0, 7.0]]}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    place = tmp_path_factory.mktemp("store") / "clips"
    modalities = {"audio": FeatureSpec(dim=2), "image": FeatureSpec.pixels(2, 2)}
    with StoreWriter(place, name="clips", modalities=modalities, tasks={"funny": TaskSchema(kind="binary")}) as writer:
        for name, rows in TRAIN.items():
            pixels = np.zeros((1, 3, 2, 2), np.uint8)
            pixels[:, 0] = [[10, 10], [30, 30]]  # of one color alone the deviation is not 0, but 10
            writer.add(
                id=name, split="train", group="g", features={"audio": np.array(rows), "image": pixels}, labels={"funny": 1}
            )
        far = {"audio": np.full((2, 2), 99.0)}
        writer.add(id="c", split="val", group="v", text=TEXT, features=far, labels={"funny": 0})
    return Stream("s", FeatureStore(place), split="val", tasks=["funny"], modalities=["text", "audio", "image"])


def clip(name: str = "x", *, text: str = TEXT, rows: int = 10, **more: Any) -> Sample:
    features = {"audio": np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)} if rows else {}
    return Sample(id=name, index=0, text=text, features=features, labels={}, **more)


def lost(stream: Stream, level: float, *, repeat: int = 0, seed: int = 1) -> set[int]:
    drop = Drop(modality="audio", seed=seed)
    samples = [drop(clip(f"s{number}"), stream, level=level, repeat=repeat) for number in range(400)]
    return {number for number, sample in enumerate(samples) if "audio" not in sample.features}


def test_who_loses_a_modality_at_a_rate_loses_it_at_a_higher_one(stream: Stream) -> None:
    rates = (0.1, 0.25, 0.5, 0.9, 1.0)
    sets = [lost(stream, rate) for rate in rates]
    assert all(low < high for low, high in pairwise(sets))
    assert [len(found) / 400 for found in sets] == pytest.approx(rates, abs=0.07)  # a standard error is at most 0.025
    assert sets[-1] == set(range(400))
    assert lost(stream, 0.5) == sets[2], "the same whoever asks"
    assert lost(stream, 0.5, repeat=1) != sets[2] != lost(stream, 0.5, seed=2)


def test_what_is_dropped_is_missing_and_nothing_else_is_touched(stream: Stream) -> None:
    sample = clip(second_text="another")
    assert set(Drop(modality="text", seed=0)(sample, stream, level=1, repeat=0).features) == {"audio"}
    assert not has(Drop(modality="text", seed=0)(sample, stream, level=1, repeat=0), "text")
    second = Drop(modality="second_text", seed=0)(sample, stream, level=1, repeat=0)
    assert (second.text, second.second_text) == (TEXT, "")
    nothing = without(sample, ["text", "second_text", "audio"])
    assert not any(has(nothing, name) for name in ("text", "second_text", "audio"))
    assert all(has(sample, name) for name in ("text", "second_text", "audio"))
    assert not has(clip(text="  "), "text")


def test_deviations_are_those_of_the_training_rows(stream: Stream) -> None:
    assert train_deviations(stream.store, "audio").tolist() == [2.0, 0.0]
    assert train_deviations(stream.store, "image").tolist() == [10.0, 0.0, 0.0]


def test_noise_grows_with_its_level_in_units_of_each_dimension(stream: Stream) -> None:
    noise, sample = Noise(modality="audio", seed=4), clip(rows=3000)
    one, two = (noise(sample, stream, level=level, repeat=0).features["audio"] for level in (1.0, 2.0))
    added = one - sample.features["audio"]
    assert (added[:, 0].mean(), added[:, 0].std()) == (pytest.approx(0, abs=0.15), pytest.approx(2.0, rel=0.05))
    assert (added[:, 1] == 0).all(), "it does not vary in train"
    assert np.allclose(two - sample.features["audio"], 2 * added, atol=1e-3)
    assert (sample.features["audio"] == np.arange(6000).reshape(3000, 2)).all()
    assert np.array_equal(noise(sample, stream, level=1.0, repeat=0).features["audio"], one)
    assert not np.array_equal(noise(sample, stream, level=1.0, repeat=1).features["audio"], one)
    assert noise(clip(rows=0), stream, level=1.0, repeat=0).features == {}


def test_noise_on_pixels_stays_among_pixels(stream: Stream) -> None:
    pixels = np.full((40, 3, 2, 2), 128, np.uint8)
    sample = Sample(id="p", index=0, text="", features={"image": pixels}, labels={})
    noisy = Noise(modality="image", seed=0)(sample, stream, level=1.0, repeat=0).features["image"]
    assert noisy.dtype == np.uint8
    assert (noisy[:, 1:] == 128).all()
    assert noisy[:, 0].astype(float).std() == pytest.approx(10, rel=0.25)
    wild = Noise(modality="image", seed=0)(sample, stream, level=1000.0, repeat=0).features["image"]
    assert (wild[:, 0].min(), wild[:, 0].max()) == (0, 255)


@pytest.mark.parametrize(("normalize", "expected"), [(True, [1.0, 0.0]), (False, [3.0, 0.0])])
def test_statistics_of_the_store_are_taken_where_there_are_some(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, normalize: bool, expected: list[float]
) -> None:
    statistics = Statistics(rows=4, mean=(0.0, 7.0), deviation=(3.0, 0.0), normalize=normalize)
    schema = stream.store.schema
    changed = schema.modalities["audio"].model_copy(update={"statistics": statistics})
    monkeypatch.setattr(
        stream.store, "schema", schema.model_copy(update={"modalities": {**schema.modalities, "audio": changed}})
    )
    assert train_deviations(stream.store, "audio").tolist() == expected


def test_noise_without_a_unit_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", name="late", modalities={"audio": FeatureSpec(dim=1)}) as writer:
        writer.add(id="a", split="train", group="g")
        writer.add(id="b", split="val", group="v", features={"audio": np.ones((1, 1))})
    with pytest.raises(
        DataError, match=r"store 'late' \(.*\) has no training rows of audio, .*leave it out: --levels noise="
    ):
        train_deviations(FeatureStore(tmp_path / "s"), "audio")
    with StoreWriter(tmp_path / "t", name="holes", modalities={"audio": FeatureSpec(dim=1)}) as writer:
        writer.add(id="a", split="train", group="g", features={"audio": np.ones((3, 1))})
    file = tmp_path / "t" / "audio.safetensors"
    content = bytearray(file.read_bytes())
    content[512:516] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    with pytest.raises(DataError, match="store 'holes': NaN or Inf in audio of train; `mmtrain data check"):
        train_deviations(FeatureStore(tmp_path / "t"), "audio")


@pytest.mark.parametrize(("level", "rows"), [(0.25, 8), (0.3, 7), (0.5, 5), (0.7, 3), (0.75, 3), (0.99, 1), (1.0, 0)])
def test_the_first_rows_are_kept(stream: Stream, level: float, rows: int) -> None:
    """Of ten: ceil((1 - level) 10)."""
    cut = Truncate(modality="audio", seed=0)(clip(), stream, level=level, repeat=0)
    assert cut.features.get("audio", np.empty((0, 2))).tolist() == clip().features["audio"][:rows].tolist()
    assert cut.text == TEXT
    words = Truncate(modality="text", seed=0)(clip(text="1 2 3  4 5 6 7 8 9 10"), stream, level=level, repeat=0)
    assert words.text.split() == [str(number + 1) for number in range(rows)]
    assert len(words.features["audio"]) == 10


def test_words_that_are_left_out_stay_out(stream: Stream) -> None:
    lose = WordLoss(modality="text", seed=3)
    words = [set(lose(clip(), stream, level=level, repeat=0).text.split()) for level in (0.01, 0.25, 0.5, 0.75, 1.0)]
    assert all(low >= high for low, high in pairwise(words))
    assert (words[0], len(words[-1])) == (set(TEXT.split()), 1)


@pytest.mark.parametrize(
    ("lots", "word", "expected"),
    [
        ((0.0, 0.0, 0.0), "word", "owrd"),  # the first pair; swap
        ((0.99, 0.24, 0.0), "word", "wodr"),  # the last pair
        ((0.4, 0.25, 0.0), "word", "wrd"),  # the second of three pairs; delete
        ((0.0, 0.5, 0.0), "word", "wqord"),  # insert what lies by w: q, e, a, s
        ((0.0, 0.5, 0.99), "word", "wsord"),
        ((0.0, 0.75, 0.3), "Word", "Eord"),  # replace, in the letter's case
        ((0.0, 0.0, 0.0), "ll", "l"),  # swapped it would stay
        ((0.9, 0.3, 0.0), "don't", "dn't"),  # n' and 't are no pairs of letters
        ((0.5, 0.5, 0.5), "a", "a"),
        ((0.5, 0.5, 0.5), "12:30", "12:30"),
        ((0.0, 0.99, 0.99), "ßß", "zß"),  # no key: another letter of the text
    ],
)
def test_one_error_by_hand(lots: tuple[float, ...], word: str, expected: str) -> None:
    assert misspell(word, np.array(lots), ["a", "z", "ß"]) == expected


def test_a_letter_that_nothing_can_stand_for_is_left_out() -> None:
    assert misspell("яя", np.array([0.0, 0.8, 0.5]), ["я"]) == "я"


def test_keys_that_touch() -> None:
    assert {key: set(neighbors(key)) for key in "qgpm"} == {
        "q": set("wa"),
        "g": set("tyfhvb"),
        "p": set("ol"),
        "m": set("njk"),
    }
    pairs = {(one, other) for one in "qwertyuiopasdfghjklzxcvbnm" for other in neighbors(one)}
    assert pairs == {(other, one) for one, other in pairs}


def test_misspelled_words_stay_misspelled_at_a_higher_level(stream: Stream) -> None:
    typos = Typos(modality="text", seed=5)
    texts = [typos(clip(), stream, level=level, repeat=0).text.split() for level in (0.01, 0.25, 0.5, 1.0)]
    hit = [{at for at, (word, own) in enumerate(zip(words, TEXT.split(), strict=True)) if word != own} for words in texts]
    assert all(low <= high for low, high in pairwise(hit))
    assert (hit[0], hit[-1]) == (set(), set(range(len(TEXT.split()))))
    assert all(texts[1][at] == texts[3][at] for at in hit[1])
    assert typos(clip(), stream, level=1.0, repeat=1).text != " ".join(texts[3])


def test_where_a_word_is_misspelled_has_nothing_to_do_with_whether(stream: Stream) -> None:
    """Of words misspelled at a low level, as many first differ in their second half as in their first."""
    word = "abcdefghijklmnopqrstuvwxyz"
    text = Typos(modality="text", seed=5)(clip(text=" ".join([word] * 2000)), stream, level=0.1, repeat=0).text
    first = [next(at for at in range(26) if at >= len(own) or own[at] != word[at]) for own in text.split() if own != word]
    assert len(first) == pytest.approx(200, abs=45)
    assert sum(at < 13 for at in first) / len(first) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("row", PERTURBATIONS, ids=lambda row: row.name)
def test_every_row_leaves_a_sample_without_the_modality_alone(row: Any, stream: Stream) -> None:
    assert 0 < min(row.levels) <= max(row.levels) <= row.most
    assert list(row.levels) == sorted(row.levels)
    modality = "text" if "text" in row.reads else "audio"
    sample = clip(text="", rows=0)
    assert row(modality=modality, seed=0)(sample, stream, level=max(row.levels), repeat=0) == sample
    other = clip() if modality == "text" else clip(text="")
    changed = row(modality=modality, seed=0)(other, stream, level=max(row.levels), repeat=0)
    assert changed.text != other.text or changed.features is not other.features
