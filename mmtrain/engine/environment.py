"""What a result depends on besides its config: versions, hardware, git commit and diff, command line."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("mmtrain", "torch", "transformers", "accelerate", "numpy", "pyarrow", "safetensors", "torchmetrics")


def describe_environment(*, seed: int, num_processes: int, device: str, precision: str) -> dict[str, Any]:
    """A JSON-able record of this process's surroundings."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": seed,
        "processes": num_processes,
        "device": device,
        "precision": precision,
        "versions": {"python": platform.python_version()} | {name: package_version(name) for name in _PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
        "git": describe_git(Path(__file__).resolve().parent),
    }


def describe_git(folder: Path) -> dict[str, str | None]:
    """Commit and uncommitted diff of the checkout that holds `folder`; nulls where there is none."""
    commit = ask_git(folder, "rev-parse", "HEAD")
    diff = ask_git(folder, "diff", "HEAD") if commit else None
    return {"commit": commit and commit.strip(), "diff": diff}


def ask_git(folder: Path, *words: str) -> str | None:
    """What a git command says of the checkout that holds `folder`; None where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


@cache
def package_version(package: str) -> str | None:
    """Of an installed package; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
