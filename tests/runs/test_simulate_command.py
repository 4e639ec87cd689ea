"""`mmtrain curriculum simulate` on an experiment file: a picture, words, and messages."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from lives import Write

from mmtrain.cli import main

SCHEDULE = {"name": "staged", "unit": "steps", "phases": [{"tasks": ["mood"], "end": 8}, {"tasks": ["funny"], "start": 8}]}


def simulate(*arguments: str) -> int:
    """The exit code."""
    try:
        main(["curriculum", "simulate", *arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_it_draws_and_says_what_happens(write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.image import imread

    file, out = write_experiment(curriculum={"schedule": SCHEDULE}), tmp_path / "pictures" / "curriculum.png"
    assert simulate(str(file), "--out", str(out)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "step 8: mood -> funny"
    assert said[-1] == f"20 steps drawn in {out}"
    assert [line.split(":")[0] for line in said[-3:-1]] == ["calls", "clips"]
    picture = imread(out)
    assert picture.shape[0] > 500
    assert picture.std() > 0.01  # not blank
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("pacing", "words"),
    [
        (
            {"name": "competence", "difficulty": {"name": "column", "column": "text_characters"}, "start": 0.5},
            "step 0: calls: pool ",
        ),
        ({"name": "self_paced_linear"}, "losses below"),
        ({"name": "baby_steps", "difficulty": {"name": "text_length"}}, "1 of 4 buckets"),
    ],
)
def test_it_draws_pools(
    write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], pacing: dict[str, Any], words: str
) -> None:
    file = write_experiment(curriculum={"pacing": pacing})
    assert simulate(str(file), "--out", str(tmp_path / "out.png"), "--steps", "80") == 0
    said = capsys.readouterr().out
    assert words in said
    column = write_experiment(curriculum={"pacing": {"name": "anti", "difficulty": {"name": "column", "column": "pitsch"}}})
    assert simulate(str(column)) == 2
    assert "curriculum.pacing.difficulty.column: store 'calls'" in capsys.readouterr().err


def test_it_replays_a_recorded_run(write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where `calls` is nine times as hard as `clips`, it gets nine tenths of what the floors leave."""
    recorded = tmp_path / "curriculum.jsonl"
    record = {"step": 4, "losses": {"clips": {"funny": 0.1, "mood": 0.1}, "calls": {"funny": 0.9, "pitch": 0.9}}}
    recorded.write_text(json.dumps(record) + "\n")
    file = write_experiment(curriculum={"sampler": {"temperature": 1.0, "floor": 0.0}})
    out = tmp_path / "out.png"
    assert simulate(str(file), "--out", str(out), "--losses", str(recorded), "--steps", "4004") == 0
    calls = capsys.readouterr().out.splitlines()[-3]
    assert calls.startswith("calls: 25,21")  # 0.9 * 7 * 4000 + 0.5 * 7 * 4 = 25,214


def test_messages(
    write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(write_experiment())
    assert simulate(file, "--losses", str(tmp_path / "none.jsonl")) == 2
    assert "none.jsonl: no such file; give the curriculum.jsonl of a run" in capsys.readouterr().err
    wrong = write_experiment("wrong.yaml", curriculum={"schedule": {"name": "stop_and_go", "metric": "f2x"}})
    assert simulate(str(wrong)) == 2
    assert "curriculum.schedule.metric: no metric 'val/funny/f2x'" in capsys.readouterr().err
    small = write_experiment("small.yaml", curriculum={"exhausted": "stop"}, batch={"size": 1000, "micro": None})
    assert simulate(str(small)) == 2
    assert "the curriculum fills no batch" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert simulate(file) == 2
    assert "pip install 'mmtrain[plot]'" in capsys.readouterr().err


def test_curves_begin_at_step_0_also_with_a_single_window(
    write_experiment: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    assert simulate(str(write_experiment()), "--out", str(tmp_path / "out.png"), "--steps", "4") == 0
    (figure,) = drawn
    lines = {axis.get_ylabel(): axis.get_lines()[0] for axis in figure.axes}
    assert all(line.get_xdata().tolist() == [0, 4] for line in lines.values())
    assert lines["samples drawn"].get_ydata()[0] == lines["passes"].get_ydata()[0] == 0
    share = lines["share of the batch"].get_ydata()
    assert share[0] == share[1] > 0


@pytest.mark.parametrize("content", ["name: run\n", '{"kind": "step", "step": 1}\n', "3\n", ""])
def test_a_picture_that_is_none_and_losses_that_are_none_are_refused(
    write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    file, losses = write_experiment(), tmp_path / "losses"
    losses.write_text(content)
    assert simulate(str(file), "--out", str(tmp_path / "out.txt")) == 2
    assert "the picture is a PNG; write a name that ends in .png" in capsys.readouterr().err
    assert simulate(str(file), "--out", str(tmp_path / "out.png"), "--losses", str(losses)) == 2
    assert "this is no curriculum.jsonl" in capsys.readouterr().err
