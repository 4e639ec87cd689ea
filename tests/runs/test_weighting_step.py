"""One optimizer step under the weightings that look at losses or gradients, against float64 references of the whole step."""

import copy
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from test_train_step import double, first_step, gradients, per_sample

from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection
from mmtrain.curriculum.weighting.protocol import Learned
from mmtrain.engine import step as step_module
from mmtrain.engine.loading import StepInput
from mmtrain.engine.passes import Forwarded
from mmtrain.engine.rows import head_parameters, shared_parameters
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step
from mmtrain.errors import ConfigError, NonFiniteError

Build = Callable[..., Run]
OVER = pytest.mark.parametrize("over", ["representation", "parameters"])
MICRO = pytest.mark.parametrize("micro", [None, 3])
NO_CLIP = {"training": {"clipping": {"name": "none"}}}
NAMES = [config.model_fields["name"].default for config in WEIGHTINGS]
BY_GRADIENTS = [config.model_fields["name"].default for config in WEIGHTINGS if issubclass(config, GradientSection)]


def weighted(name: str, **options: Any) -> dict[str, Any]:
    return {"curriculum": {"window": 4, "weighting": {"name": name, **options}}}


def in_float64(run: Run, inputs: StepInput) -> tuple[torch.nn.Module, dict[str, torch.Tensor], list[torch.Tensor]]:
    """A copy of the model, the tasks' mean losses over all micro-batches in its graph, and the joint vectors."""
    model = copy.deepcopy(run.model).double()
    sums: dict[str, list[torch.Tensor]] = {}
    joints = []
    for batch in inputs.micro_batches:
        outputs = model(*double(batch))
        joints.append(outputs.joint)
        for task, labelled in batch.labelled.items():
            for row in labelled.nonzero()[:, 0].tolist():
                sums.setdefault(task, []).append(per_sample(run, task, outputs.logits[task][row], batch.targets[task][row]))
    return model, {task: torch.stack(losses).mean() for task, losses in sums.items()}, joints


def assert_gradients(run: Run, model: torch.nn.Module) -> None:
    expected, found = gradients(model), gradients(run.model)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert found[name].numpy() == pytest.approx(gradient.numpy(), rel=2e-4, abs=2e-6), name


@MICRO
def test_geometric_is_the_gradient_of_the_root_of_the_product(small_run: Build, micro: int | None) -> None:
    run = small_run(batch={"micro": micro}, **weighted("geometric"), **NO_CLIP)
    inputs = first_step(run)
    model, losses, _ = in_float64(run, inputs)
    product = math.prod(losses.values()) ** (1 / len(losses))
    product.backward()
    values, _ = train_step(run, inputs)
    assert float(values.objective) == pytest.approx(product.item(), rel=1e-5)
    assert {task: float(weight) for task, weight in (values.weights or {}).items()} == pytest.approx(
        {task: product.item() / (3 * loss.item()) for task, loss in losses.items()}, rel=1e-4
    )
    assert_gradients(run, model)


@MICRO
def test_uncertainty_is_the_gradient_of_kendalls_loss_and_its_variances_move(small_run: Build, micro: int | None) -> None:
    run = small_run(
        batch={"micro": micro},
        **weighted("uncertainty", lr=0.05),
        training={"clipping": {"name": "none"}, "schedule": {"warmup": 0}},
    )
    weighting = run.curriculum.weighting
    assert isinstance(weighting, Learned)
    inputs = first_step(run)
    model, losses, _ = in_float64(run, inputs)
    parameters = dict(zip(run.heads, weighting.module.parameters(), strict=True))
    with torch.no_grad():
        for parameter, value in zip(parameters.values(), (0.3, -0.2, 0.5), strict=True):
            parameter.fill_(value)
    logs = {task: torch.tensor(value.item(), dtype=torch.float64, requires_grad=True) for task, value in parameters.items()}
    factors = {"funny": 1.0, "mood": 1.0, "pitch": 0.5}
    terms = [factors[task] * torch.exp(-logs[task]) * loss + logs[task] / 2 for task, loss in losses.items()]
    whole = torch.stack(terms).sum()
    whole.backward()
    before = {task: value.item() for task, value in parameters.items()}
    values, _ = train_step(run, inputs)
    assert float(values.objective) == pytest.approx(whole.item(), rel=1e-5)
    assert_gradients(run, model)
    for task, value in parameters.items():
        assert value.grad is not None
        assert float(value.grad) == pytest.approx(float(logs[task].grad), rel=1e-4)
        assert value.item() == pytest.approx(
            before[task] - 0.05 * np.sign(float(logs[task].grad)), rel=1e-3
        )  # AdamW's first
    assert values.lr["weighting"] == 0.05
    (group,) = [group for group in run.optimizer.param_groups if group["name"] == "weighting"]
    assert group["weight_decay"] == 0.0


