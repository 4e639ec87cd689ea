"""The loop's arithmetic by hand: windows, evaluations, schedule, curve, selection, random states, trackers, padding."""

import io
import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from mmtrain.data.tokenize import Tokenizer
from mmtrain.engine.console import main_console
from mmtrain.engine.curve import Curve
from mmtrain.engine.interrupt import Interrupt
from mmtrain.engine.launch import budget_notes, parse_num_processes, peer_failure, process_notes
from mmtrain.engine.run import LoopSettings
from mmtrain.engine.state import Selection, load_random_state, random_state
from mmtrain.engine.tracking.background import Background
from mmtrain.engine.truncation import truncation_note
from mmtrain.models.block import MultiHeadAttention
from mmtrain.models.fusion.misa import MisaFusionConfig
from mmtrain.models.modality_dropout import ModalityDropout
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.objectives.pretext.matching import MatchingHead

SETTINGS = LoopSettings(
    batch_size=7,
    total_steps=25,
    steps_per_epoch=10,
    window=4,
    eval_every=8,
    checkpoint_every=3,
    keep_checkpoints=2,
    on_save_error="stop",
    eval_batch=16,
    on_nonfinite="stop",
    skip_limit=10,
    metric="val/loss",
    mode="min",
    patience=None,
    seed=0,
)


def test_windows_start_anew_with_each_epoch() -> None:
    windows = [SETTINGS.window_of(step) for step in range(25)]
    assert windows[:10] == [(0, 4)] * 4 + [(4, 8)] * 4 + [(8, 10)] * 2
    assert windows[10:20] == [(10, 14)] * 4 + [(14, 18)] * 4 + [(18, 20)] * 2
    assert windows[20:] == [(20, 24)] * 4 + [(24, 25)]


def test_evaluations_fall_on_multiples_inside_an_epoch_and_on_its_end() -> None:
    steps, step = [], 0
    while step < 25:
        step = SETTINGS.next_evaluation(step)
        steps.append(step)
    assert steps == [8, 10, 18, 20, 25]
    assert [replace(SETTINGS, eval_every=None).next_evaluation(step) for step in (0, 9, 10, 20)] == [10, 10, 20, 25]


def test_the_epoch_of_a_step_counts_from_one() -> None:
    assert [SETTINGS.epoch_of(step) for step in (1, 10, 11, 20, 21, 25)] == [1, 1, 2, 2, 3, 3]
    assert [step for step in range(1, 11) if SETTINGS.checkpoint_due(step)] == [3, 6, 9]


def losses(values: list[float | None]) -> dict[str, Any]:
    """Log arrays of one task; None is a sample without a label."""
    return {
        "index": np.arange(len(values)),
        "a/loss": np.array([value or 0.0 for value in values], np.float32),
        "a/labelled": np.array([value is not None for value in values]),
    }


def test_curve_points_are_means_of_labelled_samples() -> None:
    values = [1.0, None, 3.0, 5.0, 7.0, None, None, None, 2.0]
    points = Curve(4).add(losses(values))
    assert points == [
        {"kind": "curve", "samples": 4, "loss": {"a": 3.0}},  # (1 + 3 + 5) / 3
        {"kind": "curve", "samples": 8, "loss": {"a": 7.0}},
    ]
    assert Curve(2).add(losses([None, None])) == [{"kind": "curve", "samples": 2, "loss": {}}]


@pytest.mark.parametrize("cut", range(10))
def test_curve_points_do_not_depend_on_where_the_log_is_cut_or_saved(cut: int) -> None:
    values = [1.0, None, 3.0, 5.0, 7.0, None, 4.0, 4.5, 2.0]
    first, second = Curve(4), Curve(4)
    points = first.add(losses(values[:cut]))
    second.load_state_dict(first.state_dict())
    assert points + second.add(losses(values[cut:])) == Curve(4).add(losses(values))


def test_selection_counts_evaluations_without_gain() -> None:
    selection = Selection()
    values = [0.5, 0.6, float("nan"), 0.5, 0.4, float("-inf")]
    found = [selection.update(value, step=step, mode="min") for step, value in enumerate(values)]
    assert found == [True, False, False, False, True, False]
    assert (selection.best, selection.best_step, selection.evaluations_without_gain) == (0.4, 4, 1)
    assert Selection().update(float("inf"), step=1, mode="max") is False
    assert [Selection(best=1.0).update(value, step=1, mode="max") for value in (0.9, 1.0, 1.1)] == [False, False, True]


def draw() -> list[float]:
    return [torch.rand(1).item(), random.gauss(0, 1), random.random(), np.random.standard_normal()]


@pytest.mark.parametrize("odd", [0, 1])
def test_random_states_come_back_even_between_two_gaussians(odd: int) -> None:
    for _ in range(odd):
        random.gauss(0, 1)
        np.random.standard_normal()
    saved = random_state()
    expected = [draw(), draw()]
    load_random_state(saved)
    assert [draw(), draw()] == expected
    assert [draw(), draw()] != expected


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=200), out


