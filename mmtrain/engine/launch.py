"""Whether what runs is what was asked for (processes, CPU threads), and what does not come out alike on several."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from accelerate.utils import parse_flag_from_env
from torch import distributed, nn

_LAUNCHERS = frozenset(
    {"accelerate", "accelerate-launch", "accelerate.commands.launch", "torchrun", "torch.distributed.run"}
)
_OTHER_SHARDING = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}
_FSDP_EXTRAS = {  # of which none is asked for where nobody says so
    "FSDP_OFFLOAD_PARAMS": ("fsdp_offload_params", "leave it out"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("fsdp_activation_checkpointing", "write model.text.gradient_checkpointing: true"),
    "FSDP_IGNORED_MODULES": ("fsdp_ignored_modules", "leave it out"),
}
LAUNCHER_VARIABLE = "MMTRAIN_LAUNCHER"  # the process id of a launcher of our own
PATIENCE = timedelta(minutes=10)  # how long a process waits for the others; a checkpoint is written within it


def peer_failure(error: RuntimeError) -> str | None:
    """What to say where a process fails because another one did; None where the error is its own."""
    if not isinstance(error, distributed.DistError) and "gloo" not in str(error) and "NCCL" not in str(error):
        return None
    first = str(error).strip().splitlines()[0]
    return f"another process of this run ended or did not answer; the cause stands in its own message ({first})"


def asked_processes() -> int | None:
    """The number of processes named on the launcher's command line (`--num_processes N`), where there is one."""
    words, _ = _launcher()
    return parse_num_processes(words)


def cpu_threads(*, local_processes: int) -> int | None:
    """Threads that each process on a CPU should compute with; None where the launcher did not restrict them unasked.

    `accelerate launch` sets OMP_NUM_THREADS=1 where nobody said otherwise, which leaves all cores but one idle.
    """
    words, environment = _launcher()
    named = any(word.partition("=")[0].replace("-", "_") == "__num_cpu_threads_per_process" for word in words)
    launched = any("accelerate" in word for word in words)
    if not launched or named or "OMP_NUM_THREADS" in environment or os.environ.get("OMP_NUM_THREADS") != "1":
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // local_processes)


def launcher_pid() -> int | None:
    """The launcher that started this process and watches it; None where a shell, a job or anything else did."""
    if os.environ.get(LAUNCHER_VARIABLE, "").isdigit():
        return int(os.environ[LAUNCHER_VARIABLE])
    pid = os.getppid()
    words, _ = _launcher()
    return pid if any(Path(word).name in _LAUNCHERS for word in words[:4]) else None


def _launcher() -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the process that started this one; empty where they cannot be read."""
    import psutil

    try:
        parent = psutil.Process(os.getppid())
        return parent.cmdline(), parent.environ()
    except psutil.Error:
        return [], {}


def parse_num_processes(words: Sequence[str]) -> int | None:
    """N out of `accelerate launch ... --num_processes N` or `--num_processes=N`; None where it does not stand there."""
    if not any("accelerate" in word for word in words):
        return None
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if name.replace("-", "_") == "__num_processes":
            value = value or (words[number + 1] if number + 1 < len(words) else "")
            return int(value) if value.isdigit() else None
    return None


def launch_complaint(num_processes: int) -> str | None:
    """A sentence where another number of processes was asked for than runs."""
    asked = asked_processes()
    if asked is None or asked == num_processes:
        return None
    return (
        f"warning: {asked} processes were asked for, {num_processes} runs. On CPUs several start only with "
        f"ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes {asked} ..."
    )


def asks_for_parts() -> bool:
    """Whether the launcher was told that every process shall hold a part of each weight (`--use_fsdp`)."""
    return bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))


def keeps_units_whole() -> bool:
    """Whether it was told to keep what is gathered for a forward pass until the backward pass."""
    return not parse_flag_from_env("FSDP_RESHARD_AFTER_FORWARD", default=True)


def sharding_complaint(*, trains: bool) -> str | None:
    """A sentence where the launcher was told to give every process a part of each weight in a way that is not known here.

    `trains` False: in any way, since what is asked for reads weights whole.
    """
    asked = [name for variable, name in _OTHER_SHARDING.items() if parse_flag_from_env(variable)]
    version = os.environ.get("FSDP_VERSION", "1")
    if asks_for_parts() and version != "2":
        asked.append(f"FSDP in version {version}")
    if asked:
        return (
            f"accelerate was told to use {asked[0]}, which leaves every process a part of each weight; mmtrain knows one "
            "way to do so: launch with `--use_fsdp --fsdp_version 2` (`distributed_type: FSDP` and `fsdp_version: 2` in "
            "accelerate's config), or with `--multi_gpu` where a process has room for the model"
        )
    if not asks_for_parts():
        return None
    if not trains:
        return (
            "accelerate was told to use FSDP, which leaves every process a part of each weight; only training can do with "
            "that. Launch this command with `--multi_gpu` (`distributed_type: MULTI_GPU` in accelerate's config)"
        )
    for variable, (key, advice) in _FSDP_EXTRAS.items():
        if os.environ.get(variable, "false").lower() not in ("", "false", "none", "0"):
            return f"accelerate's {key} is {os.environ[variable]}, which is not known here; {advice}"
    return None


def process_notes(model: nn.Module, num_processes: int, *, micro_tasks: Sequence[str] = ()) -> list[str]:
    """On several processes, the components whose result depends on their number.

    `micro_tasks`: pretext tasks whose samples are those of micro-batches.
    """
    if num_processes == 1:
        return []
    notes = []
    drops = [type(module).__name__ for module in model.modules() if getattr(module, "p", 0) > 0]
    if any("Dropout" in name or "StochasticDepth" in name for name in drops):
        notes.append("dropout (each process draws its own)")
    if _normalizes_batches(model):
        notes.append("batch normalization (each process sees its own slice)")
    if terms := _batch_terms(model):
        notes.append(f"the batch terms {', '.join(terms)} (each process compares the samples of its own slice)")
    drawing = sorted({str(module.draws) for module in model.modules() if isinstance(getattr(module, "draws", None), str)})
    if drawing:
        notes.append(f"what {' and '.join(drawing)} draw (each process by itself, from its own slice)")
    if micro_tasks:
        names = ", ".join(micro_tasks)
        notes.append(f"the pretext tasks {names} (batch.micro cuts each slice: others share a forward pass)")
    return [f"results will differ from a one-process run by: {', '.join(notes)}"] if notes else []


def budget_notes(model: nn.Module) -> list[str]:
    """The components whose result depends on how a token budget cuts a batch."""
    notes = ["batch normalization"] if _normalizes_batches(model) else []
    notes += [f"the batch terms {', '.join(terms)}"] if (terms := _batch_terms(model)) else []
    return [f"batch.tokens: {' and '.join(notes)} see micro-batches, whose samples are of like length"] if notes else []


def _normalizes_batches(model: nn.Module) -> bool:
    norms = [module for module in model.modules() if "BatchNorm" in type(module).__name__]
    return any(value.requires_grad for norm in norms for value in norm.parameters())  # what is frozen keeps its statistics


def _batch_terms(model: nn.Module) -> list[str]:
    return [name for module in model.modules() for name in getattr(module, "batch_terms", ())]
