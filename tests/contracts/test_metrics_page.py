"""docs/metrics.md defines every metric that the code can give, and no other; every metric is fast to resample."""

import re
from pathlib import Path

import numpy as np
import pytest

from mmtrain.data.schema import TaskSchema
from mmtrain.evaluation.conventions import CONVENTIONS
from mmtrain.evaluation.geometry import geometry_names
from mmtrain.evaluation.metrics import LOSS_STATISTICS, metric_bounds, metric_names
from mmtrain.evaluation.moments import Moments
from mmtrain.evaluation.predictions import no_predictions
from mmtrain.evaluation.resampling import loss_statistic, statistic_of
from mmtrain.evaluation.retrieval import retrieval_names
from mmtrain.evaluation.split_metrics import known_metrics

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
KINDS = ("binary", "multiclass", "multilabel", "regression")
HEADINGS = {
    "binary": ("Decisions of binary and multiclass tasks", "Rankings"),
    "multiclass": ("Decisions of binary and multiclass tasks", "Rankings"),
    "multilabel": ("Multilabel tasks",),
    "regression": ("Regression",),
}


def defined(*headings: str) -> set[str]:
    """The names that begin the paragraphs below headings, up to the next heading of any depth."""
    found: set[str] = set()
    for heading in headings:
        (section,) = re.findall(rf"^##+ {re.escape(heading)}[^\n]*\n(.*?)(?=^##|\Z)", PAGE, re.S | re.M)
        for paragraph in re.split(r"^- ", section, flags=re.M)[1:]:
            names = re.match(r"(?:`[^`]+`(?:,\s+and\s+|,\s+)?)+", paragraph)
            found |= set(re.findall(r"`([^`]+)`", names[0])) if names else set()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_of_a_kind_has_its_paragraph(kind):
    assert set(metric_names(kind)) <= defined(*HEADINGS[kind])
    known = known_metrics({"t": TaskSchema(kind=kind, classes=("a", "b") if "multi" in kind else ())})
    assert set(known) == {"loss", *(f"t/{name}" for name in (*LOSS_STATISTICS, *metric_names(kind)))}


def test_the_page_defines_no_other():
    both = set(metric_names("binary")) | set(metric_names("multiclass"))
    assert defined(*HEADINGS["binary"]) == both
    assert defined(*HEADINGS["multilabel"]) == set(metric_names("multilabel"))
    assert defined("Regression") == set(metric_names("regression"))
    assert defined("Losses") == set(LOSS_STATISTICS)


@pytest.mark.parametrize(("name", "heading"), [("mosi", "CMU-MOSI and CMU-MOSEI"), ("sims", "CH-SIMS")])
def test_every_convention_has_its_section(name, heading):
    names = CONVENTIONS[name]().names
    assert set(names) == defined(heading)
    assert [*metric_names("regression"), *names] == metric_names("regression", name)
    assert CONVENTIONS[name]().name == name


def test_every_metric_of_embeddings_has_its_paragraph():
    names = {name for name in defined("Embeddings") if "<" not in name}
    assert names == {*retrieval_names(["x"])[:4], *geometry_names(["x"], ["y"])[:2], "accuracy"}


@pytest.mark.parametrize(
    ("kind", "convention"), [*((kind, None) for kind in KINDS), *(("regression", n) for n in CONVENTIONS)]
)
def test_every_metric_has_a_fast_way(kind, convention):
    for name in metric_names(kind, convention):
        assert callable(statistic_of(no_predictions(kind, convention=convention), name))


@pytest.mark.parametrize(
    ("kind", "convention"), [*((kind, None) for kind in KINDS), *(("regression", n) for n in CONVENTIONS)]
)
def test_every_metric_has_the_bounds_that_its_resampling_knows(kind, convention):
    for name in metric_names(kind, convention):
        low, high = metric_bounds(name)
        assert np.isfinite(low), name
        statistic = statistic_of(no_predictions(kind, convention=convention), name)
        assert not isinstance(statistic, Moments) or (low, high) == statistic.bounds, name
        correlation = name in ("mcc", "spearman", "cohen_kappa", "pearson")
        assert isinstance(statistic, Moments) or (low, high) == ((-1.0, 1.0) if correlation else (0.0, 1.0)), name


def test_losses_and_metrics_of_embeddings_have_bounds():
    for name in LOSS_STATISTICS:
        statistic = loss_statistic(np.ones(2), name)
        assert metric_bounds(name) == (0.0, np.inf)
        assert not isinstance(statistic, Moments) or statistic.bounds == (0.0, np.inf)
    ranks = {name: (1.0, np.inf) if "rank" in name else (0.0, 1.0) for name in retrieval_names(["a_to_b"])}
    assert {name: metric_bounds(name) for name in ranks} == ranks
    shapes = {name: (0.0, 4.0) if "alignment" in name else (-8.0, 0.0) for name in geometry_names(["a_b"], ["a"])}
    assert {name: metric_bounds(name) for name in shapes} == shapes
    assert metric_bounds("words_loss") == (0.0, np.inf)
    assert metric_bounds("unheard_of") == (-np.inf, np.inf)
