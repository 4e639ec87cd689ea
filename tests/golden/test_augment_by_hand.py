"""How often augmentations do what: shares and probabilities worked out by hand, met by some thousand draws."""

import numpy as np
import pytest

from mmtrain.data.augment.feature_masking import FeatureMasking
from mmtrain.data.augment.gaussian_noise import GaussianNoise
from mmtrain.data.augment.protocol import keyed_generator
from mmtrain.data.augment.spans import draw_spans
from mmtrain.data.augment.time_jitter import TimeJitter
from mmtrain.data.augment.time_masking import TimeMasking
from mmtrain.data.augment.word_dropout import WordDropout

DRAWS = 4000
ROWS = np.array([[1, 10], [2, 20], [3, 30], [6, 60]], np.float32)  # mean 3, 30


def frequencies(outcomes):
    """Share of the draws that each outcome has."""
    values, counts = np.unique(np.asarray(outcomes), return_counts=True)
    return dict(zip(values.tolist(), (counts / len(outcomes)).tolist(), strict=True))


def near(probabilities):
    """Within four standard errors of what DRAWS draws give."""
    return {key: pytest.approx(p, abs=4 * (p * (1 - p) / DRAWS) ** 0.5) for key, p in probabilities.items()}


def test_one_span_masks_a_quarter_of_the_places_and_every_place_now_and_then():
    """Of 8 places at most a half: 0, 1, 2, 3 or 4 long, 2 on average. Place i lies in it as often as starts put it there."""
    masks = np.array([draw_spans(8, spans=1, max_share=0.5, generator=keyed_generator(0, n)) for n in range(DRAWS)])
    assert frequencies(masks.sum(axis=1)) == near(dict.fromkeys(range(5), 0.2))
    expected = np.zeros(8)
    for length in range(5):
        for start in range(8 - length + 1):
            expected[start : start + length] += 1 / 5 / (8 - length + 1)
    assert expected.mean() == pytest.approx(0.25)
    assert dict(enumerate(masks.mean(axis=0))) == near(dict(enumerate(expected)))
    assert np.abs(np.diff(masks.astype(int), axis=1)).sum(axis=1).max() == 2, "one span"


def test_spans_share_the_bound():
    """3 spans of at most 0.7 of 10 places: floor(7 / 3) = 2 places each, and never more than 6 together."""
    masked = [int(draw_spans(10, spans=3, max_share=0.7, generator=keyed_generator(0, n)).sum()) for n in range(DRAWS)]
    assert (min(masked), max(masked)) == (0, 6)
    some_left = [draw_spans(3, spans=1, max_share=0.99, generator=keyed_generator(0, n)).all() for n in range(200)]
    assert not any(some_left)


def test_a_masked_row_is_the_mean_row_and_the_others_stay():
    masking = TimeMasking(spans=1, max_share=0.5)
    seen = []
    for number in range(DRAWS):
        found = masking(ROWS, keyed_generator(0, number))
        masked = (found != ROWS).all(axis=1)
        assert found[masked].tolist() == [[3.0, 30.0]] * int(masked.sum())
        assert found[~masked].tolist() == ROWS[~masked].tolist()
        seen.append(int(masked.sum()))
    # 0, 1 or 2 of 4 rows; the row [3, 30] is the mean itself, and masked it looks as before: alone with 1/3 * 1/4, in a
    # pair (rows 1 and 2, rows 2 and 3) with 1/3 * 2/3
    assert frequencies(seen) == near({0: 1 / 3 + 1 / 12, 1: 1 / 4 + 2 / 9, 2: 1 / 9})


def test_a_masked_column_is_the_mean_of_all_values_in_every_row():
    """Of 10 columns at most 4 in one band: 2 on average, a fifth. The mean of 0 .. 29 is 14.5, which no value is."""
    rows = np.arange(30, dtype=np.float16).reshape(3, 10)
    found = np.array([FeatureMasking(bands=1, max_share=0.4)(rows, keyed_generator(0, n)) for n in range(DRAWS)])
    masked = found == 14.5
    assert (masked == masked[:, :1]).all()
    assert (found[~masked] == np.broadcast_to(rows, found.shape)[~masked]).all()
    assert frequencies(masked[:, 0].sum(axis=1)) == near(dict.fromkeys(range(5), 0.2))


def test_noise_is_normal_and_independent():
    values = np.full((200, 100), 5.0, np.float32)
    noise = GaussianNoise(std=0.3)(values, keyed_generator(0, "noise")).astype(np.float64) - 5
    count = noise.size
    assert noise.mean() == pytest.approx(0, abs=4 * 0.3 / count**0.5)
    assert noise.std() == pytest.approx(0.3, abs=4 * 0.3 / (2 * count) ** 0.5)
    assert (np.abs(noise) < 0.3).mean() == pytest.approx(0.6827, abs=4 * (0.6827 * 0.3173 / count) ** 0.5)
    for left, right in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])):
        assert np.corrcoef(left.ravel(), right.ravel())[0, 1] == pytest.approx(0, abs=4 / count**0.5)


def test_a_row_comes_from_near_it_as_often_as_the_probability_says():
    """Replaced with 0.4, from 1 or 2 rows before or behind, 0.1 each; what lies before the first row is the first row."""
    rows = np.arange(5, dtype=np.float32)[:, None]
    found = np.array([TimeJitter(probability=0.4, reach=2)(rows, keyed_generator(0, n))[:, 0] for n in range(DRAWS)])
    assert frequencies(found[:, 0]) == near({0: 0.8, 1: 0.1, 2: 0.1})
    assert frequencies(found[:, 1]) == near({0: 0.2, 1: 0.6, 2: 0.1, 3: 0.1})
    assert frequencies(found[:, 2]) == near({0: 0.1, 1: 0.1, 2: 0.6, 3: 0.1, 4: 0.1})
    assert frequencies(found[:, 4]) == near({2: 0.1, 3: 0.1, 4: 0.8})
    stays = found == rows[:, 0]
    assert (stays[:, 2] & stays[:, 3]).mean() == pytest.approx(0.36, abs=4 * (0.36 * 0.64 / DRAWS) ** 0.5), "independent"


def test_words_are_left_out_as_often_as_the_probability_says():
    """Of two words, each out with 0.5: both stay with 1/4; both would go with 1/4, and then either stays."""
    found = [WordDropout(probability=0.5)("big fish", keyed_generator(0, n)) for n in range(DRAWS)]
    assert frequencies(found) == near({"big fish": 1 / 4, "big": 3 / 8, "fish": 3 / 8})
    found = [WordDropout(probability=0.2)(" ".join("abcdefghij"), keyed_generator(0, n)) for n in range(DRAWS)]
    out = 10 - np.array([len(text.split()) for text in found])
    assert out.mean() == pytest.approx(2, abs=4 * (10 * 0.2 * 0.8 / DRAWS) ** 0.5)
    alone = {WordDropout(probability=1)("a b c", keyed_generator(0, n)) for n in range(50)}
    assert alone == {"a", "b", "c"}


def test_white_space_is_as_it_was_unless_a_word_goes():
    found = {WordDropout(probability=0.5)(" so\n what ", keyed_generator(0, n)) for n in range(50)}
    assert found == {" so\n what ", "so", "what"}