def imtl_g(rows: np.ndarray) -> np.ndarray:
    """Weights in closed form (Liu et al. 2021, equation 4)."""
    units = rows / np.linalg.norm(rows, axis=1)[:, None]
    directions = units[0] - units[1:]
    others = rows[0] @ directions.T @ np.linalg.inv((rows[0] - rows[1:]) @ directions.T)
    return np.array([1 - others.sum(), *others])


@OVER
@MICRO
def test_gradients_are_combined_over_what_is_shared_and_heads_keep_their_own(
    small_run: Build, over: str, micro: int | None
) -> None:
    run = small_run(batch={"micro": micro}, **weighted("imtl_g", over=over), **NO_CLIP)
    inputs = first_step(run)
    model, losses, joints = in_float64(run, inputs)
    heads = {name: value for name, value in model.named_parameters() if name.startswith("heads.")}
    shared = [value for name, value in model.named_parameters() if name not in heads]
    sources = joints if over == "representation" else shared
    rows = [
        torch.autograd.grad(losses[task], sources, retain_graph=True, allow_unused=True, materialize_grads=True)
        for task in run.heads
    ]
    matrix = np.stack([torch.cat([part.flatten() for part in row]).numpy() for row in rows])
    weights = imtl_g(matrix)
    torch.stack(list(losses.values())).sum().backward(inputs=list(heads.values()), retain_graph=True)
    weighted_sum = sum(weight * loss for weight, loss in zip(weights, (losses[task] for task in run.heads), strict=True))
    weighted_sum.backward(inputs=shared)
    values, _ = train_step(run, inputs)
    assert_gradients(run, model)
    found = {task: float(weight) for task, weight in (values.weights or {}).items()}
    assert found == pytest.approx(dict(zip(run.heads, weights, strict=True)), rel=1e-3)
    assert float(values.objective) == pytest.approx(sum(loss.item() for loss in losses.values()), rel=1e-5)
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert values.conflicts == pytest.approx(sum(matrix[i] @ matrix[j] < 0 for i, j in pairs) / 3)


@OVER
def test_gradnorm_weighs_heads_too(small_run: Build, over: str) -> None:
    run = small_run(**weighted("gradnorm", over=over), **NO_CLIP)
    weighting = run.curriculum.weighting
    written = dict(zip(run.heads, (0.5, 2.0, 0.5), strict=True))
    with torch.no_grad():
        for parameter, value in zip(weighting.module.parameters(), written.values(), strict=True):
            parameter.fill_(value)
    inputs = first_step(run)
    model, losses, _ = in_float64(run, inputs)
    torch.stack([written[task] * loss for task, loss in losses.items()]).sum().backward()
    values, _ = train_step(run, inputs)
    assert_gradients(run, model)
    assert {task: float(weight) for task, weight in (values.weights or {}).items()} == pytest.approx(written)
    assert weighting.weights(1, tuple(written)) != pytest.approx(written)


class Sum(torch.nn.Module):
    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix.sum(dim=0)


