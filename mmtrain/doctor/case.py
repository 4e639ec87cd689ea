"""The run that is examined, built and not begun: its batches, the time that a check may take, and its state put back."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import torch

from mmtrain.config import Experiment
from mmtrain.data.store import FeatureStore
from mmtrain.engine.curve import Curve
from mmtrain.engine.loading import StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.state import load_random_state, random_state
from mmtrain.engine.step import train_step
from mmtrain.errors import ConfigError

_TIMED = 2  # steps behind one that warms up


class Deadline:
    """A stretch of time that begins now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, 0 at the least."""
        return max(self._end - time.monotonic(), 0.0)

    @property
    def passed(self) -> bool:
        return self.left <= 0


@dataclass(frozen=True)
class Case:
    """What every check is given. `seconds`: for all checks together; each takes its share at most, about."""

    experiment: Experiment
    run: Run
    seconds: float = 60.0

    @property
    def stores(self) -> dict[str, FeatureStore]:
        """By dataset, those that a stream draws from."""
        return {self.experiment.streams[stream.name].dataset: stream.store for stream in self.run.train_streams}

    def deadline(self, share: float) -> Deadline:
        """Of a check that may take this share of the time."""
        return Deadline(self.seconds * share)

    def batches(self, count: int) -> list[StepInput]:
        """The first steps of the run, at most its first window. Errors: ConfigError where there is none."""
        _, stop = self.run.settings.window_of(0)
        window = self.run.curriculum.next_window(0, stop)
        steps = self.run.loader.steps(window, first=0)
        with closing(steps):  # type: ignore[type-var]
            found = list(islice(steps, count))
        if not found:
            raise ConfigError("curriculum.exhausted: stop: the streams cannot fill a single batch of this size")
        return found

    @property
    def can_learn(self) -> bool:
        """Whether any parameter is trained."""
        return any(parameter.requires_grad for parameter in self.run.model.parameters())

    @cached_property
    def seconds_per_step(self) -> float:
        """Of an optimizer step with its batch at hand, measured once."""
        first = self.batches(1)[0]
        with unchanged(self.run) as run:
            run.model.train()
            train_step(run, first)
            began = time.monotonic()
            for _ in range(_TIMED):
                train_step(run, first)
                synchronize(run)
            return (time.monotonic() - began) / _TIMED


@contextmanager
def unchanged(run: Run) -> Iterator[Run]:
    """The run to train with; behind it weights, optimizer, curriculum and random numbers are what they were before.

    It keeps no average of weights, and stops at NaN. Copies of weights and optimizer stand in memory meanwhile.
    """
    model = run.accelerator.unwrap_model(run.model)
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimizer, schedule = deepcopy(run.optimizer.state_dict()), run.lr_schedule.state_dict()
    curriculum, arrays = deepcopy(run.curriculum.state_dict()), deepcopy(run.curriculum.arrays())
    random, modes = random_state(), [module.training for module in model.modules()]
    settings = replace(run.settings, on_nonfinite="stop")
    try:
        yield replace(run, settings=settings, average=None, curve=Curve(run.settings.batch_size))
    finally:
        model.load_state_dict(weights)
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
        run.optimizer.load_state_dict(optimizer)
        run.optimizer.zero_grad(set_to_none=True)
        run.lr_schedule.load_state_dict(schedule)
        run.curriculum.load_state_dict(curriculum, arrays)
        load_random_state(random)


def synchronize(run: Run) -> None:
    """Wait until the device has done what it was asked for."""
    if run.accelerator.device.type == "cuda":
        torch.cuda.synchronize(run.accelerator.device)
