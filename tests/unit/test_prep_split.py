"""Splitting by group: nothing straddles, shares are kept, and equal texts stay together."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.split import count_by_group, join_equal_texts, split_groups


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=20, max_size=80))
def test_shares_are_near_whatever_the_sizes(sizes):
    groups = {f"g{number}": {"samples": size} for number, size in enumerate(sizes)}
    sides = split_groups(groups)
    assert sides.keys() == groups.keys()
    held = Counter()
    for group, side in sides.items():
        held[side] += groups[group]["samples"]
    for side, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert abs(held[side] - share * sum(sizes)) <= max(sizes) + 1


def test_a_rare_class_reaches_every_split():
    groups = {f"g{number:02}": {"samples": 10, **({"rare": 2} if number < 6 else {})} for number in range(40)}
    sides = split_groups(groups)
    assert Counter(sides[f"g{number:02}"] for number in range(6)) == {"train": 4, "val": 1, "test": 1}


def test_the_order_of_the_groups_does_not_matter():
    groups = {f"g{number}": {"samples": number % 4 + 1} for number in range(50)}
    assert split_groups(groups) == split_groups(dict(reversed(groups.items())))


def test_a_share_of_nothing_gets_nothing():
    groups = {f"g{number}": {"samples": 1} for number in range(10)}
    assert Counter(split_groups(groups, ratios=(0.5, 0.5, 0.0)).values()) == {"train": 5, "val": 5}


def test_equal_texts_join_their_groups():
    samples = [("a", "Yes."), ("b", "no"), ("c", " yes. "), ("c", "maybe"), ("d", "Maybe"), ("e", "else")]
    joined = join_equal_texts(samples)
    assert joined[0] == joined[2] == joined[3] == joined[4]
    assert len(set(joined)) == 3


def test_counting():
    counted = count_by_group([("a", ("x",)), ("b", ()), ("a", ("x", "y"))])
    assert counted == {"a": {"samples": 2, "x": 2, "y": 1}, "b": {"samples": 1}}
