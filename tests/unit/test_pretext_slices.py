"""Every process makes equally many forward passes, and knows how many samples the others have in each."""

import numpy as np
import pytest

from mmtrain.data.collate import Collator
from mmtrain.engine.loading import Loader, StepInput


class Plan:
    """One step over samples of one stream."""

    stop_step = 1

    def __init__(self, size: int = 10) -> None:
        self.size = size

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        return np.zeros(self.size, np.int64), np.arange(self.size)

    def passes(self, step: int) -> np.ndarray:  # noqa: ARG002
        return np.zeros(self.size, np.int64)

    def weights(self, step: int) -> np.ndarray:  # noqa: ARG002
        return np.arange(self.size, dtype=np.float32)


class Numbers:
    task_names = ()

    def samples(self, positions: np.ndarray) -> list[int]:
        return positions.tolist()


class Whole(Collator):
    def __init__(self) -> None:
        super().__init__(dims={}, tasks={}, tokenizer=None)

    def __call__(self, samples, streams):  # noqa: ARG002
        return list(samples)


def read(rank: int, world: int, micro: int | None, *, size: int = 10, compares: bool = True) -> StepInput:
    sharing = {"rank": rank, "world": world, "micro": micro, "compares": compares}
    loader = Loader(streams=[Numbers()], collate=Whole(), prefetch=0, **sharing)
    return next(iter(loader.steps(Plan(size), first=0)))


@pytest.mark.parametrize(("world", "micro"), [(2, None), (3, None), (3, 3), (3, 2), (4, 2), (1, 4), (2, 1)])
def test_slices_are_cut_into_equally_many_parts(world: int, micro: int | None) -> None:
    steps = [read(rank, world, micro) for rank in range(world)]
    longest = -(-10 // world)
    assert {len(step.micro_batches) for step in steps} == {1 if micro is None else -(-longest // micro)}
    seen = [number for step in steps for batch in step.micro_batches for number in batch]
    assert sorted(seen) == list(range(10))
    for rank, step in enumerate(steps):
        assert [n for batch in step.micro_batches for n in batch] == list(range(rank, 10, world))
        assert all(len(batch) <= (micro or 10) for batch in step.micro_batches)
        assert [weights.tolist() for weights in step.weights or ()] == step.micro_batches
        sizes = [tuple(len(other.micro_batches[number]) for other in steps) for number in range(len(step.micro_batches))]
        assert list(step.slices) == (sizes if world > 1 else [])


def test_without_comparisons_one_process_may_pass_more_often_than_another() -> None:
    """Seven samples one by one: four passes and three, and no slices that would have to be of both."""
    steps = [read(rank, 2, 1, size=7, compares=False) for rank in (0, 1)]
    assert [step.micro_batches for step in steps] == [[[0], [2], [4], [6]], [[1], [3], [5]]]
    assert [step.slices for step in steps] == [(), ()]
    with pytest.raises(ValueError, match="zip"):
        read(0, 2, 1, size=7)
