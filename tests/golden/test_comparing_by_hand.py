"""Two runs on the same samples: tests that can be counted out, effect sizes, and what the rows of a comparison hold."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mmtrain.evaluation.comparing import cohens_d_z, compare_runs, permutation_test
from mmtrain.evaluation.comparison import over_groups, paired
from mmtrain.evaluation.decisions import decisions
from mmtrain.evaluation.metrics import metrics
from mmtrain.evaluation.predictions import TaskPredictions, joined


def binary(calls, *, labels, groups=None, losses=None, threshold=0.5):
    """A binary task: logits of 1 where a sample is called positive, else -1."""
    logits = np.where(np.array(calls, bool), 1.0, -1.0)
    count = len(logits)
    return TaskPredictions(
        task="funny",
        kind="binary",
        classes=(),
        ids=np.array([f"s{number:02d}" for number in range(count)]),
        streams=np.full(count, "a"),
        groups=(np.arange(count) if groups is None else np.array(groups)).astype(np.str_),
        labels=np.array(labels, float),
        logits=logits,
        probabilities=1 / (1 + np.exp(-logits)),
        losses=np.zeros(count) if losses is None else np.array(losses, float),
        threshold=threshold,
    )


def test_mcnemar_by_hand():
    """Of 10 samples the run alone is right in 5, the baseline alone in 1: p = 2 (1 + 6) / 2^6 = 7 / 32."""
    labels = [1] * 5 + [0] * 5
    run, baseline = binary([1] * 5 + [0] * 4 + [1], labels=labels), binary([0] * 10, labels=labels)
    found = decisions(run, baseline)
    assert (found.only_run, found.only_baseline) == (5, 1)
    assert found.odds_ratio == pytest.approx(5.5 / 1.5)
    assert found.p_mcnemar == pytest.approx(7 / 32)
    assert decisions(run, run).p_mcnemar == 1
    grouped = [replace(item, groups=np.array(["x", "x", *map(str, range(8))])) for item in (run, baseline)]
    assert math.isnan(decisions(*grouped).p_mcnemar)
    assert decisions(*grouped).only_run == 5


def test_swaps_by_hand():
    """Five groups, each better in the run: of the 32 ways to swap them one is as far, and its opposite."""
    run, baseline = (binary([1] * 5, labels=[1] * 5, losses=item) for item in ([0.0] * 5, [1.0, 2, 4, 8, 16]))
    assert permutation_test(paired({"funny": run}, {"funny": baseline}, "funny/loss")) == pytest.approx(2 / 32)
    run = binary([1] * 5, labels=[1] * 5, losses=[1.0, 0, 0, 0, 0])
    baseline = binary([1] * 5, labels=[1] * 5, losses=[0.0, 2, 4, 8, 16])
    # the sum of differences is -29, and only -31 is beyond: 2 of 32 on this side
    assert permutation_test(paired({"funny": run}, {"funny": baseline}, "funny/loss")) == pytest.approx(4 / 32)


@pytest.mark.parametrize("metric", ["accuracy", "auroc", "f1"])
def test_swaps_are_of_whole_groups_and_of_any_metric(metric):
    """Two samples a group: 3 groups can be swapped in 8 ways, whatever the metric; one group in none that says anything."""
    groups, labels = [0, 0, 1, 1, 2, 2], [1, 0, 1, 0, 1, 0]
    run, baseline = binary(labels, labels=labels, groups=groups), binary([0, 1] * 3, labels=labels, groups=groups)
    assert permutation_test(paired({"funny": run}, {"funny": baseline}, f"funny/{metric}")) == pytest.approx(2 / 8)
    one = [replace(item, groups=np.full(6, "x")) for item in (run, baseline)]
    assert math.isnan(permutation_test(paired({"funny": one[0]}, {"funny": one[1]}, f"funny/{metric}")))


def test_each_run_decides_by_its_own_threshold():
    """All logits are 1, a probability of 0.73: above 0.5 and not above 0.8."""
    run, baseline = (binary([1] * 4, labels=[1, 1, 1, 0], threshold=threshold) for threshold in (0.5, 0.8))
    found = compare_runs(
        {"b": {"funny": baseline}, "r": {"funny": run}}, baseline="b", metrics=["funny/recall"], split="val"
    )
    (row,) = found.rows
    assert (row.value.mean, row.baseline.mean, row.difference.mean) == (1, 0, 1)
    assert (row.run, found.baseline, found.runs, row.num_samples) == ("r", "b", ("r",), 4)
    assert row.has_few_groups
    assert dict(metrics(joined(run, baseline)))["recall"] == pytest.approx(1 / 2)


def test_d_z_by_hand():
    """-1, -2, -3: mean -2, deviation 1."""
    assert cohens_d_z(np.array([-1.0, -2, -3])) == pytest.approx(-2)
    assert math.isnan(cohens_d_z(np.array([1.0, 1])))
    assert math.isnan(cohens_d_z(np.array([1.0])))


def test_a_comparison_is_corrected_over_its_rows_and_says_what_it_leaves_out():
    generator = np.random.default_rng(0)
    labels = np.tile([0, 1], 20)
    items = {
        name: {"funny": binary(generator.integers(0, 2, 40), labels=labels, losses=generator.random(40))} for name in "abc"
    }
    items["d"] = {"funny": binary([1, 0], labels=[1, 0])}
    found = compare_runs(items, baseline="a", metrics=["funny/loss", "funny/f1"], split="val", num_resamples=200)
    pairs = [("funny/loss", "b"), ("funny/loss", "c"), ("funny/f1", "b"), ("funny/f1", "c")]
    assert [(row.metric, row.run) for row in found.rows] == pairs
    assert [note.partition(":")[0] for note in found.notes] == ["d, funny/loss", "d, funny/f1"]
    assert "did not predict the same samples" in found.notes[0]
    smallest = min(found.rows, key=lambda row: row.p_permutation)
    assert smallest.p_holm == pytest.approx(min(1, 4 * smallest.p_permutation))
    assert all(row.p_holm >= row.p_permutation for row in found.rows)
    row = found.rows[2]
    expected = over_groups(items["b"], "funny/f1", baseline=items["a"], num_resamples=200)
    bounds = (row.difference.mean, row.difference.low, row.difference.high)
    assert bounds == pytest.approx((expected.mean, expected.low, expected.high))
    losses = items["b"]["funny"].losses - items["a"]["funny"].losses
    assert row.d_z == pytest.approx(losses.mean() / losses.std(ddof=1))
    assert not row.has_few_groups


def test_the_loss_of_all_tasks_is_compared_too():
    def run(shift):
        item = binary([1, 0, 1], labels=[1, 0, 1], losses=np.array([1.0, 2, 3]) + shift)
        return {"funny": item, "sad": replace(item.subset(np.array([0, 2])), task="sad")}

    found = compare_runs({"a": run(0.0), "b": run(0.5)}, baseline="a", metrics=["loss"], split="val")
    assert found.rows[0].difference.mean == pytest.approx(0.5)
    assert found.rows[0].decisions is None
    assert found.rows[0].num_samples == 5
