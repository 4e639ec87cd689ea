"""One optimizer step against sums done in plain float64 loops: losses, gradients, penalties, clipping, refusals."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.engine import step as step_module
from mmtrain.engine.loading import StepInput
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.errors import NonFiniteError
from mmtrain.evaluation.evaluate import evaluate

Build = Callable[..., Run]
NO_CLIP = {"training": {"clipping": {"name": "none"}}}


def first_step(run: Run) -> StepInput:
    return next(iter(run.loader.steps(run.curriculum.next_window(0, 4), first=0)))


def double(batch: Batch) -> tuple[dict[str, MaskedSequence], dict[str, torch.Tensor]]:
    return {name: MaskedSequence(value.double(), mask) for name, (value, mask) in batch.inputs.items()}, batch.labelled


def per_sample(run: Run, task: str, logit: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The loss of one sample, written down once more."""
    if task == "mood":
        return torch.logsumexp(logit, 0) - logit[int(target)]
    if task == "funny":
        return torch.log1p(torch.exp(-logit)) if target == 1 else torch.log1p(torch.exp(logit))
    values = [stream.labels("pitch") for stream in run.train_streams if "pitch" in stream.tasks]
    labels = torch.tensor(values[0][0][values[0][1]])
    return (logit - (target - labels.mean()) / labels.std(correction=0)) ** 2


def plain_objective(run: Run, model: torch.nn.Module, batches: list[Batch]) -> torch.Tensor:
    """Sum over tasks of the mean over the labelled samples, one sample after the other, in float64."""
    sums: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        logits = model(*double(batch)).logits
        for task, labelled in batch.labelled.items():
            for row in labelled.nonzero()[:, 0].tolist():
                loss = per_sample(run, task, logits[task][row], batch.targets[task][row])
                sums.setdefault(task, []).append(loss)
    return torch.stack([torch.stack(losses).mean() for losses in sums.values()]).sum()


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.grad.detach().clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("micro", [None, 1, 3, 4])
def test_a_step_over_uneven_micro_batches_is_the_plain_sum(small_run: Build, micro: int | None) -> None:
    run = small_run(batch={"micro": micro}, **NO_CLIP)
    inputs = first_step(run)
    sizes = [len(batch) for batch in inputs.micro_batches]
    assert sizes == {None: [7], 1: [1] * 7, 3: [3, 2, 2], 4: [4, 3]}[micro]
    assert 0 < inputs.counts["pitch"] < 7, "missing labels are what this is about"
    reference = copy.deepcopy(run.model).double()
    expected = plain_objective(run, reference, inputs.micro_batches)
    expected.backward()
    values, updated = train_step(run, inputs)
    assert updated
    assert float(values.objective) == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients(reference).items():
        assert gradients(run.model)[name].numpy() == pytest.approx(gradient.numpy(), rel=1e-4, abs=1e-6), name
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients(reference).values()))
    assert values.grad_norm == pytest.approx(norm, rel=1e-5)


def test_dividing_by_the_batch_is_seen(small_run: Build) -> None:
    """Control: the reference above tells labelled samples from all samples."""
    run = small_run(**NO_CLIP)
    inputs = first_step(run)
    expected = plain_objective(run, copy.deepcopy(run.model).double(), inputs.micro_batches)
    wrong = StepInput(0, inputs.micro_batches, dict.fromkeys(inputs.counts, 7))
    assert float(train_step(run, wrong)[0].objective) != pytest.approx(expected.item(), rel=1e-3)


def test_the_norm_is_logged_before_clipping(small_run: Build) -> None:
    free, clipped = small_run(**NO_CLIP), small_run(training={"clipping": {"max_norm": 0.01}})
    norm = train_step(free, first_step(free))[0].grad_norm
    assert norm > 0.05
    assert train_step(clipped, first_step(clipped))[0].grad_norm == pytest.approx(norm, rel=1e-6)
    after = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients(clipped.model).values()))
    assert after == pytest.approx(0.01, rel=1e-3)


def test_an_l2_penalty_adds_its_gradient_and_stays_out_of_the_losses(small_run: Build) -> None:
    plain, decayed = small_run(**NO_CLIP), small_run(regularizers={"l2": {"name": "l2", "strength": 0.5}}, **NO_CLIP)
    weights = {name: value.detach().clone() for name, value in decayed.model.named_parameters()}
    without, with_penalty = train_step(plain, first_step(plain))[0], train_step(decayed, first_step(decayed))[0]
    assert float(with_penalty.objective) == pytest.approx(float(without.objective), rel=1e-6)
    squares = sum(float(value.double().square().sum()) for value in weights.values() if value.ndim > 1)
    assert float(with_penalty.penalties["l2"]) == pytest.approx(0.25 * squares, rel=1e-5)
    for name, gradient in gradients(plain.model).items():
        expected = gradient + (0.5 * weights[name] if weights[name].ndim > 1 else 0)
        assert gradients(decayed.model)[name].numpy() == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-6), name


