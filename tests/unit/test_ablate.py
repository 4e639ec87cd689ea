"""A matrix from call to call, with runs that take no time: what is begun, kept, tried again, compared and said."""

import json
import math
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mmtrain.ablation import ablate as module
from mmtrain.ablation import processes, report, status
from mmtrain.ablation.ablate import ablate, tabulate
from mmtrain.ablation.contents import build_report
from mmtrain.ablation.memory_watch import MemoryWatch
from mmtrain.ablation.plan import Plan, PlannedRun, read_plan
from mmtrain.ablation.processes import Job
from mmtrain.compatibility import stores_key
from mmtrain.config import load_experiment
from mmtrain.engine.code_version import code_now
from mmtrain.engine.run_lock import RunLock
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.report import has_report
from mmtrain.report.parts import Chart

EXPERIMENT = {
    "name": "base",
    "datasets": {"a": {"store": "a"}},
    "streams": {"a": {"dataset": "a", "tasks": ["t"]}},
    "model": {"dim": 8, "sequences": {"audio": {"name": "linear"}}},
}
AXES = {"fusion": {name: {"model.fusion": {"name": name}} for name in ("concat", "sum", "mean")}}
GRID = [(name, rate) for name in ("concat", "sum", "mean") for rate in ("low", "high")]
CORNERS = ("concat-low", "concat-high", "sum-low", "sum-high")
# what training would leave: two evaluations, of which the first was the best; a window that a killed run made twice; epochs,
# whose seconds are those of their windows
RUN = """
import json, pathlib, shutil, sys
folder, how = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
matrix = folder.parent.parent
shutil.copy(matrix / "ablation.md", matrix / ("seen-%s-%s.md" % (folder.parent.name[:3], folder.name)))
if how.get("fails"): sys.exit("first\\n" + how["fails"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").touch()
(folder / "environment.json").write_text(json.dumps([how["environment"]]))
metrics = [{"kind": "evaluation", "step": step, "best": best, "metrics": {"val/t/mae": value, "val/loss": 2 * (value or 0)}}
    for step, best, value in ((1, True, how["value"]), (2, False, 9.0))]
windows = [{"kind": "window", "step": step, "seconds": seconds, "samples_per_second": rate}
    for step, seconds, rate in ((1, 5.0, 90.0), (2, 70.0, 1.0), (2, 7.0, 10.0), (3, 1.0, 50.0))]
epochs = [{"kind": "epoch", "step": step, "seconds": seconds, "samples_per_second": 9.0, "peak_memory_mib": peak}
    for step, seconds, peak in ((2, 12.0, 7.0), (3, 1.0, 6.5))]
for name, records in (("metrics", metrics), ("timing", [*windows[:3], epochs[0], windows[3], epochs[1]])):
    (folder / (name + ".jsonl")).write_text("".join(json.dumps(record) + "\\n" for record in records))
(folder / "how").write_text(sys.argv[3])
"""
TEST = """
import json, pathlib, sys
(pathlib.Path(sys.argv[1]) / "evaluation").mkdir(exist_ok=True)
values = {"step": 4, "metrics": {"test/t/mae": float(sys.argv[2]), "test/loss": 1.0}}
(pathlib.Path(sys.argv[1]) / "evaluation" / "test.json").write_text(json.dumps(values))
"""


