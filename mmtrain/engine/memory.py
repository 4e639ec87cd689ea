"""The most memory that a process has held: on a GPU what torch allocated, on a CPU what was resident."""

import ctypes
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import Accelerator

_PROCESS = Path("/proc/self")  # Linux
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def own_peak() -> int:
    """Peak resident bytes of this process. On Linux not getrusage's, which begins with the parent's."""
    status = _PROCESS / "status"
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_memory(device: torch.device) -> int:
    """Peak bytes of this process since `forget_peak`; of a CPU where that cannot be forgotten, of its whole life."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else own_peak()


def forget_peak(device: torch.device) -> None:
    """Let the peak begin anew with what is held now. Nothing happens where the system has no way to."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)  # what is free is not held
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")  # the peak alone: see proc_pid_clear_refs(5)


def largest_peak(accelerator: Accelerator) -> int:
    """Peak bytes of the process with the highest, the same on every process."""
    own = torch.tensor([peak_memory(accelerator.device)], device=accelerator.device)
    return int(accelerator.gather(own).max())


def keep_freed_memory() -> bool:
    """Let this process use memory again that it has freed, in place of giving it back to the system; whether that is done.

    By default glibc (Linux) maps every large tensor anew and unmaps it when it is freed, so that each is written to pages
    which the system must first blank: ten times as slow as memory that was used before. The peak may be some percent
    higher, by gaps between tensors; nothing is given back before `forget_peak`.
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it is another than glibc."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
