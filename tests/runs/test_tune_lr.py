"""`mmtrain tune lr` on a run: its steps and batches, its outputs and nothing else, and where it stops."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lives import live_together

from mmtrain.cli import main
from mmtrain.engine.run import Run
from mmtrain.tuning import lr as tuning
from mmtrain.tuning.lr_curve import LrCurve, ramp

WORDS = {"epochs": 1, "steps_per_epoch": 3, "eval_every": None}


def tune(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["tune", "lr", *map(str, arguments)])
    return int(end.value.code or 0)


def test_it_writes_its_outputs_and_nothing_else(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(fields.parent.rglob("*"))
    out = fields.parent / "out"
    assert (
        tune(fields, "--out", out, "--steps", "40", "--start", "1e-5", "training.optimizer.lr=0.002", "batch.size=32") == 0
    )
    assert sorted(fields.parent.rglob("*")) == sorted([*before, out, out / "lr-range.json", out / "lr-range.png"])
    found = json.loads((out / "lr-range.json").read_text())
    assert found["lr"] == pytest.approx([ramp(1e-5, 1.0, 40, number) for number in range(len(found["lr"]))])
    assert len(found["lr"]) == len(found["loss"]) == len(found["smoothed"])
    assert found["suggestion"] in found["lr"]
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"training.optimizer.lr={found['suggestion']:.3g}"
    from matplotlib.image import imread

    assert imread(out / "lr-range.png").std() > 0.01  # not blank


def test_the_text_encoder_keeps_its_ratio(small_run: Callable[..., Run], tiny_bert: Path) -> None:
    text = {"text": {"name": "transformers", "path": str(tiny_bert), "max_tokens": 12}}
    run = small_run(model=text, training=WORDS | {"optimizer": {"lr": 0.01, "text_lr": 0.001}, "schedule": {"warmup": 0.5}})
    seen: list[dict[str, float]] = []
    whole = tuning.train_step

    def train_step(*arguments: Any) -> Any:
        values, updated = whole(*arguments)
        seen.append(dict(values.lr))
        return values, updated

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "train_step", train_step)
        tuning.range_test(run, peak=0.01, start=1e-4, end=1e-2, steps=3, smoothing=0.5)
    for number, lr in enumerate([1e-4, 1e-3, 1e-2]):
        assert seen[number]["model.matrices"] == pytest.approx(lr)
        assert seen[number]["text.matrices"] == pytest.approx(lr / 10)
    assert tuning.override_words(0.03, peak=0.01, text_lr=0.001) == [
        "training.optimizer.lr=0.03",
        "training.optimizer.text_lr=0.003",
    ]


def test_it_trains_on_the_batches_of_the_run(small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beyond the run's own end: a run of 3 steps is walked for 8, the first 3 as the run itself would."""
    from mmtrain.engine import loop
    from mmtrain.engine.state import RunState

    seen: dict[str, list[tuple[str, ...]]] = {"tune": [], "fit": []}
    for module, name in ((tuning, "tune"), (loop, "fit")):
        whole = module.train_step

        def train_step(run: Run, inputs: Any, name: str = name, whole: Any = whole) -> Any:
            seen[name].append(tuple(sample for batch in inputs.micro_batches for sample in batch.ids))
            return whole(run, inputs)

        monkeypatch.setattr(module, "train_step", train_step)
    curve = tuning.range_test(small_run(training=WORDS), peak=0.01, start=1e-6, end=1e-5, steps=8, smoothing=0.5)
    loop.fit(small_run(training=WORDS), RunState())
    assert len(curve.lrs) == len(seen["tune"]) == 8
    assert seen["tune"][:3] == seen["fit"]


def test_it_stops_where_the_loss_diverges_or_is_nan(small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    curve = tuning.range_test(small_run(training=WORDS), peak=0.01, start=1e-2, end=1e6, steps=60, smoothing=0.5)
    assert curve.diverged
    assert len(curve.lrs) < 60
    whole = tuning.train_step

    def train_step(run: Run, inputs: Any) -> Any:
        if inputs.step == 4:
            with torch.no_grad():
                next(run.model.parameters()).fill_(float("nan"))
        return whole(run, inputs)

    monkeypatch.setattr(tuning, "train_step", train_step)
    curve = tuning.range_test(small_run(training=WORDS), peak=0.01, start=1e-6, end=1e-5, steps=9, smoothing=0.5)
    assert curve.diverged
    assert len(curve.lrs) == 4


@pytest.mark.slow
def test_two_processes_find_what_one_finds(fields: Path) -> None:
    words = ["tune", "lr", str(fields), "model.fusion={name: concat, dropout: 0}", "--steps", "12", "--start", "1e-4"]
    found = []
    for world in (1, 2):
        out = fields.parent / f"out-{world}"
        lives = live_together([*words, "--out", str(out)], cwd=fields.parent, world=world)
        assert [life.code for life in lives] == [0] * world, lives[0].err
        found.append(json.loads((out / "lr-range.json").read_text()))
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-4)


def test_refusals(fields: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert tune(fields, "--start", "1", "--end", "0.1") == 2
    assert "--start 1 --end 0.1: the learning rate rises from a positive start" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert tune(fields) == 2
    assert "pip install 'mmtrain[plot]'" in capsys.readouterr().err


def test_noise_and_divergence_are_said_and_drawn(
    fields: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    curve, bounds = LrCurve(0.8), []
    for number in range(61):
        curve.add(ramp(1e-7, 1.0, 61, number), 77.0 if number == 60 else 4.7 if number % 2 else 2.4)
    whole = Axes.set_ylim
    monkeypatch.setattr(tuning, "range_test", lambda *_, **__: curve)
    monkeypatch.setattr(Axes, "set_ylim", lambda axis, *given, **how: bounds.append(given) or whole(axis, *given, **how))
    assert tune(fields, "--out", fields.parent / "out", "--steps", "61") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "too noisy to tell whether the loss falls (diverged after 61 steps): no suggestion" in said
    assert "try a larger batch.size, or --steps 244 --smoothing 0.95" in said
    assert curve.diverged
    assert (curve.drawn(),) in bounds
    assert curve.drawn() == pytest.approx((2.4 - 0.115, 4.7 + 0.115))


def test_a_loss_that_never_falls_is_said(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = fields.parent / "out"
    assert tune(fields, "--out", out, "--steps", "10", "--smoothing", "0.99") == 0
    assert "the loss never fell (no divergence after 10 steps): no suggestion" in " ".join(capsys.readouterr().out.split())
    assert json.loads((out / "lr-range.json").read_text())["suggestion"] is None
