"""A matrix from call to call: what is begun, kept, tried again and said."""

import json
import sys

import pytest
from ablation_bench import AXES, Bench, begun

from mmtrain.ablation import ablate as module
from mmtrain.ablation import processes
from mmtrain.ablation.ablate import ablate
from mmtrain.ablation.memory_watch import MemoryWatch
from mmtrain.compatibility import stores_key
from mmtrain.config import load_experiment
from mmtrain.engine.code_version import code_now
from mmtrain.engine.run_lock import RunLock
from mmtrain.errors import ConfigError


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


def test_variants_share_opened_stores_where_they_leave_out_the_same_samples(bench: Bench) -> None:
    more = "model.sequences={audio: {name: linear}, video: {name: linear}}"
    plain, wide = (stores_key(load_experiment(bench.root / "base.yaml", words)) for words in ([], [more]))
    assert plain == wide
    skip = [["batch.on_bad_sample=skip", *words] for words in ([], [more], [more, "streams.a.modalities=[audio]"])]
    heard, both, named = (stores_key(load_experiment(bench.root / "base.yaml", words)) for words in skip)
    assert heard == named
    assert len({plain, heard, both}) == 3


def test_one_call_at_a_time(bench: Bench) -> None:
    with RunLock(bench.folder), pytest.raises(ConfigError, match="is in use: process"):
        ablate(bench.file)


def test_a_folder_of_something_else_is_refused(bench: Bench) -> None:
    bench.run("sum").mkdir(parents=True)
    (bench.run("sum") / "letter.txt").touch()
    with pytest.raises(ConfigError, match="exists and is not a run folder"):
        ablate(bench.file)
