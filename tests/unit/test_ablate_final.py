"""The test split of a matrix: read once, when variants were chosen."""

import json

import pytest
from ablation_bench import Bench

from mmtrain.ablation.ablate import ablate
from mmtrain.errors import ConfigError


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
