"""`training.compile`: the same losses and gradients as without, for batches of any shape; checkpoints tell nothing of it."""

import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from lives import Write, cut, live, results
from safetensors import safe_open

from mmtrain.config import load_experiment
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step
from mmtrain.errors import ConfigError, NonFiniteError

Build = Callable[..., Run]
COMPILED = {"compile": True}


@pytest.fixture
def _without_code() -> Iterator[None]:
    """Graphs are captured as ever, and run by torch's own kernels: C++ would have to be compiled for minutes."""
    torch._dynamo.reset()
    with torch.compiler.set_stance(force_backend="aot_eager"):
        yield
    torch._dynamo.reset()


def without_code(*, at: int | None = None) -> None:
    """The same in another process, which is interrupted in the step after `at` finished ones."""
    torch.compiler.set_stance(force_backend="aot_eager")
    if at is not None:
        cut(at=at, how=signal.SIGINT)


def test_a_run_says_before_the_first_step_that_it_compiles(small_run: Build, capsys: pytest.CaptureFixture[str]) -> None:
    small_run()
    assert "compiling" not in capsys.readouterr().out
    small_run(training=COMPILED)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("compiling: the first step takes a minute or more, and so may the first evaluation;")


@pytest.mark.slow
@pytest.mark.usefixtures("_without_code")
def test_losses_and_gradients_are_those_of_the_plain_model(small_run: Build) -> None:
    plain, compiled = (small_run(training={"compile": flag}, batch={"micro": 3}) for flag in (False, True))
    compiled.model.load_state_dict(plain.model.state_dict())
    torch._dynamo.utils.counters.clear()
    windows = [run.loader.steps(run.curriculum.next_window(0, 4), first=0) for run in (plain, compiled)]
    shapes = set()
    for inputs, same in zip(*windows, strict=True):
        (expected, _), (found, _) = train_step(plain, inputs), train_step(compiled, same)
        shapes |= {tuple(item.values.shape for item in batch.inputs.values()) for batch in inputs.micro_batches}
        for one, other in zip(expected.samples, found.samples, strict=True):
            for key in ("funny/loss", "mood/loss", "pitch/loss"):
                assert other[key].numpy() == pytest.approx(one[key].numpy(), rel=1e-5, abs=1e-5)
        for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                assert other.grad.numpy() == pytest.approx(one.grad.numpy(), rel=1e-4, abs=1e-6)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 0 < graphs < len(shapes), "graphs are made anew for every shape, or there are none"
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())
    same.micro_batches[0].inputs["audio"].values.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="It comes from the output of module"):  # hooks see the plain model
        train_step(compiled, same)


@pytest.mark.slow
@pytest.mark.usefixtures("_without_code")
def test_texts_and_dropout_are_compiled_too(small_run: Build, tiny_bert: Path) -> None:
    """A CPU reads texts and drops numbers in ways of its own, which are the plain ones to a compiler."""
    model = {
        "text": {"name": "transformers", "path": str(tiny_bert), "max_tokens": 12},
        "fusion": {"name": "attention", "dropout": 0.2},
    }
    plain, compiled = (small_run(training={"compile": flag}, model=model) for flag in (False, True))
    compiled.model.load_state_dict(plain.model.state_dict())
    window = compiled.curriculum.next_window(0, 1)
    torch._dynamo.utils.counters.clear()
    (inputs,) = compiled.loader.steps(window, first=0)
    batch = inputs.micro_batches[0]
    with torch.no_grad():
        expected, found = (run.model.eval()(batch.inputs, batch.labelled) for run in (plain, compiled))
    torch.testing.assert_close(dict(found.logits), dict(expected.logits), atol=1e-5, rtol=1e-5)
    compiled.model.train()
    trained = [parameter for parameter in compiled.model.text.parameters() if parameter.requires_grad]
    before = [parameter.clone() for parameter in trained]
    train_step(compiled, inputs)
    assert all(value.isfinite().all() for value in trained)
    assert not all(map(torch.equal, before, trained))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.slow
def test_a_compiled_run_resumes_and_its_checkpoint_is_a_plain_one(fields: Path) -> None:
    arguments = ["train", "--config", str(fields), "training.compile=true"]
    assert live([*arguments, "name=whole"], cwd=fields.parent, patch=without_code).code == 0
    assert live([*arguments, "name=parted"], cwd=fields.parent, patch=partial(without_code, at=2)).code == 130
    assert live([*arguments, "name=parted", "--resume"], cwd=fields.parent, patch=without_code).code == 0
    runs = fields.parent / "runs"
    assert results(runs / "whole") == results(runs / "parted")
    with safe_open(runs / "whole/checkpoints/last/model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "_orig_mod" in name]  # noqa: SIM118 - no mapping
    scored = live(["evaluate", str(runs / "whole"), "--split", "val", "--checkpoint", "last"], cwd=fields.parent)
    assert scored.code == 0, scored.err
    metrics = json.loads((runs / "whole/evaluation/val.json").read_text())["metrics"]
    lines = [json.loads(line) for line in (runs / "whole/metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["kind"] == "evaluation"][-1]["metrics"]
    assert metrics["val/funny/loss"] == pytest.approx(logged["val/funny/loss"], rel=1e-5)


def test_without_the_switch_nothing_is_compiled(small_run: Build) -> None:
    run = small_run()
    assert run.model._compiled_call_impl is None
    assert small_run(training=COMPILED).model._compiled_call_impl is not None


def test_weightings_by_gradients_refuse_it(write_experiment: Write) -> None:
    file = write_experiment(training=COMPILED, curriculum={"weighting": {"name": "pcgrad"}})
    with pytest.raises(ConfigError, match=r"training.compile: pcgrad goes through the model's graph once for every task"):
        load_experiment(file)
