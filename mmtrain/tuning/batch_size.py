"""`mmtrain tune batch-size`: the largest micro-batch whose step fits in memory, tried on the longest samples."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from mmtrain.build import build_run
from mmtrain.cache_text import make_cache
from mmtrain.config import Experiment, load_experiment
from mmtrain.engine.console import main_console
from mmtrain.engine.run import Run
from mmtrain.errors import ConfigError
from mmtrain.training import build_accelerator
from mmtrain.tuning.resident_memory import peak_of_step
from mmtrain.tuning.worst_step import train_worst

Fits = Callable[[int], bool]


def tune_batch_size(file: Path, overrides: Sequence[str] = (), *, memory_limit: int | None = None) -> int:
    """The largest `batch.micro`; printed as an override, which leaves `batch.size` and so the result of training alone.

    On GPUs out-of-memory errors decide. `memory_limit`: MiB of resident memory of one process, which decide on a CPU.
    Errors: ConfigError with `batch.tokens`, on a CPU without a limit, with a limit elsewhere, and where not even one sample
    fits.
    """
    experiment = load_experiment(file, list(overrides))
    if experiment.batch.tokens is not None:
        raise ConfigError(
            f"batch.tokens: {experiment.batch.tokens} cuts micro-batches already, and batch.micro is tried on the longest "
            "samples without it; write batch.tokens=null here, and one of the two in the experiment"
        )
    accelerator = build_accelerator(experiment)
    console = main_console(accelerator)
    limit = -(-experiment.batch.size // accelerator.num_processes)
    _check_device(accelerator, memory_limit)
    if memory_limit is not None:
        if experiment.model.text is not None and experiment.model.text.cache:
            make_cache(file, overrides, verify=False)  # which a step does not do
        found = largest(lambda size: _fits_beside(file, overrides, size, memory_limit), limit=limit)
    else:
        with closing(build_run(experiment, accelerator, console, on_disk=False)) as run:
            found = largest_micro(run, limit=limit)
    if not found:
        raise ConfigError(
            "not even one sample fits: shorten texts (model.text.max_tokens), train fewer layers "
            "(model.text.trainable_layers), or write model.text.gradient_checkpointing=true"
        )
    if console is not None:
        for line in (_describe(experiment, found, limit), f"batch.micro={found}"):
            console.print(line, markup=False, highlight=False)
    accelerator.end_training()
    return found


def largest(fits: Fits, *, limit: int) -> int:
    """The largest size from 1 to `limit` that fits, by doubling and then halving the gap; 0 where not even 1 does."""
    good, bad = 0, limit + 1
    while good + 1 < bad:
        size = min(max(2 * good, 1), limit) if bad > limit else (good + bad) // 2
        good, bad = (size, bad) if fits(size) else (good, size)
    return good


def largest_micro(run: Run, *, limit: int) -> int:
    """By real steps in this process; over several, what fits in all of them. The weights of `run.model` are spent.

    The steps leave out DDP's exchange of gradients (a process that ran out of memory would leave the others waiting in it);
    its buffers stand in memory all the same.
    """
    alone = replace(run, model=run.accelerator.unwrap_model(run.model))

    def fits(size: int) -> bool:
        mine = torch.tensor(float(_fits_here(alone, size)), device=run.accelerator.device)
        return bool(run.accelerator.reduce(mine, reduction="sum").item() == run.accelerator.num_processes)

    return largest(fits, limit=limit)


def _fits_here(run: Run, size: int) -> bool:
    try:
        train_worst(run, size)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        fits = False
    else:
        fits = True
    run.optimizer.zero_grad(set_to_none=True)
    clear_device_cache(garbage_collection=True)
    return fits


def _fits_beside(file: Path, overrides: Sequence[str], size: int, memory_limit: int) -> bool:
    peak = peak_of_step(file, overrides, size, limit=memory_limit * 2**20)
    return peak is not None and peak <= memory_limit * 2**20


def _check_device(accelerator: Accelerator, memory_limit: int | None) -> None:
    if accelerator.device.type != "cpu":
        if memory_limit is not None:
            raise ConfigError(f"--memory-limit is for CPUs; on {accelerator.device} out-of-memory errors decide")
        return
    if memory_limit is None:
        raise ConfigError(
            "on a CPU no out-of-memory error comes (the system swaps, or ends the process): say with --memory-limit MiB how "
            "much resident memory a process may have"
        )
    if accelerator.num_processes > 1:
        raise ConfigError("--memory-limit measures one process: start this command alone, with the limit of each process")


def _describe(experiment: Experiment, found: int, limit: int) -> str:
    if found == limit:
        return f"{found} samples, the whole share of a process of batch.size={experiment.batch.size}, fit in one pass"
    return f"{found} samples fit in one pass, {found + 1} do not; batch.size={experiment.batch.size} stays"
