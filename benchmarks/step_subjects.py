"""Those that bench_step measures, each in a process of its own that answers with its CPU seconds."""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.step_own import Ours
from benchmarks.step_peers import Peer, Predecessor
from benchmarks.step_samples import SIZES, Clip, draw_clips


class Gemm:
    """What the thread can do: products of matrices of 2048."""

    def __init__(self) -> None:
        self._left, self._right, self._out = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.empty(2048, 2048)

    def train(self, _: Sequence[Clip]) -> None:
        for _number in range(10):
            torch.mm(self._left, self._right, out=self._out)


GEMM_FLOP = 10 * 2 * 2048**3


def build(kind: str, folder: Path, size: str, tasks: int) -> Any:
    makers: Mapping[str, Callable[[], Any]] = {
        "ours": lambda: Ours(folder, size, tasks),
        "peer": lambda: Peer(SIZES[size], tasks),
        "predecessor": lambda: Predecessor(SIZES[size], tasks),
        "gemm": Gemm,
    }
    return makers[kind]()


def serve(connection: Any, kind: str, folder: Path, size: str, tasks: int) -> None:
    """A process of one of them: answers each (method, numbers of clips, ...) with its CPU seconds, or the result."""
    from mmtrain.engine.memory import own_peak

    torch.set_num_threads(1)
    torch.manual_seed(0)
    clips = [clip for _, clip in draw_clips()]
    subject = build(kind, folder, size, tasks)
    torch.set_num_threads(1)
    connection.send("ready")
    while (message := connection.recv()) is not None:
        method, numbers, *others = message
        if method == "peak":
            connection.send(own_peak())
        elif method == "next_batch":
            connection.send(subject.next_batch())
        else:
            chosen = [clips[number] for number in numbers]
            begun = time.process_time()
            getattr(subject, method)(chosen, *others)
            connection.send(time.process_time() - begun)


class Subject:
    """The other end of `serve`."""

    def __init__(self, kind: str, folder: Path, size: str, tasks: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, kind, folder, size, tasks), daemon=True)
        self._process.start()
        other.close()
        assert self._connection.recv() == "ready"

    def __call__(self, method: str, numbers: Sequence[int] = (), *others: Any) -> Any:
        self._connection.send((method, list(numbers), *others))
        return self._connection.recv()

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


@contextmanager
def subjects(folder: Path, size: str, *kinds: str) -> Any:
    with ExitStack() as stack:
        found = [Subject(kind, folder, size) for kind in kinds]
        for subject in found:
            stack.callback(subject.close)
        yield found
