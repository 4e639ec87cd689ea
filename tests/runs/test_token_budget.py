"""A token budget: no forward pass is larger, none of the numbers of a run is another, and what does not fit is refused."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lives import Write, cut, live, results
from test_processes_equal import PLAIN, assert_alike, double, float64, run_of

from mmtrain.config import load_experiment
from mmtrain.engine.loading import Loader, StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step
from mmtrain.errors import ConfigError
from mmtrain.tuning.batch_size import tune_batch_size

Build = Callable[..., Run]
UNSORTED = {"group_by_length": False}
SHORT = {**PLAIN["training"], "epochs": 1, "steps_per_epoch": 8}


def positions(batch: Any) -> int:
    return sum(mask.numel() for _, mask in batch.inputs.values())


def steps_of(run: Run, *, world: int = 1, **reading: Any) -> list[list[StepInput]]:
    """The first window's steps, by process."""
    window = run.curriculum.next_window(0, 4)
    shared = {"streams": run.train_streams, "collate": run.loader.collate, "augment": run.loader.augment}
    loaders = [Loader(**shared, rank=rank, world=world, **reading) for rank in range(world)]
    return [list(loader.steps(window, first=0)) for loader in loaders]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("budget", [30, 60, 90])
def test_no_forward_pass_is_larger_and_processes_make_equally_many(
    small_run: Build, tiny_bert: Path, world: int, budget: int
) -> None:
    """Texts are augmented, so that only whoever augments knows their tokens."""
    text = {"name": "transformers", "path": str(tiny_bert), "max_tokens": 12}
    augmentation = {"text": {"fewer": {"name": "word_dropout", "probability": 0.5}}}
    run = small_run(model={"text": text}, augmentation=augmentation, batch={"size": 12}, curriculum=UNSORTED)
    by_process = steps_of(run, world=world, tokens=budget)
    whole = steps_of(run)[0]
    seen = []
    for step, plain in enumerate(whole):
        parts = [process[step] for process in by_process]
        assert len({len(part.micro_batches) for part in parts}) == 1
        passes = [batch for part in parts for batch in part.micro_batches]
        assert all(positions(batch) <= budget or len(batch) == 1 for batch in passes)
        ids = np.array(plain.micro_batches[0].ids)
        for rank, part in enumerate(parts):
            assert sorted(part.order.tolist()) == list(range(rank, 12, world))
            assert ids[part.order].tolist() == [name for batch in part.micro_batches for name in batch.ids]
            assert part.counts == plain.counts
        seen += [len(part.micro_batches) for part in parts]
    assert max(seen) > 1


@pytest.mark.parametrize(("size", "world"), [(5, 2), (7, 2), (8, 3)])
@pytest.mark.parametrize("budget", [1, 40, 90])
def test_slices_of_unlike_size_are_cut_alike_as_far_as_samples_go_round(
    small_run: Build, size: int, world: int, budget: int
) -> None:
    run = small_run(batch={"size": size}, curriculum=UNSORTED)
    for parts in zip(*steps_of(run, world=world, tokens=budget), strict=True):
        counts = [len(part.micro_batches) for part in parts]
        for part, count in zip(parts, counts, strict=True):
            alone = all(len(batch) == 1 for batch in part.micro_batches)
            assert count == max(counts) or (count == max(counts) - 1 and alone)
            assert all(positions(batch) <= budget or len(batch) == 1 for batch in part.micro_batches)


def test_both_bounds_hold(small_run: Build) -> None:
    run = small_run(batch={"size": 12})
    (steps,) = steps_of(run, tokens=60, micro=2)
    batches = [batch for step in steps for batch in step.micro_batches]
    assert all(len(batch) <= 2 and (positions(batch) <= 60 or len(batch) == 1) for batch in batches)


def test_a_step_is_that_of_the_batch_in_one_piece(small_run: Build) -> None:
    """In float64; the samples' order in the log is the plan's, though the passes are of like length."""
    torch.set_default_dtype(torch.float64)
    try:
        found = []
        for tokens in (None, 40):
            run = small_run(batch={"size": 12, "micro": None, "tokens": tokens}, curriculum=UNSORTED)
            inputs = next(iter(run.loader.steps(run.curriculum.next_window(0, 4), first=0)))
            for batch in inputs.micro_batches:
                batch.inputs.update({key: item._replace(values=item.values.double()) for key, item in batch.inputs.items()})
            torch.manual_seed(0)
            for parameter in run.model.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
            values, _ = train_step(run, inputs)
            gradients = [parameter.grad.numpy() for parameter in run.model.parameters() if parameter.grad is not None]
            found.append((values, gradients, len(inputs.micro_batches)))
        (one, gradients, _), (cut_up, others, number) = found
        assert number > 1
        assert float(cut_up.objective) == pytest.approx(float(one.objective), rel=1e-12)
        for gradient, other in zip(gradients, others, strict=True):
            assert other == pytest.approx(gradient, rel=1e-11, abs=1e-14)
        index = torch.cat([micro["index"] for micro in cut_up.samples])
        assert index[np.argsort(cut_up.order)].tolist() == one.samples[0]["index"].tolist()
        assert index.tolist() != one.samples[0]["index"].tolist()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_runs_with_a_budget_on_one_process_and_on_two_are_the_run_without(write_experiment: Write) -> None:
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double, curriculum=UNSORTED, training=SHORT)
    budget = {"batch": {"micro": None, "tokens": 24}, "curriculum": UNSORTED, "training": SHORT}
    assert_alike(one, run_of(write, "cut", patch=double, **budget), tolerance=1e-12)
    assert_alike(one, run_of(write, "both", world=2, patch=double, **budget), tolerance=1e-12)


@pytest.mark.slow
def test_a_run_with_a_budget_resumes_inside_a_window(write_experiment: Write) -> None:
    """With dropout, whose draws depend on how the batches are cut; prefetching changes nothing."""
    changes = {"batch": {"micro": None, "tokens": 40}, "curriculum": UNSORTED, "training": {"epochs": 1}}
    whole = write_experiment("whole.yaml", name="whole", **changes)
    parted = write_experiment("parted.yaml", name="parted", **changes)
    assert live(["train", "--config", str(whole)], cwd=whole.parent).code == 0
    arguments = ["train", "--config", str(parted)]
    assert live(arguments, cwd=parted.parent, patch=partial(cut, at=5, how=signal.SIGINT)).code == 130
    assert live([*arguments, "--resume"], cwd=parted.parent).code == 0
    assert results(parted.parent / "runs" / "whole") == results(parted.parent / "runs" / "parted")


def test_pretext_tasks_refuse_a_budget(write_experiment: Write) -> None:
    streams = {"clips": {"dataset": "clips", "tasks": ["funny", "mood", "align"]}}
    file = write_experiment(pretext={"align": {"name": "info_nce"}}, streams=streams, batch={"tokens": 100})
    with pytest.raises(ConfigError) as refusal:
        load_experiment(file)
    assert "batch.tokens: the loss of pretext task 'align' is reckoned among the samples of a forward" in str(refusal.value)
    assert "write batch.micro, which leaves them mixed" in str(refusal.value)


def test_tuning_the_batch_size_refuses_a_budget(fields: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch.tokens: 100 cuts micro-batches already.*write batch.tokens=null here"):
        tune_batch_size(fields, ["batch.tokens=100"], memory_limit=1000)
