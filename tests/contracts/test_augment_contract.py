"""What every augmentation holds to: seeded by its key alone, the input untouched, shape kept, nothing lost whole."""

import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mmtrain.data.augment import AUGMENTATIONS
from mmtrain.data.augment.augmentation import Augmentation
from mmtrain.data.augment.protocol import keyed_generator
from mmtrain.data.dataset import Sample

# options that change nearly every value, options that ask for nothing, options at their limit
STRONG = {
    "time_masking": {"max_share": 0.9},
    "feature_masking": {"max_share": 0.9},
    "gaussian_noise": {"std": 2.0},
    "time_jitter": {"probability": 0.7, "reach": 3},
    "word_dropout": {"probability": 0.5},
}
NOTHING = {
    "time_masking": {"max_share": 0},
    "feature_masking": {"max_share": 0},
    "gaussian_noise": {"std": 0},
    "time_jitter": {"probability": 0},
    "word_dropout": {"probability": 0},
}
LIMIT = {
    "time_masking": {"max_share": 0.999, "spans": 40},
    "feature_masking": {"max_share": 0.999, "bands": 40},
    "gaussian_noise": {"std": 1e5},
    "time_jitter": {"probability": 1, "reach": 1000},
    "word_dropout": {"probability": 1},
}
ROWS = np.random.default_rng(0).normal(size=(12, 10))
# by what a row reads: values to give it
VALUES = {
    "text": {"words": "you never know what comes of a big red fish", "one": "fish", "spaces": "  so\n what \t"},
    "features": {
        "float32": ROWS.astype(np.float32),
        "float16": ROWS.astype(np.float16),
        "one row": ROWS[:1].astype(np.float32),
        "one column": ROWS[:, :1].astype(np.float32),
        "one number": ROWS[:1, :1].astype(np.float32),
        "largest float16": np.full((5, 4), np.finfo(np.float16).max),
    },
}
CASES = [
    pytest.param(row, VALUES[row.reads][case], id=f"{row.model_fields['name'].default}-{case}")
    for row in AUGMENTATIONS
    for case in VALUES[row.reads]
]


def build(row, options=STRONG):
    return row.model_validate(options[row.model_fields["name"].default]).build()


def main_value(row):
    return next(iter(VALUES[row.reads].values()))


def as_bytes(value):
    return value.encode() if isinstance(value, str) else value.tobytes()


def draws(row, value, *, passes=20, sample="a", seed=3, stream="clips"):
    """Bytes of the value in each pass, through the whole `Augmentation`."""
    augment = Augmentation({"m" if row.reads != "text" else "text": {"row": build(row)}}, seed=seed)
    before = Sample(sample, 0, value if row.reads == "text" else "", {} if row.reads == "text" else {"m": value}, {})
    after = [augment(before, stream=stream, pass_number=number) for number in range(passes)]
    return [as_bytes(found.text if row.reads == "text" else found.features["m"]) for found in after]


def test_every_row_is_tried():
    names = {row.model_fields["name"].default for row in AUGMENTATIONS}
    assert names == set(STRONG) == set(NOTHING) == set(LIMIT)