class Bench:
    """A matrix whose runs are made by a few lines of Python; `values` by variant and seed, `fails` by variant."""

    def __init__(self, root: Path) -> None:
        self.root, self.values, self.fails, self.file = root, {}, set(), root / "trial.yaml"
        self.last_words = "last words"
        (root / "base.yaml").write_text(yaml.safe_dump(EXPERIMENT | {"runs": str(root / "runs")}))
        self.write()

    def write(self, **changes: Any) -> None:
        values: dict[str, Any] = {"name": "trial", "experiment": "base.yaml", "axes": AXES, "seeds": [0, 1]}
        values |= {"baseline": {"fusion": "concat"}, "metric": "val/t/mae", "also": ["val/loss"]} | changes
        self.file.write_text(yaml.safe_dump(values, sort_keys=False))

    @property
    def plan(self) -> Plan:
        return read_plan(self.file)

    @property
    def folder(self) -> Path:
        return self.root / "runs" / "trial"

    def run(self, name: str, seed: int = 0) -> Path:
        return next(run.folder.path for run in self.plan.runs if (run.variant.name, run.seed) == (name, seed))

    def command(self, _: Plan, run: PlannedRun, *, overwrite: bool) -> tuple[str, ...]:
        parameters = {"total": 1000, "trained": 10}
        how = {
            "value": self.values.get((run.variant.name, run.seed), 1.0),
            "fails": self.last_words if run.variant.name in self.fails else "",
            "environment": code_now() | {"parameters": parameters},
        }
        mode = "anew" if overwrite else "on"
        order = self.root / f"{run.variant.id}-{run.seed}.json"
        order.write_text(json.dumps(how))
        return (sys.executable, "-S", "-c", RUN, str(run.folder.path), str(order), mode)

    def json(self) -> dict[str, Any]:
        return json.loads((self.folder / "ablation.json").read_text())

    def variant(self, name: str) -> dict[str, Any]:
        return next(row for row in self.json()["variants"] if row["variant"] == name)


def fake_reading(plan: Plan, run: PlannedRun) -> Job:
    command = (sys.executable, "-S", "-c", TEST, str(run.folder.path), str(1 + run.seed))
    return Job(run.label, command, run.folder.path, plan.folder / "logs" / "test.log")


def finished(experiment: Any) -> bool:
    if (experiment.folder / "misfit").exists():
        raise CheckpointError(
            "cannot resume, the run was made with other settings:\n  batch.size: was 7, is 32\n"
            f"  stores.a: was '{'1a' * 32}', is '{'2b' * 32}'\nPut them back"
        )
    return (experiment.folder / "how").exists()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setattr(module, "command_of", made.command)
    monkeypatch.setattr(module, "check_plan", lambda *_: None)
    monkeypatch.setattr(module, "reading_job", fake_reading)
    monkeypatch.setattr(status, "is_finished", finished)
    monkeypatch.setattr(report, "has_report", lambda: False)  # it takes as long as the rest
    monkeypatch.setattr(processes, "_POLL", 0.005)
    return made


def begun(text: str) -> list[str]:
    return [line.split("-")[0] + line.split("/seed")[1][:2] for line in text.splitlines() if ": begins, log " in line]


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


def test_what_is_finished_stays_and_what_is_new_runs_alone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    ablate(bench.file)
    capsys.readouterr()
    assert ablate(bench.file)
    assert begun(capsys.readouterr().out) == []
    bench.write(axes={"fusion": AXES["fusion"] | {"gated": {"model.fusion": {"name": "gated"}}}}, seeds=[0, 1, 2])
    assert ablate(bench.file)
    assert begun(capsys.readouterr().out) == ["concat-2", "sum-2", "mean-2", "gated-0", "gated-1", "gated-2"]
    bench.write(design=[["sum"]], seeds=[1])
    assert ablate(bench.file)
    assert begun(capsys.readouterr().out) == []
    assert [row["variant"] for row in bench.json()["variants"]] == ["concat", "sum"]
    assert bench.variant("sum")["seeds"] == [1]


def test_the_page_is_written_behind_every_run(bench: Bench) -> None:
    ablate(bench.file)
    seen = {seed: (bench.folder / f"seen-{name}-seed-{seed}.md").read_text() for name, seed in (("con", 0), ("con", 1))}
    assert "0 of 6 runs finished" in seen[0]
    assert f"- {bench.run('concat').parent.name}/seed-0: not begun" in seen[0]
    assert "1 of 6 runs finished" in seen[1]
    assert "5 of 6 runs finished" in (bench.folder / "seen-mea-seed-1.md").read_text()


def test_one_that_fails_is_listed_and_tried_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.fails = {"sum"}
    assert not ablate(bench.file)
    label = f"{bench.run('sum').parent.name}/seed-0"
    assert f"{label}: failed: last words; 2 of 6 runs finished" in capsys.readouterr().out
    assert f"- {label}: failed: last words" in (bench.folder / "ablation.md").read_text()
    assert bench.variant("sum")["estimate"] is None
    assert bench.variant("mean")["difference"]["mean"] == 0.0
    assert ablate(bench.file, dry_run=True)
    assert f"# {label}: failed: last words" in capsys.readouterr().out
    bench.fails = set()
    assert ablate(bench.file)
    assert begun(capsys.readouterr().out) == ["sum-0", "sum-1"]
    assert bench.json()["open"] == []


