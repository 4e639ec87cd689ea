"""The table of a matrix: variants against the baseline, by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from ablation_bench import AXES, Bench, begun

from mmtrain.ablation.ablate import ablate
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import TaskPredictions


def test_the_table_by_hand(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """sum less concat: 0.1, 0.2, 0.3; mean 0.2, s 0.1, t = 2 sqrt(3). For 2 degrees p = 1 - t / sqrt(t^2 + 2) =
    1 - sqrt(12 / 14), t(0.975) = 4.302653. mean less concat: 0 three times, p 1. Holm: the smaller p twice, then 1.
    """
    values = {"concat": (0.5, 0.7, 0.6), "sum": (0.6, 0.9, 0.9), "mean": (0.5, 0.7, 0.6)}
    bench.values = {(name, seed): value for name, found in values.items() for seed, value in enumerate(found)}
    bench.write(seeds=[0, 1, 2])
    assert ablate(bench.file)
    assert begun(capsys.readouterr().out) == [f"{name}-{seed}" for name in ("concat", "sum", "mean") for seed in range(3)]
    p, reach = 1 - math.sqrt(12 / 14), 4.302653 * 0.1 / math.sqrt(3)
    row = bench.variant("sum")
    assert row["values"] == [0.6, 0.9, 0.9]
    assert row["estimate"]["mean"] == pytest.approx(0.8)
    assert row["estimate"]["high"] == pytest.approx(0.8 + 4.302653 * 0.1, abs=1e-6)  # s = sqrt(0.03), s / sqrt(3) = 0.1
    numbers = {"mean": 0.2, "low": 0.2 - reach, "high": 0.2 + reach, "p": p, "p_seeds": p}
    assert row["difference"] == pytest.approx(numbers | {"num_seeds": 3, "num_groups": 0}, abs=1e-6)
    assert row["p_holm"] == pytest.approx(2 * p)
    assert row["also"] == {"val/loss": pytest.approx(1.6)}
    assert row["cost"] == {
        "seconds": 13.0,
        "samples_per_second": 50.0,
        "parameters": 1000.0,
        "trained": 10.0,
        "peak_memory": 7.0,
    }
    assert (bench.variant("mean")["difference"]["p"], bench.variant("mean")["p_holm"]) == (1.0, 1.0)
    assert bench.variant("concat")["difference"] is None
    page = (bench.folder / "ablation.md").read_text()
    assert "## trial: val/t/mae, 9 of 9 runs finished" in page
    line = " ".join(next(line for line in page.splitlines() if line.startswith("| sum")).split())
    assert line == (
        "| sum | 0.800 | [0.370, 1.230] | +0.200 | [-0.048, +0.448] | 0.0742 | 0.148 | 0.0742 | 1.600 | 3 seeds | 3 of 3 |"
    )
    assert "groups could not be resampled" in page
    assert "Open ends" not in page
    table = (bench.folder / "ablation.csv").read_text().splitlines()
    assert table[0].startswith("variant,id,axis fusion,value,value_low,value_high,difference,")
    assert [text.split(",")[0] for text in table] == ["variant", "concat", "sum", "mean"]


def test_pairs_are_of_equal_seeds_and_comparisons_that_are_out_count(bench: Bench) -> None:
    """concat is undefined for seed 0: 0.1, 0.2, 0.3 of sum are left, as above; its p counts twice though mean is out."""
    values = {"concat": (None, 0.5, 0.7, 0.6), "sum": (9.0, 0.6, 0.9, 0.9)}
    bench.values = {(name, seed): value for name, found in values.items() for seed, value in enumerate(found)}
    bench.fails = {"mean"}
    bench.write(seeds=[0, 1, 2, 3])
    ablate(bench.file)
    row, p = bench.variant("sum"), 1 - math.sqrt(12 / 14)
    assert [row["difference"][key] for key in ("mean", "p", "num_seeds")] == pytest.approx([0.2, p, 3])
    assert row["p_holm"] == pytest.approx(2 * p)


def test_two_seeds_have_no_interval(bench: Bench) -> None:
    bench.values = {("sum", 0): 1.5, ("sum", 1): 2.5}
    ablate(bench.file)
    page = (bench.folder / "ablation.md").read_text()
    line = " ".join(next(line for line in page.splitlines() if line.startswith("| sum")).split())
    assert line == (
        "| sum | 2.000 | n = 2, no interval | +1.000 | n = 2, no interval | - | - | - | 4.000 | 2 seeds | 2 of 2 |"
    )
    assert "fewer than 3 have no interval and no p" in page
    assert bench.variant("sum")["estimate"]["low"] is None
    assert [bench.variant("sum")["difference"][key] for key in ("low", "high", "p", "p_seeds")] == [None] * 4
    assert ",2.0,,,1.0,,,,," in (bench.folder / "ablation.csv").read_text()


def test_an_undefined_metric_is_said_and_left_out(bench: Bench) -> None:
    bench.values = {("sum", 1): None}
    ablate(bench.file)
    assert bench.variant("sum")["values"] == [1.0, None]
    said = f"{bench.run('sum').parent.name}: val/t/mae is not defined for seed 1"
    assert said in bench.json()["open"]
    bench.write(seeds=[0, 1, 2])
    ablate(bench.file)
    page = (bench.folder / "ablation.md").read_text()
    line = " ".join(next(line for line in page.splitlines() if line.startswith("| sum")).split())
    assert line.startswith("| sum | 1.000 | n = 2, no interval | +0.000 | n = 2, no interval | - | - | - | ")
    assert line.endswith(" 2 seeds | 2 of 3 |")


def predict(run: Path, values: list[float], split: str = "val") -> None:
    """Six samples in three groups, all labels 0: the error is the value."""
    item = TaskPredictions(
        task="t",
        kind="regression",
        classes=(),
        ids=np.array([f"s{number}" for number in range(len(values))]),
        streams=np.array(["a"] * len(values)),
        groups=np.arange(len(values)) // 2,
        labels=np.zeros(len(values)),
        logits=np.array(values),
        probabilities=np.array(values),
        losses=np.array(values),
    )
    write_predictions(run / "predictions" / f"{split}.parquet", [item])


def test_one_seed_is_compared_over_groups(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(seeds=[0], axes={"fusion": {name: AXES["fusion"][name] for name in ("concat", "sum")}})
    for number, name in enumerate(("concat", "sum")):
        predict(bench.run(name), [value + 0.5 * number for value in (1, 1, 3, 3, 8, 8)])
    # predictions that stand there already make a folder that is no run yet: here only the comparison matters
    monkeypatch.setattr("mmtrain.engine.run_folder.RunFolder.check", lambda *_, **__: True)
    bench.values = {("concat", 0): 4.0, ("sum", 0): 4.5}
    assert ablate(bench.file)
    row = bench.variant("sum")
    assert (row["difference"]["num_seeds"], row["difference"]["num_groups"]) == (1, 3)
    assert [row["difference"][key] for key in ("mean", "low", "high")] == pytest.approx([0.5] * 3)
    assert row["estimate"]["mean"] == pytest.approx(4.5)
    assert "1 seed x 3 groups" in (bench.folder / "ablation.md").read_text()
    assert "over groups: one seed; bootstrap" in (bench.folder / "ablation.md").read_text()
    predict(bench.run("sum"), [1.0, 2.0])
    assert ablate(bench.file)
    assert bench.variant("sum")["difference"] is None
    assert "sum has no interval, or is not compared: task 't': the two runs did not predict" in bench.json()["open"][0]
    (bench.run("sum") / "predictions" / "val.parquet").unlink()
    assert ablate(bench.file)
    assert bench.variant("sum")["estimate"]["mean"] == 4.5
    assert "val.parquet: no such predictions file" in bench.json()["open"][0]


def test_seeds_with_other_samples_are_not_compared(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six samples and five of them, in one seed of two: what bad samples in a modality that one variant reads come to."""
    for name in ("concat", "sum", "mean"):
        for seed in (0, 1):
            predict(bench.run(name, seed), [1.0] * (5 if (name, seed) == ("sum", 1) else 6))
    monkeypatch.setattr("mmtrain.engine.run_folder.RunFolder.check", lambda *_, **__: True)
    bench.values = {("concat", 0): 4.0, ("sum", 0): 4.5, ("sum", 1): 2.0}
    assert ablate(bench.file)
    assert bench.variant("sum")["difference"] is None
    assert bench.variant("sum")["estimate"]["num"] == 2
    assert bench.json()["open"] == [
        "sum has no interval, or is not compared: task 't': the two runs did not predict the same samples (5 and 6, of them "
        "5 the same), and their difference would be one of samples too"
    ]
    assert bench.variant("mean")["difference"]["num_seeds"] == 2


