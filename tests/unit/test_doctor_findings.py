"""What `mmtrain doctor` says of numbers: each check's pure functions, at, below and above where they speak up."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mmtrain.data.schema import TaskSchema
from mmtrain.doctor import CHECKS
from mmtrain.doctor.examine import summary
from mmtrain.doctor.finding import Finding, worst
from mmtrain.doctor.gradient_reach import Reach, describe_parameters, reach_findings
from mmtrain.doctor.group_leakage import duplicate_findings, group_findings
from mmtrain.doctor.initial_loss import (
    indifferent_loss,
    initial_findings,
    is_squashed,
    reduction_findings,
    squashed_findings,
    squashed_floor,
)
from mmtrain.doctor.input_scale import scale_findings
from mmtrain.doctor.label_balance import class_counts, majority_share, stream_balance, task_balance
from mmtrain.doctor.lr_range import range_findings
from mmtrain.doctor.overfitting import Attempt, overfit_findings, rates_to_try
from mmtrain.doctor.padding import micro_batches, padding_findings, padding_share, wider_words
from mmtrain.doctor.throughput import Speed, disk_findings, in_words, speed_findings
from mmtrain.engine.throughput import Throughput
from mmtrain.objectives.losses.binary import BinaryLoss
from mmtrain.objectives.losses.multiclass import MulticlassLoss
from mmtrain.objectives.losses.multilabel import MultilabelLoss
from mmtrain.tuning.lr_curve import LrCurve

BINARY = TaskSchema(kind="binary")
MOOD = TaskSchema(kind="multiclass", classes=("first", "second", "third"))
TAGS = TaskSchema(kind="multilabel", classes=("loud", "fast"))


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.severity, finding.found) for finding in findings]


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_the_worst_decides_and_the_summary_counts():
    found = [Finding("a", severity, "x") for severity in ("note", "ok", "warning", "note")]
    assert worst(found) == "warning"
    assert worst([]) == "ok"
    assert summary([*found, Finding("b", "problem", "x")]) == "1 problem, 1 warning, 2 notes"
    assert Finding("a", "note", "x", "y=1").lines() == ["a: note: x", "    fix: y=1"]
    assert Finding("a", "ok", "x").lines() == ["a: ok: x"]


def test_the_table_is_in_the_order_of_the_page():
    assert list(CHECKS) == [
        *("label_balance", "group_leakage", "input_scale", "padding", "initial_loss", "gradient_reach", "overfit"),
        *("lr_range", "throughput"),
    ]


def test_counts_shares_and_the_majority():
    assert class_counts(BINARY, np.array([0.0, 1, 1])) == {"0": 1, "1": 2}
    assert class_counts(MOOD, np.array([2.0, 2, 0])) == {"first": 1, "second": 0, "third": 2}
    assert class_counts(TAGS, np.array([[1.0, 0], [1, 1]])) == {"loud": 2, "fast": 1}
    assert class_counts(TaskSchema(kind="regression"), np.array([1.0])) == {}
    assert majority_share(BINARY, np.array([0.0, 0, 1]), np.array([0.0, 0, 0, 1])) == 0.75
    assert majority_share(BINARY, np.array([1.0, 1, 0]), np.array([0.0, 0, 0, 1])) == 0.25  # of training, not of validation
    assert majority_share(TAGS, np.ones((2, 2)), np.ones((2, 2))) is None


def test_a_stream_is_described_in_numbers():
    finding = only(stream_balance("clips/funny", BINARY, np.array([0.0, 1, 1, 1]), np.array([1.0, 0]), num_samples=8))
    assert finding.severity == "ok"
    assert finding.found == (
        "clips/funny: 4 of 8 training samples carry a label (50%); 0: 1, 1: 3; the rarest is 0 with 25.0%; always saying "
        "the most frequent class has a validation accuracy of 0.500"
    )
    sparse = only(
        stream_balance("clips/pitch", TaskSchema(kind="regression"), np.array([1.0, 3]), np.zeros(0), num_samples=50)
    )
    assert sparse.severity == "note"
    assert "2 of 50 training samples carry a label (4%); mean 2, deviation 1" in sparse.found


def balance(schema, train, val, *, is_weighted=False, metric="val/loss"):
    return task_balance("mood", schema, np.array(train, float), np.array(val, float), is_weighted=is_weighted, metric=metric)


def test_one_class_and_absent_classes():
    assert only(balance(BINARY, [1, 1, 1], [0, 1])).severity == "problem"
    assert "all 3 training labels are of class 1: there is nothing to learn" in only(balance(BINARY, [1, 1, 1], [0])).found
    absent = only(balance(MOOD, [0, 1, 2, 0], [0, 1, 0]))
    assert (absent.severity, absent.found) == (
        "warning",
        "mood: no validation label is of class third: metrics say nothing of it",
    )
    assert "--stratify mood" in absent.fix
    assert "no training label is of class third" in only(balance(MOOD, [0, 1, 0], [0, 1])).found
    assert "no validation sample carries a label" in only(balance(MOOD, [0, 1, 2], [])).found
    assert balance(MOOD, [0, 1, 2], [0, 1, 2]) == []
    same = only(balance(TaskSchema(kind="regression"), [1, 2], [3, 3]))
    assert same.found == "mood: all 2 validation labels are 3: no correlation is defined"


def test_an_accuracy_that_says_nothing():
    train, val = [0] * 18 + [1] * 2, [0] * 9 + [1]
    finding = only(balance(BINARY, train, val))
    assert (finding.severity, finding.found) == (
        "warning",
        "mood: always saying the most frequent class has a validation accuracy of 0.900",
    )
    assert "tasks.mood.loss: {name: binary, pos_weight: auto}" in finding.fix
    assert only(balance(BINARY, train, val, is_weighted=True)).severity == "note"
    selects = only(balance(BINARY, train, val, is_weighted=True, metric="val/mood/accuracy"))
    assert (selects.severity, selects.fix) == ("warning", "selection: {metric: val/mood/macro_f1, mode: max}")
    assert balance(BINARY, train, [0] * 8 + [1] * 2) == []
    rare = only(balance(TAGS, [[1, 0]] * 19 + [[0, 1]], [[1, 1], [0, 0]]))
    assert (rare.severity, rare.fix) == ("note", "tasks.mood.loss: {name: multilabel, pos_weight: auto}")
    assert "positive for fast" in rare.found


def test_a_group_on_two_sides_is_a_problem():
    finding = only(group_findings("clips", ["f", "f", "g", ""], ["train", "val", "test", "train"], path="s"))
    assert finding.severity == "problem"
    assert finding.found.startswith("clips: 1 of 2 groups stand in more than one split, such as 'f'")
    assert finding.fix == "divide by groups: python -m data_prep split s --out NEW"


def test_few_groups_and_groups_of_one():
    groups = [f"g{number}" for number in range(100) for _ in range(2)]
    splits = ["train"] * 80 + ["val"] * 60 + ["test"] * 60
    assert said(group_findings("clips", groups, splits, path="s")) == [
        ("ok", "clips: 100 groups, each on one side of the split")
    ]
    few = only(group_findings("clips", groups, ["train"] * 140 + ["val"] * 58 + ["test"] * 2, path="s"))
    assert (few.severity, few.found[:36]) == ("note", "clips: groups in val 29, in test 1: ")
    single = only(group_findings("clips", [f"g{number}" for number in range(200)], splits, path="s"))
    assert "every sample is a group of its own" in single.found


def test_copies_across_splits():
    keys = [("k1", "train", "a"), ("k2", "train", "b"), *((f"k{number}", "val", f"v{number}") for number in range(3, 103))]
    assert said(duplicate_findings("texts", keys, most=0.05, is_all=False)) == [
        ("ok", "texts: none of 100 in val and test stands in train too")
    ]
    one = [*keys, ("k2", "test", "t")]
    assert only(duplicate_findings("texts", one, most=0.05, is_all=False)).severity == "note"
    finding = only(duplicate_findings("audio rows", one, most=0.01, is_all=True))
    assert finding.severity == "warning"
    assert "1 of 101 samples of val and test (1.0%) have the audio rows of a training sample, such as 't' those of 'b'" in (
        finding.found
    )
    many = [*keys, *(("k1", "test", f"t{number}") for number in range(10))]
    assert only(duplicate_findings("texts", many, most=0.05, is_all=False)).severity == "warning"
    assert only(duplicate_findings("texts", many, most=0.05, is_all=True)).severity == "problem"
    assert duplicate_findings("texts", keys[:2], most=0.05, is_all=True) == []
    assert (
        "(time was up after 102 samples)" in only(duplicate_findings("x", keys, most=0.1, is_all=True, is_whole=False)).found
    )


def scale(rows, **changes):
    return scale_findings("clips/audio", rows, **({"is_normalized": False, "path": "s"} | changes))


def test_rows_of_unit_variance_are_well_and_large_ones_are_not():
    rows = np.random.default_rng(0).standard_normal((400, 4))
    assert only(scale(rows)).severity == "ok"
    assert "normalization on" in only(scale(rows, is_normalized=True)).found
    large = only(scale(1e4 * rows))
    assert large.severity == "warning"
    assert "where layers are made for about 1: too large" in large.found
    assert "python -m data_prep stats s --out NEW --normalize" in large.fix
    assert "too small" in only(scale(1e-3 * rows)).found
    assert "too large" in only(scale(rows + 50)).found  # also where the mean alone is far away
    uneven = only(scale(rows * np.array([1e-2, 1e-2, 1e-2, 5.0])))
    assert (uneven.severity, "column 3 has a deviation of" in uneven.found) == ("warning", True)


def test_columns_rows_and_values_that_stand_out():
    rows = np.random.default_rng(0).standard_normal((400, 4))
    dead = rows.copy()
    dead[:, 0], dead[:, 1] = 0.1, 1e-6 * rows[:, 1]
    assert ("note", "clips/audio: 1 of 4 columns are constant, 1 nearly so") in said(scale(dead))
    dead[:, 2] = 0.0
    assert ("warning", "clips/audio: 2 of 4 columns are constant, 1 nearly so") in said(scale(dead))
    padded = np.concatenate([rows, np.zeros((100, 4))])
    assert any(
        severity == "warning" and "20.0% of the rows are all zero" in words for severity, words in said(scale(padded))
    )
    far = rows.copy()
    far[0, 0] = 100.0
    assert ("note", "clips/audio: 1 values (0.06%) lie beyond 10 deviations of their column") in said(scale(far))
    broken = rows.copy()
    broken[3] = np.nan
    assert said(scale(broken)) == [("problem", "clips/audio: 1 of 400 rows hold NaN or Inf")]
    assert only(scale(rows[:0])).severity == "warning"


def test_the_share_of_padding_by_hand():
    def share(batches: list[list[int]], **bounds: int | None) -> float | None:
        lengths = np.array(batches)
        parts = [micro_batches(batch[:, None], **{"tokens": None, "micro": None} | bounds) for batch in lengths]
        return padding_share(lengths, parts)

    assert share([[1, 3, 0, 4]]) == pytest.approx(1 - 8 / 12)  # three that have it, each 4 wide
    assert share([[1, 3, 0, 4]], micro=2) == pytest.approx(1 - 8 / (6 + 4))
    assert share([[1, 3, 0, 4]], tokens=8) == pytest.approx(1 - 8 / (8 + 1))  # 4 beside 3, and 1 beside nothing
    assert share([[2, 2], [5, 5]], micro=2) == 0
    assert share([[0, 0]], micro=2) is None


def test_other_settings_are_named_where_they_gain():
    others = {"curriculum.group_by_length: true": {"audio": 0.15}, "curriculum.window: 200": {"audio": 0.12}}
    finding = only(padding_findings({"audio": 0.45}, others, is_grouped=False))
    assert (finding.severity, finding.fix) == ("note", "curriculum.group_by_length: true")
    assert "audio 45%; curriculum.group_by_length is off; it would be audio 15%" in finding.found
    assert only(padding_findings({"audio": 0.2}, others, is_grouped=True)).severity == "ok"
    assert only(padding_findings({}, {}, is_grouped=True)).severity == "ok"


def test_a_wider_window_is_one_that_the_run_would_have():
    longer = "training.steps_per_epoch: 28 with fewer epochs, since a window ends with its epoch"
    wider = "curriculum.window: 28 (with evaluations on its borders)"
    assert wider_words(28, window=7, steps_per_epoch=28) == wider
    assert wider_words(28, window=50, steps_per_epoch=7) == longer
    assert wider_words(28, window=7, steps_per_epoch=7) == f"{wider}, {longer}"


def test_logits_that_are_probabilities_are_seen():
    logits = np.random.default_rng(0).standard_normal((20, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    finding = only(squashed_findings("mood", "multiclass", probabilities))
    assert finding.severity == "problem"
    assert "a softmax stands before the cross-entropy, whose loss then cannot fall below 0.55" in finding.found
    assert squashed_findings("mood", "multiclass", logits) == []
    assert squashed_findings("mood", "multiclass", np.full((4, 3), 0.5)) == []
    assert squashed_findings("tags", "multilabel", probabilities) == []
    assert not is_squashed(np.zeros((0, 3)))
    assert squashed_floor(3) == pytest.approx(-math.log(math.e / (math.e + 2)))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_loss_is_one_value_a_sample(kind):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(8, generator=random) if kind == "binary" else torch.randn(8, 3, generator=random)
    targets = (logits > 0).float() if kind != "multiclass" else logits.argmin(dim=1)
    loss = {"binary": BinaryLoss(pos_weight=3.0), "multiclass": MulticlassLoss(), "multilabel": MultilabelLoss()}[kind]

    def changed(change):
        return SimpleNamespace(training=lambda *given: change(loss.training(*given)))

    assert reduction_findings("funny", loss, logits, targets) == []
    scalar = only(reduction_findings("funny", changed(torch.mean), logits, targets))
    assert (scalar.severity, scalar.found) == (
        "problem",
        "funny: its loss does not give one value a sample: shape [] for 8 samples",
    )
    for change in (lambda values: values.mean().expand(len(values)), lambda values: values / len(values)):
        spread = only(reduction_findings("funny", changed(change), logits, targets))
        assert spread.found.startswith("funny: its loss of a sample depends on the samples beside it")
    assert reduction_findings("funny", loss, logits[:1], targets[:1]) == []


def initial(mean, *, kind="binary", chance=0.6931, knows=False, count=64):
    losses = mean + 0.01 * np.where(np.arange(count) % 2, 1.0, -1.0)
    return only(
        initial_findings(
            "funny", losses, chance=chance, indifferent=indifferent_loss(kind, 2), knows=knows, key="tasks.funny.loss"
        )
    )


def test_the_first_loss_against_chance():
    assert (indifferent_loss("multiclass", 4), indifferent_loss("regression", 1)) == (math.log(4), 1.0)
    assert initial(0.72).severity == "ok"
    assert "loss 0.720 +- 0.001 at initialization; chance (class frequencies alone) is 0.693" in initial(0.72).found
    assert initial(0.72, chance=-1e-17).found.endswith("chance (class frequencies alone) is 0.000")
    assert initial(0.7, chance=0.2).severity == "ok"  # it knows no frequencies yet
    assert initial(1.5).severity == "note"
    assert initial(4.0).severity == "warning"
    assert "standardize: true" in initial(30.0, kind="regression", chance=1.0).fix
    leak = initial(0.2)
    assert (leak.severity, leak.found.endswith("a label leaks")) == ("warning", True)
    assert initial(0.2, knows=True).severity == "ok"
    assert initial(0.4).severity == "ok"
    assert initial(float("nan")).severity == "problem"


def reached(**changes):
    parameters = {"fusion.weight": {"funny": 1.0}, "heads.funny_head.weight": {"funny": 4.0}}
    sizes = dict.fromkeys(parameters, 4)
    return Reach(
        **({"parameters": parameters, "sizes": sizes, "modalities": {"audio": {"funny": 1.0}}, "tasks": {"funny"}} | changes)
    )


def test_what_no_gradient_reaches_is_named():
    assert said(reach_findings(reached(), ["funny"])) == [
        ("ok", "every one of 2 trained tensors has a gradient from funny"),
        ("ok", "root mean square of the gradient: 1 in heads.funny_head, 0.5 in fusion (2 times)"),
    ]
    parameters = {"fusion.weight": {}, "fusion.bias": {"funny": 0.0}, "heads.funny_head.weight": {"funny": 4.0}}
    findings = said(reach_findings(reached(parameters=parameters, sizes=dict.fromkeys(parameters, 1)), ["funny"]))
    assert ("warning", "1 trained tensors get no gradient from any task: fusion.weight") in findings
    assert ("warning", "1 trained tensors get a gradient of exactly 0 from every task: fusion.bias") in findings
    nothing = reach_findings(reached(parameters={"a.b": {}}, sizes={"a.b": 1}), ["funny"])
    assert nothing[0].severity == "problem"


def test_heads_without_labels_and_what_begins_at_rest_are_not_blamed():
    parameters = reached().parameters | {"heads.mood_head.weight": {}, "placeholders.rows.video_row": {"funny": 0.0}}
    parameters["text.encoder.q.lora_A.default.weight"] = {"funny": 0.0}
    findings = reach_findings(reached(parameters=parameters, sizes=dict.fromkeys(parameters, 1)), ["funny", "mood"])
    assert worst(findings) == "note"
    assert any(finding.found.startswith("mood: no label in the batches") for finding in findings)


def test_deaf_modalities_frozen_parts_and_numbers_that_are_none():
    deaf = reach_findings(reached(modalities={"audio": {"funny": 0.0}, "video": {}}), ["funny"])
    assert [finding.found.split(":")[0] for finding in deaf if finding.severity == "warning"] == [
        "modality 'audio' has no influence",
        "modality 'video' has no influence",
    ]
    frozen = reach_findings(reached(frozen={"text.encoder.a": 5, "text.encoder.b": 2000}), ["funny"])
    assert ("note", "frozen parameters: text.encoder (2,005)") in said(frozen)
    everything = only(reach_findings(Reach(frozen={"a": 3}), ["funny"]))
    assert (everything.severity, everything.found) == (
        "problem",
        "none of the model's 3 parameters is trained: all are frozen",
    )
    broken = reached(parameters={"fusion.weight": {"funny": math.inf}})
    assert said(reach_findings(broken, ["funny"]))[0] == (
        "problem",
        "the gradient of 'funny' at fusion.weight holds NaN or Inf",
    )
    uneven = reached(parameters={"fusion.weight": {"funny": 1e10}, "heads.funny_head.weight": {"funny": 4.0}})
    assert "(50,000 times)" in said(reach_findings(uneven, ["funny"]))[-1][1]
    assert reach_findings(uneven, ["funny"])[-1].severity == "note"


def test_a_frozen_batch_norm_that_has_learned_nothing_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    for number in (1, 2):
        model[number].requires_grad_(False)
    model[2].running_mean.add_(1.0)
    reach = describe_parameters(model)
    assert reach.idle_norms == ["1"]
    assert (set(reach.frozen), len(reach.sizes)) == ({"1.weight", "1.bias", "2.weight", "2.bias"}, 4)
    findings = reach_findings(reach, [])
    assert any("batch norms are frozen with statistics that were never learned" in finding.found for finding in findings)
    assert torch.equal(model[1].running_mean, torch.zeros(2))


def tried(lr, *losses, squashed=False, diverged=False):
    return Attempt(lr, {"funny": list(losses)}, {"funny"} if squashed else set(), diverged)


def judge(*attempts, goals=None, is_whole=True):
    return only(overfit_findings(attempts, {"funny": 0.35} if goals is None else goals, num_samples=8, is_whole=is_whole))


def test_rates_go_up_before_they_go_down():
    assert rates_to_try(1e-3) == [1e-3, 1e-2, 1e-1, 1.0]
    assert rates_to_try(10.0) == [10.0, 1.0, 1e-1, 1e-2, 1e-3]
    assert rates_to_try(2e-2) == [2e-2, 1e-1, 1.0, 1e-3]


def test_a_batch_that_is_learned_by_heart_or_not():
    learned = judge(tried(0.01, 0.7, 0.5, 0.3))
    assert (learned.severity, learned.found) == (
        "ok",
        "one batch of 8 samples is learned: funny 0.700 to 0.300 in 3 steps at lr 0.01",
    )
    slow = judge(tried(0.001, 0.7, 0.5), tried(0.01, 0.7, 0.3))
    assert (slow.severity, "the rate may be low" in slow.found) == ("note", True)
    assert judge(tried(1e-5, 0.7, 0.69), tried(1e-3, 0.7, 0.3)).severity == "warning"
    high = judge(tried(10.0, 0.7, 9.0), tried(0.01, 0.7, 0.3))
    assert (high.severity, "the rate may be high" in high.found) == ("warning", True)
    never = judge(tried(0.01, 0.7, 0.6), tried(0.1, 0.7, 0.5))
    assert never.severity == "problem"
    assert "funny: one batch cannot be learned by heart" in never.found
    assert "below 0.350 at none of lr 0.01, 0.1" in never.found
    assert judge(tried(0.01, 0.7, 0.6), is_whole=False).severity == "note"
    assert judge(tried(0.01, 0.7, 0.7), is_whole=False).severity == "problem"
    squashed = judge(tried(0.01, 0.7, 0.6, squashed=True), tried(0.1, 0.7, 0.5, squashed=True))
    assert "all logits lie from 0 to 1: a softmax or sigmoid stands before the loss" in squashed.found
    assert "take the softmax or sigmoid out of the head of 'funny'" in squashed.fix
    assert "NaN or Inf after 1 steps" in judge(tried(10.0, 0.7, diverged=True)).found
    assert judge(tried(0.01), goals={}).severity == "note"


def curve(*losses, first=1e-6, factor=10.0, diverged=False):
    made = LrCurve(0.0)
    for number, loss in enumerate(losses):
        made.add(first * factor**number, loss)
    assert made.diverged == diverged
    return made


def test_where_the_rate_stands_in_the_range():
    falls = (1.0, 1.0, 1.0, 0.9, 0.5, 0.45, 0.44)  # the steepest fall around 1e-3 (central differences)
    assert only(range_findings(curve(*falls), 1e-3)).severity == "ok"
    low = only(range_findings(curve(*falls), 1e-6))
    assert (low.severity, "times below the fastest fall" in low.found) == ("note", True)
    high = only(range_findings(curve(*falls), 2.0))
    assert (high.severity, "times above the fastest fall" in high.found) == ("warning", True)
    diverging = curve(*falls, 100.0, diverged=True)  # at 10
    beyond = only(range_findings(diverging, 10.0))
    assert (beyond.severity, beyond.found) == (
        "problem",
        "training.optimizer.lr is 10, and the loss diverges at 10 of a range test",
    )
    assert "training.optimizer.lr=0.001" in beyond.fix
    assert only(range_findings(diverging, 0.01)).severity == "ok"
    risen = only(range_findings(curve(*falls[:6], 0.9), 1.0))
    assert (risen.severity, "has risen to 0.9 again" in risen.found) == ("warning", True)
    nowhere = only(range_findings(curve(1.0, 1.1, 1.2, 1.3), 1e-6))
    assert (nowhere.severity, nowhere.found) == ("note", "the loss fell nowhere in 4 steps of a range test")
    assert nowhere.fix == "mmtrain tune lr CONFIG draws the curve"
    assert only(range_findings(LrCurve(0.8), 1.0)).severity == "problem"


def test_noise_decides_nothing_of_the_range():
    """Batches of two streams alternate, and the first one lies below almost all that follow."""
    noisy = LrCurve(0.8)
    for number in range(60):
        noisy.add(1e-6 * 1.26**number, 4.7 if number % 2 else 2.4)
    finding = only(range_findings(noisy, 1e-3))
    assert (finding.severity, finding.found) == (
        "note",
        "too noisy to tell whether the loss falls in 60 steps of a range test",
    )
    assert finding.fix == "mmtrain tune lr CONFIG: try a larger batch.size, or --steps 240 --smoothing 0.95"
    low = LrCurve(0.8)  # a lonely low loss at the beginning is no least one, from which the others would have risen
    for number in range(60):
        low.add(1e-6 * 1.26**number, (1.3 if not number else 4.0) - max(0, number - 40) * 0.1)
    assert only(range_findings(low, 1.0)).severity == "ok"


def test_time_to_finish_memory_and_disk():
    passed = Throughput(samples=80, seconds=2.0, real={"text": 400, "audio": 100}, total={"text": 500, "audio": 100})
    speed = Speed(passed, steps=10, waited=0.5, peak=3 * 2**20)
    assert only(speed_findings(speed, total_steps=36_000, evaluations=3600.0, device="cpu")).found == (
        "200.0 ms a step on cpu (40 samples/s, 200 tokens/s); 36,000 steps and 1 h 0 min of evaluations: "
        "3 h 0 min to finish; peak memory 3 MiB"
    )
    speed.waited = 1.5
    waiting = speed_findings(speed, total_steps=1, evaluations=0.0, device="cpu")[1]
    assert waiting.found.startswith("75% of a step is spent waiting for its batch")
    assert only(speed_findings(Speed(), total_steps=1, evaluations=0.0, device="cpu")).severity == "note"
    times = (0.04, 59.4, 60, 3725, 90000)
    assert [in_words(seconds) for seconds in times] == ["0.0 s", "59 s", "1 min 0 s", "1 h 2 min", "1 d 1 h"]
    size = 10 * 2**20
    assert only(disk_findings(size, keep=2, free=39 * 2**20, folder="runs/x")).severity == "problem"
    assert only(disk_findings(size, keep=2, free=79 * 2**20, folder="runs/x")).severity == "note"
    enough = only(disk_findings(size, keep=2, free=80 * 2**20, folder="runs/x"))
    assert enough.found == "the 2 newest checkpoints, the best and the next one take 40 MiB; runs/x has 80 MiB free"
