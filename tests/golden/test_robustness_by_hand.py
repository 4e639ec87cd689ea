"""Which evaluations robustness makes, what it makes of their metrics, and the areas under its curves."""

import math

import numpy as np
import pytest

from mmtrain.data.dataset import Sample
from mmtrain.errors import ConfigError
from mmtrain.evaluation.perturbation.protocol import has
from mmtrain.evaluation.robustness import Look, Reading, areas, default_levels, look_at, plan_looks, read_levels

THREE = {"text": "text", "audio": "features", "image": "images"}
SAMPLE = Sample(
    id="x", index=0, text="a word", features={"audio": np.ones((2, 2)), "image": np.ones((1, 3, 2, 2))}, labels={}
)


def reading(level: float | None, value: float, *, modality: str = "audio", perturbation: str = "drop") -> Reading:
    return Reading(
        perturbation=perturbation,
        modality=modality,
        level=level,
        task="funny",
        metric="accuracy",
        value=value,
        deviation=math.nan,
        repeats=1,
        num_without_any=0,
    )


def test_the_area_is_a_trapezoid_rule_and_its_share_is_of_the_clean_value() -> None:
    """0.8, 0.6, 0.2 at 0, 0.5, 1: 0.35 + 0.2 = 0.55 of 0.8."""
    found = list(areas([reading(0.5, 0.6), reading(None, 0.3, perturbation="subset"), reading(0.0, 0.8), reading(1.0, 0.2)]))
    assert [(row.perturbation, row.modality, row.task, row.metric) for row in found] == [
        ("drop", "audio", "funny", "accuracy")
    ]
    assert (found[0].area, found[0].relative_area) == (pytest.approx(0.55), pytest.approx(0.55 / 0.8))
    uneven = next(areas([reading(0.0, 1.0), reading(0.5, 1.0), reading(2.0, 0.0)]))
    assert (uneven.area, uneven.relative_area) == (pytest.approx(0.5 + 0.75), pytest.approx(1.25 / 2))


@pytest.mark.parametrize(
    ("values", "area"), [((-0.1, 0.1), 0.0), ((0.0, 0.2), 0.1), ((0.5, math.nan), math.nan), ((math.nan, 0.5), math.nan)]
)
def test_what_has_no_share(values: tuple[float, float], area: float) -> None:
    found = next(areas([reading(0.0, values[0]), reading(1.0, values[1])]))
    assert math.isnan(found.relative_area)
    assert found.area == pytest.approx(area, nan_ok=True)


def present(look: Look) -> set[str]:
    sample = SAMPLE if look.alter is None else look.alter(SAMPLE, None)  # type: ignore[arg-type]
    return {name for name in THREE if has(sample, name)}


def test_every_subset_is_looked_at_once_the_whole_first() -> None:
    looks = [look for look in plan_looks(THREE, default_levels(), repeats=2, seed=0) if look.perturbation == "subset"]
    assert [look.modality for look in looks] == [
        "text+audio+image",
        "text+audio",
        "text+image",
        "audio+image",
        "text",
        "audio",
        "image",
    ]
    assert all(present(look) == set(look.modality.split("+")) for look in looks)
    assert looks[0].alter is None


def test_looks_that_see_the_same_are_one_evaluation() -> None:
    levels = dict.fromkeys(default_levels(), ()) | {"drop": (0.5, 1.0), "typos": (1.0,), "truncate": (0.5,)}
    looks = plan_looks(THREE, levels, repeats=3, seed=0)
    curves = [(look.perturbation, look.modality, look.level) for look in looks if look.level is not None]
    for modality in THREE:
        assert curves.count(("drop", modality, 0.5)) == 3
        assert curves.count(("drop", modality, 1.0)) == curves.count(("drop", modality, 0.0)) == 1
        assert curves.count(("truncate", modality, 0.5)) == 1, "nothing is random in it"
    assert {modality for name, modality, _ in curves if name == "typos"} == {"text"}
    calls = []

    def evaluate(look: Look) -> tuple[dict[str, tuple[str, float]], int]:
        calls.append(look.same)
        return {"funny": ("accuracy", float(len(calls)))}, 5 if look.modality == "image" else 0

    readings, _ = look_at(looks, evaluate)
    # 7 subsets; a dropped modality at 0.5, three times each; typos three times; three truncations
    assert len(calls) == len(set(calls)) == 7 + 9 + 3 + 3
    value = {(row.perturbation, row.modality, row.level): row for row in readings}
    assert value["drop", "text", 1.0].value == value["subset", "audio+image", None].value == 4
    assert value["typos", "text", 0.0].value == value["subset", "text+audio+image", None].value == 1
    first = value["drop", "text", 0.5]
    assert (first.value, first.deviation, first.repeats) == (9.0, 1.0, 3)  # the looks number 8, 9 and 10
    assert math.isnan(value["truncate", "text", 0.5].deviation)
    assert value["subset", "image", None].num_without_any == 5


def test_one_modality_alone_can_be_lost() -> None:
    looks = plan_looks({"audio": "features"}, default_levels(), repeats=1, seed=0)
    gone = next(look for look in looks if look.perturbation == "drop" and look.level == 1)
    assert gone.same == frozenset()
    assert "audio" not in present(gone)


def test_too_many_modalities() -> None:
    with pytest.raises(
        ConfigError, match=r"the model reads 7 modalities, which have 127 subsets; .* at most 6 modalities \(63"
    ):
        plan_looks({f"m{number}": "features" for number in range(7)}, default_levels(), repeats=1, seed=0)


def test_levels_are_read_sorted_and_once() -> None:
    found = read_levels(["drop=1,0.5,0.5", "noise="])
    assert (found["drop"], found["noise"], found["typos"]) == ((0.5, 1.0), (), default_levels()["typos"])
    looks = plan_looks(THREE, found, repeats=1, seed=0)
    assert not [look for look in looks if look.perturbation == "noise"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("blur=1", r"--levels blur=1: write NAME=LEVEL,LEVEL with a name of drop, noise, truncate, word_dropout, typos"),
        ("drop", "--levels drop: write NAME=LEVEL,LEVEL"),
        ("drop=half", "--levels drop=half: 'half' is not a list of numbers such as 0.25,0.5"),
        ("drop=0,0.5", "--levels drop=0,0.5: 0 is no level of drop, which are above 0 and at most 1"),
        ("typos=1.5", "1.5 is no level of typos, which are above 0 and at most 1"),
        ("noise=inf", "inf is no level of noise, which are above 0$"),
        ("noise=nan", "nan is no level of noise"),
    ],
)
def test_levels_that_there_are_not(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_levels([word])
