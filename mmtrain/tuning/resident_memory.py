"""How much resident memory a training step needs at its peak, measured in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil

from mmtrain.engine.memory import own_peak
from mmtrain.errors import ConfigError

_PATIENCE = 0.02  # seconds between looks at the other process


def peak_of_step(file: Path, overrides: Sequence[str], size: int, *, limit: int) -> int | None:
    """Peak resident bytes of a process that trains on `size` of the longest samples; None where that is too much.

    Too much is more than `limit`, or what the system killed it for. A process that passes the limit is ended at once, so
    that the machine does not swap. A peak belongs to a process for life, hence a new one for each size. Errors: ConfigError
    with what the process said where it fails otherwise.
    """
    words = [sys.executable, "-m", "mmtrain.tuning.resident_memory", json.dumps([str(file), list(overrides), size])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            if not _stays_within(child, limit):
                return None
            out, said = child.communicate()
        finally:
            child.kill()
    if child.returncode == -signal.SIGKILL:  # by the system, which had no memory left
        return None
    if child.returncode != 0:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigError(f"a step with {size} samples ended with exit code {child.returncode}: {last}")
    return int(out.strip().splitlines()[-1])


def _stays_within(child: "subprocess.Popen[str]", limit: int) -> bool:
    """Watch until the process ends; False if it was seen above the limit."""
    watched = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            if watched.memory_info().rss > limit:
                return False
        except psutil.Error:  # it ended just now
            break
        time.sleep(_PATIENCE)
    return True


def _main(file: str, overrides: list[str], size: int) -> None:
    from mmtrain.build import build_run
    from mmtrain.config import load_experiment
    from mmtrain.training import build_accelerator
    from mmtrain.tuning.worst_step import train_worst

    experiment = load_experiment(file, overrides)
    with closing(build_run(experiment, build_accelerator(experiment), None, on_disk=False)) as run:
        train_worst(run, size)
    sys.stdout.write(f"{own_peak()}\n")
    sys.stdout.flush()
    os._exit(0)  # the peak is known


if __name__ == "__main__":
    _main(*json.loads(sys.argv[1]))