def test_one_that_is_killed_for_memory_is_called_so_with_the_most_that_it_held(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watch(MemoryWatch):
        def look(self, _: int, **__: object) -> float:
            self.peak = 1234.4
            return self.peak

        def kills(self) -> int:
            return 1

    killed = "import os, time; print('step 3', flush=True); time.sleep(0.1); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(processes, "_LOOK", 0.0)
    monkeypatch.setattr(processes, "MemoryWatch", Watch)
    monkeypatch.setattr(module, "command_of", lambda *_, **__: (sys.executable, "-S", "-c", killed))
    bench.write(seeds=[0])
    assert not ablate(bench.file)
    assert {run["note"] for run in bench.json()["runs"]} == {"killed for memory, at 1,234 MiB or more"}
    monkeypatch.setattr(Watch, "kills", lambda _: 0)
    ablate(bench.file)
    assert {run["note"] for run in bench.json()["runs"]} == {"killed by signal 9 after: step 3"}


def test_a_dry_run_starts_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(bench.file, dry_run=True, jobs=2)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("OMP_NUM_THREADS=") for line in lines) == 6
    assert sum(line.endswith(": not begun") for line in lines) == 6
    assert not (bench.root / "runs").exists()


def test_other_code_is_shown_and_trained_anew_when_asked(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    ablate(bench.file)
    file = bench.run("sum", 1) / "environment.json"
    before = json.loads(file.read_text())
    before[0]["versions"]["mmtrain"] = "0.0.1"
    file.write_text(json.dumps(before))
    capsys.readouterr()
    assert ablate(bench.file)
    out = capsys.readouterr().out
    label = f"{bench.run('sum').parent.name}/seed-1"
    assert begun(out) == []
    assert f"made by mmtrain 0.0.1, now {code_now()['versions']['mmtrain']} (--rerun-stale trains anew): {label}" in out
    assert ablate(bench.file, rerun_stale=True)
    assert begun(capsys.readouterr().out) == ["sum-1"]
    assert [(bench.run("sum", seed) / "how").read_text() for seed in (0, 1)] == ["on", "anew"]
    assert bench.json()["open"] == []


def test_a_run_of_other_settings_is_never_reused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.values = {("sum", 0): 100.0}
    ablate(bench.file)
    (bench.run("sum") / "misfit").touch()
    capsys.readouterr()
    assert not ablate(bench.file)
    out = capsys.readouterr().out
    assert begun(out) == []
    assert (
        "seed-0: of other settings: batch.size: was 7, is 32; stores.a: was 1a1a1a1a1a1a, is 2b2b2b2b2b2b "
        "(--rerun-stale trains it anew)"
    ) in out
    assert bench.variant("sum")["seeds"] == [1]
    assert bench.variant("sum")["values"] == [1.0]
    (bench.run("sum") / "misfit").unlink()


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


def test_variants_share_opened_stores_where_they_leave_out_the_same_samples(bench: Bench) -> None:
    more = "model.sequences={audio: {name: linear}, video: {name: linear}}"
    plain, wide = (stores_key(load_experiment(bench.root / "base.yaml", words)) for words in ([], [more]))
    assert plain == wide
    skip = [["batch.on_bad_sample=skip", *words] for words in ([], [more], [more, "streams.a.modalities=[audio]"])]
    heard, both, named = (stores_key(load_experiment(bench.root / "base.yaml", words)) for words in skip)
    assert heard == named
    assert len({plain, heard, both}) == 3


def checkpoints(bench: Bench) -> None:
    for run in (run for run in bench.plan.runs if run.folder.is_run()):
        folder = run.folder.checkpoints / "step-4"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(run.label)
        (run.folder.checkpoints / "best").symlink_to("step-4")


def reads(bench: Bench) -> list[str]:
    file = bench.folder / "test_reads.jsonl"
    return [json.loads(line)["run"] for line in file.read_text().splitlines()] if file.exists() else []


def test_the_test_split_is_read_once_and_written_down(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.values = {("sum", 0): 0.5, ("sum", 1): 0.4}
    ablate(bench.file)
    checkpoints(bench)
    assert ablate(bench.file, final=["best", "concat"])
    labels = [f"{bench.run(name).parent.name}/seed-{seed}" for name in ("sum", "concat") for seed in (0, 1)]
    assert reads(bench) == labels
    tested = {row["variant"]: row for row in bench.json()["test"]}
    assert {name: row["values"] for name, row in tested.items()} == {"concat": [1.0, 2.0], "sum": [1.0, 2.0]}
    assert tested["sum"]["difference"]["mean"] == 0.0
    page = (bench.folder / "ablation.md").read_text()
    assert "trial: test/t/mae, read when the variants were chosen" in page
    assert "the test split was read 4 times for runs of this matrix" in page
    capsys.readouterr()
    assert ablate(bench.file, final=[bench.run("sum").parent.name])
    assert "its test split was read before, and is not read again" in capsys.readouterr().out
    assert reads(bench) == labels
    manifest = bench.run("sum", 1) / "checkpoints" / "best" / "manifest.json"
    manifest.write_text("another training")
    assert ablate(bench.file, final=["sum"])
    assert reads(bench) == [*labels, labels[1]]
    scores = bench.run("concat") / "evaluation" / "test.json"  # of another checkpoint, by `mmtrain evaluate`
    scores.write_text(json.dumps({"step": 8, "metrics": {"test/t/mae": 7.0}}))
    assert ablate(bench.file)
    assert next(row for row in bench.json()["test"] if row["variant"] == "concat")["seeds"] == [1]
    assert ablate(bench.file, final=["concat"])
    assert reads(bench) == [*labels, labels[1], labels[2]]


def test_what_final_refuses(bench: Bench) -> None:
    bench.fails = {"sum"}
    ablate(bench.file)
    with pytest.raises(ConfigError, match="--final: no variant 'smu'; did you mean 'sum'"):
        ablate(bench.file, final=["smu"])
    with pytest.raises(ConfigError, match=r"--final: sum-.*/seed-0 is failed, and 1 more are not finished; the same"):
        ablate(bench.file, final=["best"])
    with pytest.raises(ConfigError, match="/seed-0 is failed"):
        ablate(bench.file, final=["sum"])
    assert reads(bench) == []
    checkpoints(bench)
    assert ablate(bench.file, final=["mean"])
    assert len(reads(bench)) == 2


def test_one_call_at_a_time(bench: Bench) -> None:
    with RunLock(bench.folder), pytest.raises(ConfigError, match="is in use: process"):
        ablate(bench.file)


def test_a_folder_of_something_else_is_refused(bench: Bench) -> None:
    bench.run("sum").mkdir(parents=True)
    (bench.run("sum") / "letter.txt").touch()
    with pytest.raises(ConfigError, match="exists and is not a run folder"):
        ablate(bench.file)


def test_the_page_shows_what_is_there_and_what_is_missing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While runs are out, with hostile words in a log; then with all of them: effects, two axes, costs, curves."""
    rates = {"low": {}, "high": {"training.optimizer.lr": 0.1}}
    baseline = {"fusion": "concat", "rate": "low"}
    bench.write(seeds=[0, 1, 2], axes={"fusion": AXES["fusion"], "rate": rates}, baseline=baseline)
    bench.fails = {"sum-high"}
    bench.last_words = "<script>alert(1)</script>"
    assert not ablate(bench.file)
    monkeypatch.setattr(report, "has_report", lambda: True)
    tabulate(bench.file)
    page = (bench.folder / "ablation.html").read_text()
    assert "15 of 18 runs finished" in page
    assert "failed: &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "alert(1)</script>" not in page
    assert 'id="open-ends"' in page
    bench.fails = set()
    bench.values = {(f"{name}-{rate}", seed): number + seed for number, (name, rate) in enumerate(GRID) for seed in range(3)}
    shutil.rmtree(bench.folder)
    monkeypatch.setattr(report, "has_report", lambda: False)  # not behind each of eighteen runs
    assert ablate(bench.file)
    monkeypatch.setattr(report, "has_report", lambda: True)
    tabulate(bench.file)
    page = (bench.folder / "ablation.html").read_text()
    for title in ("Main effect of fusion", "Main effect of rate", "Interaction of fusion and rate", "Every run"):
        assert title in page
    assert "val/t/mae over training time" not in page, "all took the same time"
    assert "The best is concat (1.5)" in page  # 0 and 1 of the two rates, and the seeds 0, 1, 2: lower is better
    assert "axes:" in page, "the matrix itself"
    sections = re.findall(r'<section id="([^"]*)"', page)
    assert sections == ["variants", "effects", "cost-and-quality", "learning-curves", "runs"]


def test_curves_are_of_the_baseline_and_the_best_others(bench: Bench) -> None:
    """Ten variants, of which the baseline is the worst: eight can be told apart."""
    from mmtrain.ablation.page_charts import curve_charts  # of the extra `report`

    rates = {f"rate-{number}": {"training.optimizer.lr": 10.0**-number} for number in range(10)}
    bench.write(axes={"rate": rates}, baseline={"rate": "rate-0"}, seeds=[0])
    bench.values = {(f"rate-{number}", 0): 1.0 / (1 + number) for number in range(10)}
    ablate(bench.file)
    chart = next(iter(curve_charts(build_report(bench.plan, status.statuses(bench.plan)))))
    assert set(chart.columns["variant"]) == {"rate-0", *(f"rate-{number}" for number in range(3, 10))}
    assert chart.summary.endswith("The baseline and the best of the others: 2 more are left out.")


def test_names_beside_points_stand_apart(bench: Bench) -> None:
    """Three variants of one error and of costs that differ little: each name has its own line, and its point its place."""
    from mmtrain.ablation.page_charts import cost_charts  # of the extra `report`

    bench.write(seeds=[0])
    ablate(bench.file)
    found = build_report(bench.plan, status.statuses(bench.plan))
    assert list(cost_charts(found)) == []
    costs = [replace(row.cost, seconds=100.0 + number % 2) for number, row in enumerate(found.rows) if row.cost is not None]
    rows = [replace(row, cost=cost) for row, cost in zip(found.rows, costs, strict=True)]
    (chart,) = cost_charts(replace(found, rows=rows))
    assert isinstance(chart, Chart)
    assert chart.columns["val/t/mae"] == [1.0, 1.0, 1.0]
    assert chart.columns["name from"] == [100.0, 101.0, 100.0]
    assert chart.columns["name at"] == pytest.approx([1.0, 1.0, 1.0 - 13 / 300])


def test_the_better_of_two_axes_is_darker_and_so_is_what_is_left_of_either_sign(bench: Bench) -> None:
    """Errors 0, 1; 2, 5: lower is better. Means of rows 0.5, 3.5, of columns 1, 3, of all 2 leave 0.5, -0.5; -0.5, 0.5."""
    from mmtrain.ablation.effect_charts import interaction_charts  # of the extra `report`

    fusions = {name: AXES["fusion"][name] for name in ("concat", "sum")}
    rates = {"low": {}, "high": {"training.optimizer.lr": 0.1}}
    bench.write(seeds=[0], axes={"fusion": fusions, "rate": rates}, baseline={"fusion": "concat", "rate": "low"})
    bench.values = {(name, 0): value for name, value in zip(CORNERS, (0.0, 1.0, 2.0, 5.0), strict=True)}
    ablate(bench.file)
    means, left = interaction_charts(build_report(bench.plan, status.statuses(bench.plan)))
    assert means.columns["val/t/mae"] == [0.0, 1.0, 2.0, 5.0]
    assert means.columns["shade"] == pytest.approx([1.0, 0.8, 0.6, 0.0])
    assert left.columns["left"] == pytest.approx([0.5, -0.5, -0.5, 0.5])
    assert left.columns["shade"] == pytest.approx([1.0] * 4)


def test_without_the_extra_the_page_is_left_out_and_that_is_said_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "has_report", has_report)
    monkeypatch.setattr("mmtrain.report._PACKAGES", ("altair", "a_package_that_is_not_there"))
    assert ablate(bench.file)
    assert not (bench.folder / "ablation.html").exists()
    assert capsys.readouterr().out.count("the page with charts is left out: pip install 'mmtrain[report]'") == 1