@OVER
@MICRO
@pytest.mark.parametrize("views", [1, 2])
def test_a_sum_of_gradients_is_the_step_of_fixed_weights(
    small_run: Build, over: Any, micro: int | None, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout in the heads, batch norm, two views and a penalty: all happens once, the same in both passes."""
    head = {"head": {"name": "mlp", "hidden": [8], "dropout": 0.5, "batch_norm": True}}
    regularizers = {"l2": {"name": "l2", "strength": 0.5}} | (
        {"twice": {"name": "r_drop", "strength": 2.0}} if views == 2 else {}
    )
    changes = {
        "batch": {"micro": micro},
        "tasks": dict.fromkeys(("funny", "mood", "pitch"), head),
        "regularizers": regularizers,
    }
    plain, summed = small_run(**changes, **NO_CLIP), small_run(**changes, **weighted("conflict_free", over=over), **NO_CLIP)
    weighting = Aggregation(aggregator=Sum(), over=over)
    monkeypatch.setattr(summed.curriculum, "_weighting", weighting)
    monkeypatch.setattr(summed.curriculum, "by_gradients", weighting)
    results = []
    for run in (plain, summed):
        torch.manual_seed(11)
        values, _ = train_step(run, first_step(run))
        results.append((values, torch.get_rng_state(), {name: value.clone() for name, value in run.model.named_buffers()}))
    (first, state, buffers), (second, other_state, other_buffers) = results
    assert torch.equal(state, other_state)
    assert buffers.keys() == other_buffers.keys() != set()
    for name, value in buffers.items():
        assert torch.equal(other_buffers[name], value), name
    assert float(second.objective) == pytest.approx(float(first.objective), rel=1e-5)
    assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-4)
    assert second.penalties.keys() == first.penalties.keys() == {"l2"}
    expected, found = gradients(plain.model), gradients(summed.model)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert found[name].numpy() == pytest.approx(gradient.numpy(), rel=1e-3, abs=1e-5), name


def without_labels(inputs: StepInput, *tasks: str) -> StepInput:
    for batch in inputs.micro_batches:
        for task in tasks:
            batch.labelled[task].fill_(False)
    return StepInput(inputs.step, inputs.micro_batches, inputs.counts | dict.fromkeys(tasks, 0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing", [("pitch",), ("pitch", "mood"), ("pitch", "mood", "funny")])
def test_tasks_without_a_label_in_the_batch_are_left_out(small_run: Build, name: str, missing: tuple[str, ...]) -> None:
    run = small_run(**weighted(name), training={"clipping": {"name": "none"}, "optimizer": {"weight_decay": 0.0}})
    before = copy.deepcopy(run.model.state_dict())
    values, _ = train_step(run, without_labels(first_step(run), *missing))
    assert math.isfinite(float(values.objective))
    assert math.isfinite(values.grad_norm)
    for key, value in run.model.state_dict().items():
        own = [task for task in missing if f"heads.{task}_head" in key]
        if own or len(missing) == 3:
            assert torch.equal(value, before[key]), key
    if len(missing) == 3:
        assert values.grad_norm == 0.0
        assert values.conflicts is None
    if len(missing) == 2 and name in BY_GRADIENTS:
        model = small_run(**NO_CLIP)
        train_step(model, without_labels(first_step(model), *missing))
        for key, gradient in gradients(model.model).items():
            assert gradients(run.model)[key].numpy() == pytest.approx(gradient.numpy(), rel=1e-4, abs=1e-7), key


@OVER
@pytest.mark.parametrize("task", ["funny", "pitch"])
def test_a_task_that_is_not_active_is_left_out(small_run: Build, over: str, task: str) -> None:
    schedule = {"name": "staged", "unit": "steps", "phases": [{"tasks": [task]}]}
    weighting = {"name": "gradnorm", "over": over}
    run = small_run(curriculum={"window": 4, "schedule": schedule, "weighting": weighting}, **NO_CLIP)
    plain = small_run(curriculum={"window": 4, "schedule": schedule}, **NO_CLIP)
    for each in (run, plain):
        train_step(each, first_step(each))
    for key, gradient in gradients(plain.model).items():
        assert gradients(run.model)[key].numpy() == pytest.approx(gradient.numpy(), rel=1e-4, abs=1e-7), key


@OVER
@MICRO
def test_a_partly_frozen_text_encoder_stays_frozen(small_run: Build, tiny_bert: Any, over: str, micro: int | None) -> None:
    text = {"name": "transformers", "path": str(tiny_bert), "max_tokens": 12, "dropout": 0.1, "trainable_layers": 1}
    run = small_run(
        model={"text": text}, batch={"micro": micro}, **weighted("pcgrad", over=over), training={"optimizer": {"lr": 0.1}}
    )
    frozen = {name: value.clone() for name, value in run.model.named_parameters() if not value.requires_grad}
    trained = {name: value.clone() for name, value in run.model.named_parameters() if value.requires_grad}
    values, _ = train_step(run, first_step(run))
    assert math.isfinite(values.grad_norm)
    now = dict(run.model.named_parameters())
    assert frozen
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert any(not torch.equal(now[name], value) for name, value in trained.items() if name.startswith("text."))
    assert all(now[name].grad is None for name in frozen)
    own = {id(value) for task in run.heads for value in head_parameters(run, task)}
    assert own.isdisjoint(map(id, shared_parameters(run, 0)))
    assert len(own) + len(shared_parameters(run, 0)) == len(trained)


@pytest.mark.parametrize("name", [*BY_GRADIENTS, "geometric", "uncertainty"])
@pytest.mark.parametrize("scale", [1.0, 2.0**14])
def test_a_loss_scaler_changes_nothing_that_is_finite(
    small_run: Build, name: str, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of fp16 on a CPU: a real scaler, in float32."""
    plain, scaled = small_run(**weighted(name)), small_run(**weighted(name))
    scaler = use_scaler(scaled, scale, monkeypatch)
    for run in (plain, scaled):
        values, updated = train_step(run, first_step(run))
        assert updated
        assert values.grad_norm > 0
    assert scaler.get_scale() == scale
    for key, value in plain.model.state_dict().items():
        assert scaled.model.state_dict()[key].numpy() == pytest.approx(value.numpy(), rel=1e-4, abs=1e-6), key
    for key, gradient in gradients(plain.model).items():
        assert gradients(scaled.model)[key].numpy() == pytest.approx(gradient.numpy(), rel=1e-3, abs=1e-6), key


def use_scaler(run: Run, scale: float, monkeypatch: pytest.MonkeyPatch) -> torch.amp.GradScaler:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    run.accelerator.scaler, run.accelerator.native_amp = scaler, True
    monkeypatch.setattr(type(run.accelerator), "mixed_precision", property(lambda _: "fp16"))
    object.__setattr__(run, "optimizer", AcceleratedOptimizer(run.optimizer, scaler=scaler))
    run.accelerator._optimizers = [run.optimizer]
    return scaler


@OVER
@pytest.mark.parametrize("name", ["pcgrad", "gradnorm", "upgrad"])
def test_a_gradient_that_overflows_is_skipped_by_the_scaler_and_taught_nothing(
    small_run: Build, over: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(**weighted(name, over=over))
    scaler = use_scaler(run, 2.0**127, monkeypatch)
    forward = step_module._forward

    def forward_large(*arguments: Any) -> Forwarded:
        seen = forward(*arguments)
        return replace(seen, losses={task: 1e6 * loss for task, loss in seen.losses.items()})

    monkeypatch.setattr(step_module, "_forward", forward_large)
    before, learned = copy.deepcopy(run.model.state_dict()), run.curriculum.weighting.state_dict()
    values, _ = train_step(run, first_step(run))
    assert not math.isfinite(values.grad_norm)
    assert values.conflicts is None
    assert scaler.get_scale() == 2.0**126
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    assert run.curriculum.weighting.state_dict() == learned


@OVER
@pytest.mark.parametrize("name", ["mgda", "cagrad"])
def test_a_gradient_that_is_not_finite_ends_the_run_before_a_solver_sees_it(small_run: Build, over: str, name: str) -> None:
    run = small_run(**weighted(name, over=over))
    parameter = shared_parameters(run, 0)[0] if over == "parameters" else head_parameters(run, "funny")[0]
    with torch.no_grad():
        parameter.fill_(math.nan)
    before = copy.deepcopy(run.model.state_dict())
    with pytest.raises(NonFiniteError, match="step 1: the gradient holds NaN or Inf"):
        train_step(run, first_step(run))
    assert all(torch.equal(value.nan_to_num(), before[key].nan_to_num()) for key, value in run.model.state_dict().items())


def test_a_log_variance_whose_loss_overflows_ends_the_run(small_run: Build) -> None:
    run = small_run(**weighted("uncertainty"))
    weighting = run.curriculum.weighting
    assert isinstance(weighting, Learned)
    next(weighting.module.parameters()).register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteError, match="the gradient holds NaN or Inf"):
        train_step(run, first_step(run))


@pytest.mark.parametrize("name", [*BY_GRADIENTS, "geometric", "uncertainty"])
@MICRO
def test_bf16_reaches_the_trunk(small_run: Build, name: str, micro: int | None) -> None:
    run = small_run(**weighted(name), training={"precision": "bf16", "clipping": {"name": "none"}}, batch={"micro": micro})
    values, updated = train_step(run, first_step(run))
    assert updated
    assert math.isfinite(values.grad_norm)
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in shared_parameters(run, 0)
    )
    assert any(
        float(parameter.grad.abs().max()) > 0 for parameter in shared_parameters(run, 0) if parameter.grad is not None
    )