def test_seeds_and_groups_are_crossed_where_the_predictions_are_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors 1, 3, 8 of the groups; sum adds 1, 2, 3 by seed, to all groups alike: the seeds are all that differs.

    So p is that of the paired t-test, with 1 as s: 1 - t / sqrt(t^2 + 2) of t = 2 sqrt(3).
    """
    bench.write(seeds=[0, 1, 2], axes={"fusion": {name: AXES["fusion"][name] for name in ("concat", "sum")}})
    for name in ("concat", "sum"):
        for seed in range(3):
            more = (name == "sum") * (1.0 + seed)
            predict(bench.run(name, seed), [value + more for value in (1, 1, 3, 3, 8, 8)])
            bench.values[name, seed] = 4.0 + more
    monkeypatch.setattr("mmtrain.engine.run_folder.RunFolder.check", lambda *_, **__: True)
    assert ablate(bench.file)
    found = bench.variant("sum")["difference"]
    assert (found["num_seeds"], found["num_groups"]) == (3, 3)
    assert found["p"] == pytest.approx(1 - math.sqrt(12 / 14))
    assert found["p_seeds"] == pytest.approx(found["p"])
    page = (bench.folder / "ablation.md").read_text()
    assert "3 seeds x 3 groups" in page
    assert "seeds and whole groups of samples are both resampled" in page
    predict(bench.run("sum", 1), [9.0] * 6)
    assert ablate(bench.file)
    assert bench.variant("sum")["difference"] is None
    said = bench.json()["open"][0]
    assert (
        "val.parquet gives val/t/mae 9, the run's best evaluation gave 6: it was made from other weights; write it" in said
    )
    assert said.endswith(f"`mmtrain evaluate {bench.run('sum', 1)} --split val`")