def test_r_drop_without_dropout_changes_nothing_and_with_it_adds_the_disagreement(small_run: Build) -> None:
    r_drop = {"regularizers": {"twice": {"name": "r_drop", "strength": 2.0}}}
    head = {"tasks": {name: {"head": {"name": "mlp", "hidden": [8], "dropout": 0.5}} for name in ("funny", "mood", "pitch")}}
    plain, twice = small_run(**NO_CLIP), small_run(**r_drop, **NO_CLIP)
    one, two = train_step(plain, first_step(plain))[0], train_step(twice, first_step(twice))[0]
    assert float(two.objective) == pytest.approx(float(one.objective), rel=1e-5)
    assert sum(len(columns["index"]) for columns in two.samples) == 7, "a sample read twice counts once"
    random = small_run(**r_drop, **head, **NO_CLIP)
    inputs = first_step(random)
    torch.manual_seed(0)
    with_term = float(train_step(random, inputs)[0].objective)
    again = small_run(**r_drop, **head, **NO_CLIP)
    again.objective.r_drop = 1e-9
    torch.manual_seed(0)
    assert with_term > float(train_step(again, first_step(again))[0].objective) + 1e-4


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_before_any_weight_changes(small_run: Build, poison: float) -> None:
    run = small_run()
    inputs = first_step(run)
    name, parameter = next(iter(run.model.named_parameters()))
    parameter.register_hook(lambda gradient: gradient * poison)
    before = copy.deepcopy(run.model.state_dict())
    with pytest.raises(NonFiniteError, match="step 1: the gradient holds NaN or Inf") as error:
        train_step(run, inputs)
    ids = [sample for batch in inputs.micro_batches for sample in batch.ids]
    assert len(ids) == 7
    assert all(sample in str(error.value) for sample in ids)
    assert f"comes from the gradient of parameter {name}, all outputs and losses being finite" in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())


class Scaler:
    def __init__(self, scale: float) -> None:
        self.get_scale = lambda: scale


def test_a_loss_scaler_may_try_smaller_scales_but_not_for_ever(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run()
    for scale, final in ((65536.0, False), (1.0, False), (0.5, True)):
        monkeypatch.setattr(run.accelerator, "scaler", Scaler(scale))
        assert step_module._is_final(run, torch.tensor(1.0)) is final
        assert step_module._is_final(run, torch.tensor(math.nan)), "no scale mends a loss that is not finite"


@pytest.mark.parametrize("optimizer", ["adamw", "adagrad"])  # of which one is fused
def test_a_step_that_the_loss_scaler_skips_does_not_advance_the_learning_rate(
    small_run: Build, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    run = small_run(training={"optimizer": {"name": optimizer}, "clipping": {"max_norm": 1.0}})
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # overflows, and is halved until it does not
    monkeypatch.setattr(run.accelerator, "scaler", scaler)
    monkeypatch.setattr(run.accelerator, "native_amp", True)
    monkeypatch.setattr(run.accelerator.state, "_mixed_precision", "fp16")
    scaled = AcceleratedOptimizer(run.optimizer, scaler=scaler)
    monkeypatch.setattr(run.accelerator, "_optimizers", [scaled])
    run = replace(run, optimizer=scaled)
    inputs, rate, updated = first_step(run), scaled.param_groups[0]["lr"], False
    weights = copy.deepcopy(run.model.state_dict())
    tries = 0
    while not updated:
        assert scaled.param_groups[0]["lr"] == rate
        assert all(torch.equal(value, weights[key]) for key, value in run.model.state_dict().items())
        _, updated = train_step(run, inputs)
        tries += 1
    assert 1 < tries < 20
    assert scaled.param_groups[0]["lr"] == pytest.approx(2 * rate)  # two steps of warm-up, and the first is done


def test_bf16_computes_in_half_and_reports_in_full(small_run: Build) -> None:
    run = small_run(training={"precision": "bf16"})
    seen: list[torch.dtype] = []
    linear = next(module for module in run.model.modules() if isinstance(module, torch.nn.Linear))
    linear.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))  # noqa: ARG005
    values, _ = train_step(run, first_step(run))
    assert seen[0] == torch.bfloat16
    assert values.objective.dtype == torch.float32
    assert all(
        column.dtype == torch.float32 for key, column in values.samples[0].items() if key.endswith(("loss", "logits"))
    )
    assert all(parameter.dtype == torch.float32 for parameter in run.model.parameters())


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_evaluation_counts_each_sample_once(small_run: Build, batch_size: int) -> None:
    run = small_run()
    found = {item.task: item for item in predict(run, batch_size)}
    reference = {item.task: item for item in predict(run, 7)}
    for task, item in found.items():
        labelled = [
            stream.store.sample_id(int(stream.indices[place]))
            for stream in run.val_streams
            if task in stream.tasks
            for place in range(len(stream))
            if stream.labels(task)[1][place]
        ]
        assert sorted(item.ids.tolist()) == sorted(labelled)
        assert item.ids.tolist() == reference[task].ids.tolist()
        assert item.losses == pytest.approx(reference[task].losses, rel=1e-4, abs=1e-6)


def predict(run: Run, batch_size: int) -> Any:
    return evaluate(
        run.model,
        run.val_streams,
        objective=run.objective,
        collate=run.loader.collate,
        accelerator=run.accelerator,
        batch_size=batch_size,
    )


def test_evaluating_leaves_the_mode_and_the_random_state_alone(small_run: Build) -> None:
    run = small_run()
    run.model.train()
    before = torch.get_rng_state()
    predict(run, 5)
    assert run.model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stage_that_ends_with_a_stream_is_evaluated_and_over(small_run: Build) -> None:
    run = small_run(curriculum={"exhausted": "stop", "sampler": {"name": "uniform"}})
    smaller = min(len(stream) for stream in run.train_streams)
    state = RunState()
    found = fit(run, state)
    assert state.stopped
    assert 7 * state.step <= 2 * smaller + 1 < 7 * (state.step + 1) + 1  # half of each batch from the smaller stream
    assert found.evaluations["step"][-1] == state.step
    assert state.finished(run.settings.total_steps)
    assert len(found.steps["step"]) == state.step < run.settings.total_steps