def test_a_failing_library_is_said_once_and_left_out() -> None:
    to, out = console()
    done: list[int] = []
    background = Background("W&B", to)
    background.do(lambda: done.append(1))
    background.do(lambda: 1 / 0)
    background.do(lambda: done.append(2))
    background.close()
    assert done == [1]
    assert out.getvalue() == "W&B failed and is left out from here on: ZeroDivisionError: division by zero\n"


def test_a_library_that_never_answers_holds_nobody_up() -> None:
    to, out = console()
    answer = threading.Event()
    background = Background("W&B", to, patience=0.05, capacity=3)
    background.do(answer.wait)
    for _ in range(10):
        background.do(lambda: None)  # more than are kept waiting
    assert "it does not keep up: 3 records wait" in out.getvalue()
    background.close()
    answer.set()
    to, out = console()
    answer = threading.Event()
    background = Background("W&B", to, patience=0.05)
    background.do(answer.wait)
    background.close()
    assert out.getvalue() == "W&B failed and is left out from here on: no answer within 0.05 seconds\n"
    answer.set()


class Words:
    """A tokenizer of one token a word."""

    pad_token_id = 0
    truncation_side = "right"

    def __call__(self, texts: list[str], *, truncation: bool, verbose: bool, max_length: int = 0) -> dict[str, Any]:  # noqa: ARG002
        ids = [[1] * len(text.split()) for text in texts]
        return {"input_ids": [row[:max_length] for row in ids] if truncation else ids}


class Alone:
    num_processes, device, is_main_process = 1, torch.device("cpu"), True


class Together(Alone):
    """Two processes that counted the same."""

    num_processes = 2

    def reduce(self, value: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return 2 * value


def test_cut_texts_are_counted_over_processes() -> None:
    tokenizer = Tokenizer(Words(), max_tokens=3, truncation_side="left")
    tokenizer(["a b c", "", "a b"])
    assert truncation_note(tokenizer, Alone()) is None
    assert truncation_note(None, Alone()) is None
    tokenizer(["a b c d"] + ["a"] * 697)
    assert truncation_note(tokenizer, Alone()) == "1 of 700 texts were longer than 3 tokens and cut on the left"
    assert truncation_note(tokenizer, Together()) == "2 of 1,400 texts were longer than 3 tokens and cut on the left"


def test_output_that_is_no_terminal_is_wide_enough_for_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    found = main_console(Alone())
    assert found is not None
    assert found.width == 140


def test_interrupts_are_left_alone_outside_the_main_thread() -> None:
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            with Interrupt(Alone()) as interrupt:
                assert not interrupt.requested()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failures


def test_launchers_words() -> None:
    assert parse_num_processes(["accelerate", "launch", "--num_processes", "4", "x.py"]) == 4
    assert parse_num_processes(["accelerate", "launch", "--num-processes=2"]) == 2
    assert parse_num_processes(["bash", "--num_processes", "4"]) is None
    assert parse_num_processes(["accelerate", "launch", "--num_processes"]) is None
    assert peer_failure(RuntimeError("[/x/third_party/gloo/pair.cc:5] Connection closed by peer")) is not None
    assert peer_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_what_depends_on_the_number_of_processes_is_named() -> None:
    drops = MultiHeadAttention(dim=4, heads=2, dropout=0.1)
    assert process_notes(drops, 2) == ["results will differ from a one-process run by: dropout (each process draws its own)"]
    assert process_notes(drops, 1) == process_notes(MultiHeadAttention(dim=4, heads=2, dropout=0.0), 2) == []
    (note,) = process_notes(MatchingHead(pairs=(), joint_dim=1, similarity=None), 2)
    assert note.endswith("by: what matching draw (each process by itself, from its own slice)")
    (note,) = process_notes(ModalityDropout({"audio": 0.2}), 2)
    assert note.endswith("by: dropout (each process draws its own)")
    assert process_notes(ModalityDropout({"audio": 0.0}), 2) == []
    misa = MisaFusionConfig(dropout=0, difference=0).build(modalities=("a", "b"), dim=4, pooling=MeanPoolingConfig())
    (note,) = process_notes(misa, 2)
    assert note.endswith(
        "by: the batch terms similarity, reconstruction (each process compares the samples of its own slice)"
    )


def test_what_depends_on_how_a_budget_cuts_is_named() -> None:
    assert budget_notes(MultiHeadAttention(dim=4, heads=2, dropout=0.1)) == []
    misa = MisaFusionConfig(dropout=0, difference=0).build(modalities=("a", "b"), dim=4, pooling=MeanPoolingConfig())
    both = torch.nn.Sequential(misa, torch.nn.BatchNorm1d(4))
    terms = "batch normalization and the batch terms similarity, reconstruction"
    assert budget_notes(both) == [f"batch.tokens: {terms} see micro-batches, whose samples are of like length"]
