"""`mmtrain tune batch-size`: the search, the batches it tries, out of memory at known sizes, and what it says on a CPU."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from mmtrain.cli import main
from mmtrain.data.schema import TEXT
from mmtrain.engine.run import Run
from mmtrain.tuning import batch_size, resident_memory, worst_step
from mmtrain.tuning.batch_size import largest, largest_micro
from mmtrain.tuning.resident_memory import peak_of_step
from mmtrain.tuning.worst_step import longest_samples, train_worst, worst_batches


def tune(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["tune", "batch-size", *map(str, arguments)])
    return int(end.value.code or 0)


def test_the_search_finds_every_capacity() -> None:
    for limit in range(1, 40):
        for capacity in range(limit + 3):
            tried: list[int] = []

            def fits(size: int, capacity: int = capacity, tried: list[int] = tried) -> bool:
                tried.append(size)
                return size <= capacity

            assert largest(fits, limit=limit) == min(capacity, limit)
            assert len(tried) == len(set(tried)) <= 2 * math.log2(limit) + 2
            assert all(1 <= size <= limit for size in tried)


@pytest.mark.parametrize("capacity", [5, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 2, 6, 20))])
def test_out_of_memory_at_a_known_size(
    small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capacity: int
) -> None:
    run = small_run()
    whole = worst_step.train_step

    def train_step(run: Run, inputs: Any) -> Any:
        if max(map(len, inputs.micro_batches)) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(run, inputs)

    monkeypatch.setattr(worst_step, "train_step", train_step)
    assert largest_micro(run, limit=11) == min(capacity, 11)
    assert all(value.grad is None for value in run.model.parameters())


@pytest.mark.parametrize(("mine", "other"), [(5, 3), (3, 5)])
def test_what_fits_has_to_fit_in_every_process(
    small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, mine: int, other: int
) -> None:
    tried: list[int] = []

    def fits_here(_: Run, size: int) -> bool:
        tried.append(size)
        return size <= mine

    class Two:
        """This process and another one, which tries the same sizes."""

        device, num_processes = torch.device("cpu"), 2

        def unwrap_model(self, model: torch.nn.Module) -> torch.nn.Module:
            return model

        def reduce(self, fits: torch.Tensor, reduction: str) -> torch.Tensor:
            assert reduction == "sum"
            return fits + float(tried[-1] <= other)

    monkeypatch.setattr(batch_size, "_fits_here", fits_here)
    assert largest_micro(replace(small_run(), accelerator=cast(Any, Two())), limit=11) == 3


def test_other_errors_are_not_taken_for_it(small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def train_step(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(worst_step, "train_step", train_step)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        largest_micro(small_run(), limit=4)


def test_the_batches_are_the_widest_there_are(small_run: Callable[..., Run], tiny_bert: Path) -> None:
    run = small_run(model={"text": {"name": "transformers", "path": str(tiny_bert), "max_tokens": 64}})
    tokenizer = run.loader.collate.tokenizer
    widest = {TEXT: 0, "audio": 0, "video": 0}
    for stream in run.train_streams:
        for position in range(len(stream)):
            sample = stream.sample(position)
            found = {name: len(rows) for name, rows in sample.features.items()} | {TEXT: len(tokenizer([sample.text])[0])}
            widest = {name: max(width, found.get(name, 0)) for name, width in widest.items()}
    for size in (3, 8, 400):
        for batch in worst_batches(run, size):
            assert len(batch) == size
            assert {name: item.mask.sum(1).max().item() for name, item in batch.inputs.items()} == widest
    single = worst_batches(run, 1)  # one sample cannot be the longest in all: each modality has a batch of its own
    assert len(single) == 3
    for name, width in widest.items():
        assert max(int(batch.inputs[name].mask.sum()) for batch in single) == width
    first = longest_samples(run.train_streams, tokenizer, 5)["audio"]
    lengths = [len(run.train_streams[stream].sample(position).features["audio"]) for stream, position in first]
    assert lengths == sorted(lengths, reverse=True)


def test_a_step_is_two_updates_over_several_micro_batches(
    small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second update has the optimizer's state beside it, the later micro-batches the gradients of the earlier."""
    run, calls = small_run(), []
    whole = worst_step.train_step

    def train_step(run: Run, inputs: Any) -> Any:
        calls.append([len(batch) for batch in inputs.micro_batches])
        return whole(run, inputs)

    monkeypatch.setattr(worst_step, "train_step", train_step)
    train_worst(run, 4)
    assert calls == [[4, 4], [4, 4]]
    assert run.optimizer.state_dict()["state"]


def test_what_it_says_on_a_cpu(fields: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(fields.parent.rglob("*"))
    assert tune(fields) == 2
    assert "on a CPU no out-of-memory error comes" in capsys.readouterr().err
    peaks = {size: (100 + 10 * size) * 2**20 for size in range(1, 8)}
    monkeypatch.setattr("mmtrain.tuning.batch_size.peak_of_step", lambda _file, _words, size, **_: peaks[size])
    assert tune(fields, "--memory-limit", "145") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["4 samples fit in one pass, 5 do not; batch.size=7 stays", "batch.micro=4"]
    assert tune(fields, "--memory-limit", "4000") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "batch.micro=7"
    assert "the whole share of a process of batch.size=7" in said[-2]
    assert tune(fields, "--memory-limit", "50") == 2
    assert "not even one sample fits: shorten texts" in capsys.readouterr().err
    assert sorted(fields.parent.rglob("*")) == before


@pytest.mark.slow
def test_memory_is_measured(fields: Path, tmp_path: Path) -> None:
    """Wider batches of a wide model need more; the peak of a fresh process is not that of the one that asks."""
    wide = ["model.dim=512", "model.sequences.audio={name: transformer}"]
    hoard = bytearray(2**30)
    hoard[:: 2**12] = b"x" * 2**18  # this process has a peak of a GiB more
    peaks = [peak_of_step(fields, wide, size, limit=2**40) for size in (1, 256)]
    del hoard
    assert peaks[0] is not None
    assert peaks[1] is not None
    assert peaks[0] < peaks[1]
    assert peaks[0] < 2**30
    assert peak_of_step(fields, wide, 256, limit=2**27) is None
    with pytest.raises(Exception, match=r"exit code 1: mmtrain.errors.ConfigError: config file .*none.yaml does not exist"):
        peak_of_step(tmp_path / "none.yaml", [], 1, limit=2**40)
    assert resident_memory.own_peak() > 2**30
