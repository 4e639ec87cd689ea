"""Main effects and interactions of a small grid, against numbers done by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from mmtrain.ablation.effects import grid_of, main_effects
from mmtrain.ablation.plan import Variant

AXES = {"fusion": {"a": {}, "b": {}}, "rate": {"x": {}, "y": {}}}
NAN = math.nan


def plan(*chosen, seeds=(0, 1, 2), axes=AXES, metric="val/t/unbounded"):
    variants = tuple(
        Variant("-".join(values), "-".join(values), values, number == 0) for number, values in enumerate(chosen)
    )
    return SimpleNamespace(matrix=SimpleNamespace(axes=axes, seeds=seeds, metric=metric), variants=variants)


def rows(plan, values, seeds=(0, 1, 2)):
    """`values`: by the name of a variant, the metric of each seed."""
    found = {variant.name: variant for variant in plan.variants}
    return [SimpleNamespace(variant=found[name], seeds=seeds[: len(own)], values=tuple(own)) for name, own in values.items()]


WHOLE = plan(("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"))


def test_the_effect_of_an_axis_is_a_mean_over_the_others_seed_by_seed():
    """a: (1 + 3) / 2, (2 + 4) / 2, (3 + 5) / 2 = 2, 3, 4: mean 3, s 1, t(0.975) of 2 degrees 4.302653."""
    found = {"a-x": [1, 2, 3], "a-y": [3, 4, 5], "b-x": [5, 5, 5], "b-y": [7, 8, 9]}
    effects = {(effect.axis, effect.value): effect for effect in main_effects(WHOLE, rows(WHOLE, found))}
    assert list(effects) == [("fusion", "a"), ("fusion", "b"), ("rate", "x"), ("rate", "y")]
    a = effects["fusion", "a"]
    assert (a.mean, a.num_seeds, a.num_combinations) == (3.0, 3, 2)
    assert (a.low, a.high) == pytest.approx((3 - 4.302653 / math.sqrt(3), 3 + 4.302653 / math.sqrt(3)), abs=1e-5)
    assert effects["fusion", "b"].mean == pytest.approx((6 + 6.5 + 7) / 3)
    assert effects["rate", "x"].mean == pytest.approx((3 + 3.5 + 4) / 3)


def test_an_interval_ends_where_the_metric_does():
    """Means 0.8, 0.9 and 1 of three seeds: 0.9 + 4.302653 * 0.1 / sqrt(3) is above 1."""
    shares = plan(("a", "x"), ("b", "x"), metric="val/t/accuracy")
    (a, _) = main_effects(shares, rows(shares, {"a-x": [0.8, 0.9, 1.0], "b-x": [0.1, 0.1, 0.1]}))
    assert (a.low, a.high) == (pytest.approx(0.9 - 0.4302653 / math.sqrt(3), abs=1e-6), 1.0)


def test_seeds_that_not_all_have_are_left_out_and_two_have_no_interval():
    found = {"a-x": [1, 2, 3], "a-y": [3, 4], "b-x": [5, NAN, 5], "b-y": [7, 8, 9]}
    (a, b, *_) = main_effects(WHOLE, rows(WHOLE, found))
    assert (a.mean, b.mean, a.num_seeds) == (2.0, 6.0, 1)
    assert math.isnan(a.low)


def test_only_combinations_that_all_values_have_are_compared():
    """One factor at a time: of each axis the values beside the other one's baseline; a-y says nothing of fusion."""
    some = plan(("a", "x"), ("b", "x"), ("a", "y"))
    effects = main_effects(some, rows(some, {"a-x": [1, 1, 1], "b-x": [2, 2, 2], "a-y": [9, 9, 9]}))
    assert [(effect.value, effect.mean, effect.num_combinations) for effect in effects] == [
        ("a", 1.0, 1), ("b", 2.0, 1), ("x", 1.0, 1), ("y", 9.0, 1)
    ]  # fmt: skip
    apart = plan(("a", "x"), ("b", "y"))
    assert main_effects(apart, rows(apart, {"a-x": [1, 1, 1], "b-y": [2, 2, 2]})) == []


def test_what_is_left_without_main_effects():
    """Means 1 3 / 5 11: rows 2 and 8, columns 3 and 7, all 5; left 1 - 2 - 3 + 5 = 1."""
    found = {"a-x": [0, 1, 2], "a-y": [3], "b-x": [5, 5], "b-y": [11]}
    grid = grid_of(WHOLE, rows(WHOLE, found), "fusion", "rate")
    assert np.array(grid.means).tolist() == [[1, 3], [5, 11]]
    assert np.array(grid.interactions).tolist() == [[1, -1], [-1, 1]]
    assert (grid.rows, grid.columns) == (("a", "b"), ("x", "y"))


def test_a_grid_is_the_mean_over_further_axes_and_has_no_holes():
    axes = AXES | {"more": {"u": {}, "v": {}}}
    whole = plan(*((fusion, rate, more) for fusion in "ab" for rate in "xy" for more in "uv"), axes=axes)
    found = {variant.name: [1.0 + number] for number, variant in enumerate(whole.variants)}
    assert np.array(grid_of(whole, rows(whole, found), "fusion", "rate").means).tolist() == [[1.5, 3.5], [5.5, 7.5]]
    assert grid_of(whole, rows(whole, found | {"a-x-u": [NAN]}), "fusion", "rate") is None
    one = plan(("a", "x"), ("b", "x"))
    assert grid_of(one, rows(one, {"a-x": [1], "b-x": [2]}), "fusion", "rate") is None