@pytest.mark.parametrize("row", AUGMENTATIONS)
def test_the_key_alone_decides(row):
    value = main_value(row)
    expected = draws(row, value)
    for seed in (1, 2):  # other generators, in another state, in another order, have no part in it
        random.seed(seed)
        np.random.seed(seed)
        state = (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
        assert draws(row, value) == expected
        assert state == (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
    shared = build(row)
    forward, backward = (
        [as_bytes(shared(value, keyed_generator(7, n))) for n in order] for order in (range(9), range(8, -1, -1))
    )
    assert forward == backward[::-1]


@pytest.mark.parametrize("row", AUGMENTATIONS)
def test_another_pass_sample_stream_or_seed_is_another_draw(row):
    value = main_value(row)
    found = draws(row, value)
    assert len(set(found)) > 12, "passes are alike"
    for other in (draws(row, value, sample="b"), draws(row, value, seed=4), draws(row, value, stream="calls")):
        assert sum(one == another for one, another in zip(found, other, strict=True)) < 8


@pytest.mark.parametrize(("row", "value"), CASES)
@pytest.mark.parametrize("options", [STRONG, LIMIT], ids=["strong", "limit"])
def test_meaning_and_shape_are_kept_and_the_input_is_untouched(row, value, options):
    augment, before = build(row, options), as_bytes(value)
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.setflags(write=False)  # as the views of a mapped store are
    for number in range(30):
        found = augment(value, keyed_generator(0, number))
        assert as_bytes(value) == before
        assert isinstance(found, str) == isinstance(value, str)
        if isinstance(found, str):
            assert found.split()
            words = iter(value.split())
            assert all(word in words for word in found.split()), "words of the text, in its order"
        else:
            assert (found.dtype, found.shape) == (value.dtype, value.shape)
            assert np.isfinite(found).all()
            assert found is value or not np.shares_memory(found, value)


@pytest.mark.parametrize(("row", "value"), CASES)
def test_asked_for_nothing_it_gives_back_the_value_itself(row, value):
    augment = build(row, NOTHING)
    assert all(augment(value, keyed_generator(0, number)) is value for number in range(30))


@pytest.mark.parametrize("row", AUGMENTATIONS)
def test_strong_options_change_the_value(row):
    before = as_bytes(main_value(row))
    assert sum(found != before for found in draws(row, main_value(row))) > 12


def test_a_modality_that_is_missing_stays_so():
    everything = {
        kind: {row.model_fields["name"].default: build(row, LIMIT) for row in AUGMENTATIONS if row.reads == kind}
        for kind in VALUES
    }
    everything["text"]["more"] = lambda value, _: f"{value} more"
    augment = Augmentation({"text": everything["text"], "audio": everything["features"]}, seed=0)
    rows = ROWS.astype(np.float32)
    for text in ("", " \n"):
        found = augment(Sample("a", 4, text, {"video": rows}, {"funny": np.float64(1)}), stream="clips", pass_number=0)
        assert found.text == text
        assert set(found.features) == {"video"}
        assert found.features["video"] is rows, "no row of its own"
        assert (found.id, found.index, found.labels) == ("a", 4, {"funny": 1.0})


def test_both_texts_of_a_pair_lose_words_of_their_own():
    upper = {"text": {"shout": lambda text, _: text.upper()}, "second_text": {"more": lambda text, _: f"{text} more"}}
    pair = replace(Sample("a", 0, "one", {}, {}), second_text="two")
    found = Augmentation(upper, seed=0)(pair, stream="s", pass_number=0)
    assert (found.text, found.second_text) == ("ONE", "two more")
    alone = Augmentation(upper, seed=0)(Sample("a", 0, "one", {}, {}), stream="s", pass_number=0)
    assert (alone.text, alone.second_text) == ("ONE", "")


def test_rows_of_a_modality_follow_one_another_and_draw_on_their_own():
    def note(name):
        return lambda value, generator: f"{value} {name}{generator.integers(10**9)}"

    def words(*names):
        augment = Augmentation({"text": {name: note(name) for name in names}}, seed=0)
        return augment(Sample("a", 0, "x", {}, {}), stream="s", pass_number=2).text.split()

    both = words("b", "a")
    assert [word[0] for word in both] == ["x", "b", "a"]
    assert both[1][1:] != both[2][1:], "each row has random numbers of its own"
    assert words("a") == ["x", both[2]], "which another row beside it does not change"
    noise = build(next(row for row in AUGMENTATIONS if row.model_fields["name"].default == "gaussian_noise"))
    augment = Augmentation({"audio": {"noise": noise}, "video": {"noise": noise}}, seed=0)
    zeros = np.zeros((3, 4), np.float32)
    found = augment(Sample("a", 0, "", {"audio": zeros, "video": zeros}, {}), stream="s", pass_number=2).features
    assert (found["audio"] != found["video"]).all(), "and so has each modality"


def test_the_key_is_the_same_in_every_process():
    """Python's own hash of a string differs between processes; and no two keys run into one another."""
    script = "from mmtrain.data.augment.protocol import keyed_generator as k; print(k(1, 'é', 'a\\x00b', 2).integers(2**62))"
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    keys = [(1, "a", 23), (1, "a2", 3), (1, "a", "23"), (1, "a", 2, 3), (1, 'a", 23'), (2, "a", 23), (1, "a")]
    assert len({keyed_generator(*key).integers(2**62) for key in keys}) == len(keys)
