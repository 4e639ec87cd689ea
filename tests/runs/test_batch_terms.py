"""A fusion's own losses in a step: each forward pass's with its share of the batch, apart from the objective."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import StepValues
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.objectives.regularizers.r_drop import two_views

Build = Callable[..., Run]
MISA = {"fusion": {"name": "misa", "dropout": 0.0, "difference": 5.0}}


def trained(run: Run) -> tuple[StepValues, list[Batch], dict[str, torch.Tensor]]:
    """What one step showed, what it read, and the gradient of every parameter (zeros where it has none)."""
    inputs = next(iter(run.loader.steps(run.curriculum.next_window(0, 4), first=0)))
    values, _ = train_step(run, inputs)
    return values, inputs.micro_batches, gradients(run.model)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad.detach().clone()
        for name, value in model.named_parameters()
    }


def without_terms(run: Run) -> Run:
    """The same run, whose model keeps its batch terms to itself."""
    forward = run.model.forward
    run.model.forward = lambda *given: replace(forward(*given), aux={})  # type: ignore[method-assign]
    return run


def terms_alone(model: torch.nn.Module, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """In float64: the sum over forward passes of each term times the pass's samples over the batch's."""
    terms: dict[str, Any] = {}
    total = sum(len(batch) for batch in batches)
    for batch in batches:
        inputs = {name: MaskedSequence(value.double(), mask) for name, (value, mask) in batch.inputs.items()}
        for name, value in model(inputs, batch.labelled).aux.items():
            terms[name] = terms.get(name, 0) + value * len(batch) / total
    sum(terms.values()).backward()
    return terms


WEIGHTINGS: list[dict[str, Any]] = [
    {"name": "fixed"},
    {"name": "geometric"},
    {"name": "mgda", "over": "representation"},
    {"name": "mgda", "over": "parameters"},
]


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda weighting: "-".join(weighting.values()))
@pytest.mark.parametrize("micro", [None, 3])
@pytest.mark.parametrize("views", [1, 2])
def test_batch_terms_count_by_the_samples_they_speak_of(
    small_run: Build, micro: int | None, views: int, weighting: dict[str, Any]
) -> None:
    """Whatever the weighting makes of the tasks, the terms' gradient comes on top of it."""
    twice = {"regularizers": {"twice": {"name": "r_drop", "strength": 1.0}}} if views == 2 else {}
    settings = {"model": MISA, "batch": {"micro": micro}, "training": {"clipping": {"name": "none"}}, **twice}
    settings["curriculum"] = {"weighting": weighting}
    run, plain = small_run(**settings), without_terms(small_run(**settings))
    reference = copy.deepcopy(run.model).double()
    values, batches, found = trained(run)
    expected, _, task_gradients = trained(plain)
    terms = terms_alone(reference, [two_views(batch) if views == 2 else batch for batch in batches])
    assert list(values.aux) == ["similarity", "difference", "reconstruction"]
    for name, value in terms.items():
        assert float(values.aux[name]) == pytest.approx(value.item(), rel=1e-4), name
    assert float(values.objective) == pytest.approx(float(expected.objective), rel=1e-6)
    for name, gradient in gradients(reference).items():
        total = (task_gradients[name] + gradient).numpy()
        assert found[name].numpy() == pytest.approx(total, rel=1e-3, abs=1e-5), name


def test_a_run_logs_batch_terms_apart_from_the_losses(small_run: Build) -> None:
    model = {"fusion": {"name": "misa", "reconstruction": 0.0}, "modality_dropout": {"audio": 0.5}}
    run = small_run(model=model, training={"epochs": 1, "steps_per_epoch": 4, "eval_every": None})
    steps = fit(run, RunState()).steps
    assert {name for name in steps if name.startswith("aux/")} == {"aux/similarity", "aux/difference"}
    assert all((steps[f"aux/{name}"] != 0).any() for name in ("similarity", "difference"))