def test_a_model_of_which_only_heads_train_has_nothing_to_combine(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtrain import build

    whole = build.build_parts

    def frozen(*arguments: Any, **options: Any) -> Any:
        parts = whole(*arguments, **options)
        for name, parameter in parts.model.named_parameters():
            parameter.requires_grad_(name.startswith("heads."))
        return parts

    monkeypatch.setattr(build, "build_parts", frozen)
    with pytest.raises(ConfigError, match=r"of this model only the heads are trained\. Write a weighting of losses"):
        small_run(**weighted("pcgrad"))
    small_run(**weighted("uncertainty"))


@pytest.mark.parametrize(
    ("name", "package"), [("upgrad", "quadprog"), ("upgrad", "qpsolvers"), ("cagrad", "cvxpy"), ("cagrad", "clarabel")]
)
def test_a_missing_solver_is_named_with_what_to_install(
    small_run: Build, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"weighting: {name} needs {package}, which this Python lacks: pip install 'mmtrain\[solvers\]'"
    with pytest.raises(ConfigError, match=message):
        small_run(**weighted(name))


def test_gradnorm_learns_nothing_from_a_step_that_is_left_out(small_run: Build) -> None:
    run = small_run(**weighted("gradnorm"), training={"on_nonfinite": "skip"})
    inputs = first_step(run)
    before = run.curriculum.weighting.state_dict()
    hook = head_parameters(run, "funny")[0].register_hook(lambda gradient: gradient * math.inf)
    values, updated = train_step(run, inputs)
    assert (values.left_out, updated) == (True, False)
    assert run.curriculum.weighting.state_dict() == before
    hook.remove()
    assert train_step(run, inputs)[1]
    assert run.curriculum.weighting.state_dict() != before


@pytest.mark.parametrize("name", ["fixed", "mgda"])
def test_a_task_that_is_not_active_cannot_stop_the_others(small_run: Build, name: str) -> None:
    """What its head says, Inf included, is not there."""
    schedule = {"name": "staged", "phases": [{"tasks": ["funny", "mood"]}]}
    run = small_run(curriculum={"schedule": schedule, "weighting": {"name": name}})
    with torch.no_grad():
        head_parameters(run, "pitch")[1].fill_(math.inf)  # its bias: every logit is Inf
    values, updated = train_step(run, first_step(run))
    assert updated
    assert math.isfinite(values.grad_norm)


@OVER
def test_a_batch_of_another_size_than_the_run_asks_for_is_combined_too(small_run: Build, over: str) -> None:
    run = small_run(**weighted("mgda", over=over))
    inputs = first_step(run)
    twice = StepInput(0, inputs.micro_batches * 2, {task: 2 * count for task, count in inputs.counts.items()})
    assert train_step(run, twice)[1]


def test_what_stands_still_is_not_compared(small_run: Build) -> None:
    run = small_run(**weighted("mgda", over="parameters"))
    still = list(run.model.sequences["audio_encoder"].parameters())

    class Unfreezing:
        def still(self, step: int) -> list[torch.nn.Parameter]:
            return still if step < 3 else []

    halved = replace(run, unfreezing=Unfreezing())  # type: ignore[arg-type]
    assert {id(value) for value in shared_parameters(halved, 2)}.isdisjoint(map(id, still))
    assert (
        len(shared_parameters(halved, 2)) + len(still) == len(shared_parameters(halved, 3)) == len(shared_parameters(run, 0))
    )


@pytest.mark.parametrize("name", ["geometric", "mgda", "cagrad"])
def test_a_task_whose_samples_all_weigh_nothing_is_left_out(small_run: Build, name: str) -> None:
    """As if it had no label: a loss or gradient of 0 would stop the others, which are what they are without it."""
    run, without = (small_run(**weighted(name)) for _ in range(2))
    inputs = first_step(run)
    weights = [(~batch.labelled["pitch"]).float() for batch in inputs.micro_batches]
    none = replace(inputs, weights=weights, silent=frozenset({"pitch"}))
    unlabelled = replace(inputs, weights=weights, counts=inputs.counts | {"pitch": 0})
    assert train_step(run, none)[1]
    assert train_step(without, unlabelled)[1]
    for one, other in zip(run.model.parameters(), without.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert any(
        float(parameter.grad.abs().max()) > 1e-6 for parameter in shared_parameters(run, 0) if parameter.grad is not None
    )
