"""Training runs in new processes: each is forked from a server that has imported everything and computed nothing."""

import hashlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["preloaded"])
# for the server, by whomever it is started, and started again
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
Patch = Callable[[], Any]
Write = Callable[..., Path]  # the fixture that writes an experiment file with changes


@dataclass(frozen=True)
class Life:
    """How a process (or several of one run) ended. `code` is negative for a signal."""

    code: int
    out: str
    err: str


def live(arguments: Sequence[str], *, cwd: Path, patch: Patch | None = None, timeout: float = 120) -> Life:
    """`mmtrain ARGUMENTS` in a new process, after `patch()` in it."""
    return live_together(arguments, cwd=cwd, world=1, patch=patch, timeout=timeout)[0]


def live_together(
    arguments: Sequence[str], *, cwd: Path, world: int, patch: Patch | None = None, timeout: float = 120
) -> list[Life]:
    """The same in `world` processes that train together over gloo, as a launcher would start them."""
    port = free_port()
    processes = []
    for rank in range(world):
        environment = launch_environment(rank, world, port) if world > 1 else {}
        process = CONTEXT.Process(target=_life, args=(list(arguments), cwd, rank, environment, patch))
        process.start()
        processes.append(process)
    lives = []
    for rank, process in enumerate(processes):
        process.join(timeout)
        hangs = process.exitcode is None
        if hangs:
            process.kill()
            process.join()
        out, err = (cwd / f"{name}-{rank}.txt" for name in ("out", "err"))
        lives.append(Life(process.exitcode or 0, out.read_text(), err.read_text()))
        assert not hangs, f"process {rank} still ran after {timeout} s:\n{lives[-1].out}\n{lives[-1].err}"
    return lives


@contextmanager
def alive(arguments: Sequence[str], *, cwd: Path, patch: Patch | None = None) -> Iterator[Any]:
    """`mmtrain ARGUMENTS` in a new process, given while it runs, which it does to the end of the block at most."""
    process = CONTEXT.Process(target=_life, args=(list(arguments), cwd, 0, {}, patch))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def launch_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What `accelerate launch --multi_gpu` sets for a process on CPUs."""
    return {
        "ACCELERATE_USE_CPU": "1",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _life(arguments: list[str], cwd: Path, rank: int, environment: Mapping[str, str], patch: Patch | None) -> None:
    os.chdir(cwd)
    os.environ.update(environment)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{name}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout = open(1, "w", closefd=False, buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import preloaded  # noqa: F401  # by the server; what hindered it, if anything, is said here
    import torch

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    if patch is not None:
        patch()
    from mmtrain.cli import main

    main(arguments)


def cut(*, at: int, how: int) -> None:
    """Let this process signal itself in the middle of the step after `at` finished ones."""
    from mmtrain.engine import loop

    whole = loop.train_step

    def train_step(run: Any, inputs: Any) -> Any:
        result = whole(run, inputs)
        if inputs.step == at:
            os.kill(os.getpid(), how)
        return result

    loop.train_step = train_step


def weights(file: Path, name: str) -> bytes:
    """The last weights of the run `name` of an experiment's file."""
    return (file.parent / "runs" / name / "checkpoints/last/model.safetensors").read_bytes()


def results(run: Path) -> dict[str, str]:
    """Hashes of all that must come out alike, bit for bit."""
    last = run / "checkpoints" / "last"
    groups = ("model", "trained", "average", "optimizer", "random", "samples", "regularizers")
    files = [last / f"{group}.safetensors" for group in groups]
    files += [run / "metrics.jsonl", run / "curriculum.jsonl", run / "predictions" / "val.parquet"]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    state = json.loads((last / "state.json").read_text())
    del state["identity"]["config"]["name"]
    return hashes | {"state": json.dumps(state), "best": (run / "checkpoints" / "best").resolve().name}
