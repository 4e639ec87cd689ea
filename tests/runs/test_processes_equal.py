"""Two processes and micro-batches train as one process does; every way to start a run gives the same bits."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import Life, Patch, Write, cut, live, live_together
from safetensors.numpy import load_file

from mmtrain.engine.history import Columns, history

# no dropout; an odd batch, so that slices differ by one; micro-batches of the whole slice. The bias of attention's keys has
# no gradient but rounding, which AdamW would divide by itself: its eps is made larger than that
PLAIN: dict[str, Any] = {
    "tasks": {"mood": {"head": {"dropout": 0.0}}},
    "model": {"text": {"dropout": 0.0}, "sequences": {"audio": {"dropout": 0.0}}, "fusion": {"dropout": 0.0}},
    "batch": {"micro": None},
    "training": {"optimizer": {"eps": 1e-3}},
}


def run_of(write: Write, name: str, *, world: int = 1, patch: Patch | None = None, **changes: Any) -> Path:
    file = write(f"{name}.yaml", name=name, **{**PLAIN, **changes})
    lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=world, patch=patch)
    assert [life.code for life in lives] == [0] * world, "\n".join(life.out + life.err for life in lives)
    return file.parent / "runs" / name


def assert_alike(one: Path, other: Path, *, tolerance: float) -> None:
    """Weights, every logged number and every decision, to a relative tolerance."""
    expected, found = (load_file(run / "checkpoints" / "last" / "model.safetensors") for run in (one, other))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name
    for part in ("steps", "evaluations", "curve"):
        columns: tuple[Columns, Columns] = getattr(history(one), part), getattr(history(other), part)
        assert list(columns[0]) == list(columns[1])
        for name, value in columns[0].items():
            assert columns[1][name] == pytest.approx(value, rel=20 * tolerance, abs=20 * tolerance, nan_ok=True), name
    decisions = [[json.loads(line) for line in (run / "curriculum.jsonl").read_text().splitlines()] for run in (one, other)]
    assert len(decisions[0]) == len(decisions[1]) > 0
    for first, second in zip(*decisions, strict=True):
        assert first["counts"] == second["counts"]
        assert second["shares"] == pytest.approx(first["shares"], rel=1e-4)


def double() -> None:
    """Train in float64: then equal means equal to 12 digits, and a wrong factor cannot hide behind rounding."""
    import torch

    from mmtrain.data.batch import Batch, MaskedSequence
    from mmtrain.data.collate import Collator

    torch.set_default_dtype(torch.float64)
    collate = Collator.__call__

    def wide(values: torch.Tensor) -> torch.Tensor:
        return values.double() if values.is_floating_point() else values

    def collate_double(self: Collator, samples: Any, streams: Any) -> Batch:
        batch = collate(self, samples, streams)
        batch.inputs.update({name: MaskedSequence(wide(x.values), x.mask) for name, x in batch.inputs.items()})
        batch.targets.update({name: wide(value) for name, value in batch.targets.items()})
        return batch

    Collator.__call__ = collate_double  # type: ignore[method-assign]


def unscaled_sum() -> None:
    """A mutation: every process divides by the labels of its own slice, as averaging averages does."""
    double()
    from mmtrain.engine import loop
    from mmtrain.engine.loading import StepInput

    train_step = loop.train_step

    def with_own_counts(run: Any, inputs: StepInput) -> Any:
        world = run.accelerator.num_processes
        own = {task: sum(int(batch.labelled[task].sum()) for batch in inputs.micro_batches) for task in inputs.counts}
        counts = {task: number * world for task, number in own.items()}
        return train_step(run, StepInput(inputs.step, inputs.micro_batches, counts))

    loop.train_step = with_own_counts


def float64(write: Write) -> Write:
    """Experiments whose weights can all be float64: no pretrained text encoder, no penalty (both are float32)."""

    def write_float64(file: str, **changes: Any) -> Path:
        path = write(file, **changes)
        values = yaml.safe_load(path.read_text())
        values["model"].pop("text")
        values["regularizers"] = {}
        path.write_text(yaml.safe_dump(values))
        return path

    return write_float64


def test_two_processes_with_uneven_slices_and_micro_batches_equal_one_process(write_experiment: Write) -> None:
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double)
    both = run_of(write, "both", world=2, patch=double, batch={"micro": 3})  # slices of 4 and 3: two passes and one
    assert_alike(one, both, tolerance=1e-12)


@pytest.mark.slow
def test_two_processes_equal_one_process_and_so_do_micro_batches(write_experiment: Write) -> None:
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double)
    assert_alike(one, run_of(write, "two", world=2, patch=double), tolerance=1e-12)
    assert_alike(one, run_of(write, "micro", patch=double, batch={"micro": 3}), tolerance=1e-12)
    unequal = run_of(write, "unequal", world=2, patch=double, batch={"micro": 1})  # four passes and three
    assert_alike(one, unequal, tolerance=1e-12)


@pytest.mark.slow
def test_two_processes_and_micro_batches_equal_one_process_over_two_hundred_steps(write_experiment: Write) -> None:
    """Rounding is carried on from step to step, and does not grow into another run."""
    write = float64(write_experiment)
    length = {"epochs": 2, "steps_per_epoch": 100, "eval_every": None, "checkpoint_every": None, **PLAIN["training"]}
    one = run_of(write, "one", patch=double, training=length)
    assert len(history(one).steps["step"]) == 200
    both = run_of(write, "both", world=2, patch=double, training=length, batch={"micro": 3})
    assert_alike(one, both, tolerance=1e-12)


def with_a_batch_term() -> None:
    """A fusion whose batch term is a mean over samples, which unlike a comparison of samples may be cut into slices."""
    double()
    from dataclasses import replace

    from mmtrain.models.fusion.attention import AttentionFusion

    forward = AttentionFusion.forward

    def with_term(self: AttentionFusion, inputs: Any) -> Any:
        fused = forward(self, inputs)
        return replace(fused, aux={"size": fused.joint.sin().sum(dim=1).mean()})

    AttentionFusion.forward = with_term  # type: ignore[method-assign]


@pytest.mark.slow
def test_batch_terms_of_uneven_slices_count_by_their_samples(write_experiment: Write) -> None:
    write = float64(write_experiment)
    one = run_of(write, "one", patch=with_a_batch_term)
    both = run_of(write, "both", world=2, patch=with_a_batch_term, batch={"micro": 3})
    assert "aux/size" in history(one).steps
    assert_alike(one, both, tolerance=1e-12)
    without = run_of(write, "without", patch=double)
    with pytest.raises(AssertionError):
        assert_alike(one, without, tolerance=1e-6)


@pytest.mark.slow
def test_a_division_by_the_slice_is_seen(write_experiment: Write) -> None:
    """Control: the comparison above fails where labels are counted per process."""
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double)
    two = run_of(write, "two", world=2, patch=unscaled_sum)
    with pytest.raises(AssertionError):
        assert_alike(one, two, tolerance=1e-6)


@pytest.mark.slow
def test_two_processes_equal_one_with_text_in_float32(write_experiment: Write) -> None:
    assert_alike(run_of(write_experiment, "one"), run_of(write_experiment, "two", world=2), tolerance=1e-5)


@pytest.mark.slow
def test_three_processes_with_fewer_evaluation_batches_than_processes(write_experiment: Write) -> None:
    """One batch a stream makes two: the third process evaluates nothing and takes part in all that is gathered."""
    write = float64(write_experiment)
    batch = {"micro": None, "evaluation": 512}
    one = run_of(write, "one", patch=double, batch=batch)
    three = run_of(write, "three", world=3, patch=double, batch=batch)
    assert_alike(one, three, tolerance=1e-12)
    names = [(run / "predictions" / "val.parquet") for run in (one, three)]
    from mmtrain.evaluation.prediction_file import read_predictions

    first, second = (read_predictions(name) for name in names)
    for task, item in first.items():
        assert item.ids.tolist() == second[task].ids.tolist()
        assert len(set(zip(item.streams, item.ids, strict=True))) == len(item)


@pytest.mark.slow
def test_two_processes_resume_exactly_with_dropout(write_experiment: Write, tmp_path: Path) -> None:
    whole, parted = (write_experiment(f"{name}.yaml", name=name) for name in ("whole", "parted"))

    def together(file: Path, *flags: str, patch: Patch | None = None) -> list[Life]:
        return live_together(["train", "--config", str(file), *flags], cwd=tmp_path, world=2, patch=patch)

    assert [life.code for life in together(whole)] == [0, 0]
    lives = together(parted, patch=partial(cut, at=5, how=signal.SIGINT))
    assert [life.code for life in lives] == [130, 130], lives
    assert "stopped at step 6; the run is saved" in lives[0].err
    assert [life.code for life in together(parted, "--resume")] == [0, 0]
    for name in ("metrics.jsonl", "curriculum.jsonl", "checkpoints/last/model.safetensors"):
        assert (tmp_path / "runs/whole" / name).read_bytes() == (tmp_path / "runs/parted" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (4, 2)])
def test_a_run_goes_on_with_another_number_of_processes(write_experiment: Write, before: int, after: int) -> None:
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double)
    file = write("other.yaml", name="other", **PLAIN)
    arguments = ["train", "--config", str(file)]
    patch = partial(cut_double, at=5, how=signal.SIGINT)
    lives = live_together(arguments, cwd=file.parent, world=before, patch=patch)
    assert [life.code for life in lives] == [130] * before, lives
    lives = live_together([*arguments, "--resume"], cwd=file.parent, world=after, patch=double)
    assert [life.code for life in lives] == [0] * after, lives
    of = f"{before} process{'es' if before > 1 else ''}"
    assert f"the checkpoint is of {of}, {after} run now: the batches stay the same" in lives[0].out
    assert_alike(one, file.parent / "runs" / "other", tolerance=1e-12)


def cut_double(*, at: int, how: int) -> None:
    double()
    cut(at=at, how=how)


def test_two_processes_evaluate_with_the_running_statistics_that_are_saved(write_experiment: Write) -> None:
    """Batch normalization sees each process's own slice; an evaluation is of the one model that a checkpoint keeps."""
    norm = {"name": "mlp", "hidden": [8], "dropout": 0.0, "batch_norm": True}
    run = run_of(float64(write_experiment), "norm", world=2, tasks={"funny": {"head": norm}}, training={"eval_every": None})
    scored = live(["evaluate", str(run), "--split", "val", "--checkpoint", "last"], cwd=run.parent)
    assert scored.code == 0, scored.err
    metrics = json.loads((run / "evaluation" / "val.json").read_text())["metrics"]
    assert metrics["val/funny/loss"] == pytest.approx(history(run).evaluations["val/funny/loss"][-1], rel=1e-6)
