"""The keyed shuffle is one to one, looks random, and never grows with the size."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtrain.curriculum.permutation import SORTED_UP_TO, derive_key, hash_words, permute

LARGE = SORTED_UP_TO + 1


def shuffled(size, number=0, key=1):
    return permute(np.arange(size), np.full(size, number), size=size, key=key)


def chi_square(observed, expected):
    """Deviation of a chi-square statistic from its mean, in standard deviations."""
    degrees = observed.size - 1
    return (((observed - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * degrees)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 20_000), st.integers(0, 2**40), st.integers(0, 2**64 - 1))
def test_one_to_one(size, number, key):
    assert (np.sort(shuffled(size, number, key)) == np.arange(size)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2**61), st.data())
def test_huge_sizes_stay_in_range_and_distinct(size, data):
    first = data.draw(st.integers(0, max(size - 500, 0)))
    places = np.arange(first, min(first + 500, size))
    found = permute(places, np.zeros(len(places), int), size=size, key=5)
    assert len(np.unique(found)) == len(places)
    assert found.min() >= 0
    assert found.max() < size


@pytest.mark.parametrize("size", [7, 300, LARGE, 10**9])
def test_a_position_does_not_depend_on_the_others_asked_for(size):
    places, passes = np.arange(7).repeat(3), np.tile([4, 0, 2], 7)
    together = permute(places, passes, size=size, key=9)
    alone = [permute(np.array([p]), np.array([n]), size=size, key=9)[0] for p, n in zip(places, passes, strict=True)]
    assert together.tolist() == alone


def mix(word):
    """SplitMix64's finalizer in plain integers."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31


def feistel_by_hand(place, number, size, key):
    """The shuffle of large sizes, one position at a time, in plain integers."""
    rows = next(a for a in range(1, size + 1) if a * a >= size)
    columns = -(-size // rows)
    key = mix(mix((number * 0x9E3779B97F4A7C15 + key) % 2**64))
    while True:
        halves, widths = list(divmod(place, columns)), (rows, columns)
        for step in range(8):
            mine = step % 2
            word = mix((key + halves[1 - mine] + (step + 1) * 0xD1342543DE82EF95) % 2**64)
            halves[mine] = (halves[mine] + ((word >> 32) * widths[mine] >> 32)) % widths[mine]
        place = halves[0] * columns + halves[1]
        if place < size:
            return place


def test_the_order_of_a_seed_is_that_of_plain_integers():
    """A stored run stays reproducible: the order depends on no library and no machine."""
    assert int(hash_words(np.array([0], np.uint64), 0x9E3779B97F4A7C15)[0]) == 0xE220A8397B1DCDAF  # SplitMix64, seed 0
    assert derive_key(0, "a", "b") == int.from_bytes(
        hashlib.blake2b(b"int:0\0str:a\0str:b", digest_size=8).digest(), "little"
    )
    for size, key in [(LARGE, 5), (10_007, 2**64 - 1), (10**6, 77)]:
        places, passes = np.arange(size - 60, size), np.arange(60) % 3
        expected = [feistel_by_hand(int(p), int(n), size, key) for p, n in zip(places, passes, strict=True)]
        assert permute(places, passes, size=size, key=key).tolist() == expected
    hashes = [mix((mix(place * 0x9E3779B97F4A7C15 % 2**64) + mix(mix(3))) % 2**64) for place in range(50)]
    assert permute(np.arange(50), np.zeros(50, int), size=50, key=3).tolist() == sorted(range(50), key=hashes.__getitem__)


@pytest.mark.parametrize("size", [64, LARGE, 10_007])
def test_where_a_position_goes_is_uniform_over_passes(size):
    passes = np.arange(40_000) if size > SORTED_UP_TO else np.arange(4000)
    for place in (0, 1, size - 1):
        found = permute(np.full(len(passes), place), passes, size=size, key=3)
        buckets = np.bincount(found * 16 // size, minlength=16)
        widths = np.bincount(np.arange(size) * 16 // size, minlength=16)
        assert abs(chi_square(buckets, widths * len(passes) / size)) < 5


@pytest.mark.parametrize("size", [LARGE, 10_007, 2**20])
def test_neighbours_part_uniformly(size):
    """A weak Feistel network shows in the difference of neighbouring positions."""
    passes = np.arange(40_000)
    first, second = (permute(np.full(len(passes), place), passes, size=size, key=3) for place in (0, 1))
    buckets = np.bincount((second - first) % size * 16 // size, minlength=16)
    assert abs(chi_square(buckets, len(passes) / 16)) < 5


@pytest.mark.parametrize("size", [2000, 4096, LARGE, 50_000])
def test_passes_streams_and_positions_are_unrelated(size):
    base = shuffled(size)
    others = [np.arange(size), shuffled(size, number=1), shuffled(size, key=derive_key(0, "other")), np.roll(base, 1)]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / np.sqrt(size)
        table = np.histogram2d(base, other, bins=16, range=[[0, size]] * 2)[0]
        assert abs(chi_square(table, size / 256)) < 5.5
        assert (base == other).sum() < 12  # one fixed point is expected


def test_the_checks_see_a_bad_shuffle():
    size = 50_000
    rotated = (np.arange(size) + 12_345) % size
    table = np.histogram2d(rotated, np.arange(size), bins=16, range=[[0, size]] * 2)[0]
    assert abs(chi_square(table, size / 256)) > 100


def test_memory_is_the_same_for_a_thousand_and_a_billion_samples():
    def peak(size):
        tracemalloc.start()
        permute(np.arange(1000), np.zeros(1000, int), size=size, key=1)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(10**9) <= peak(1000) + 20_000
    assert peak(10**9) < 200_000
