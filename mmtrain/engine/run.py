"""The parts of a run, already built: what the loop works with. It knows no config."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from mmtrain.curriculum.curriculum import Curriculum
from mmtrain.data.dataset import Stream
from mmtrain.engine.averages.average import WeightAverage
from mmtrain.engine.clipping.protocol import Clipping
from mmtrain.engine.curve import Curve
from mmtrain.engine.jsonl import JsonLines
from mmtrain.engine.loading import Loader
from mmtrain.engine.profiling.profile import Profile
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.schedules.schedule import LrSchedule
from mmtrain.engine.throughput import Throughput
from mmtrain.engine.tracking import Tracker
from mmtrain.engine.unfreezing import Unfreezing
from mmtrain.objectives.objective import Objective

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Numbers of the loop; all times are finished optimizer steps."""

    batch_size: int  # samples of a global batch
    total_steps: int
    steps_per_epoch: int
    window: int
    eval_every: int | None  # besides the epochs' ends; a multiple of `window`
    checkpoint_every: int | None  # besides every evaluation
    keep_checkpoints: int
    on_save_error: Literal["stop", "continue"]
    eval_batch: int
    on_nonfinite: Literal["stop", "skip", "rollback"]
    skip_limit: int  # steps that may be left out for NaN or Inf: in a row, and of rollbacks behind one checkpoint
    metric: str  # a name `val/...` that selects the best checkpoint
    mode: Literal["min", "max"]
    patience: int | None  # evaluations without gain before the run stops
    seed: int
    detect_anomaly: bool = False  # look for the operation that makes a NaN, slowly
    train_predictions: bool = False  # write those of all training samples after every epoch

    def epoch_of(self, step: int) -> int:
        """The epoch (from 1) that the `step`-th finished step belongs to."""
        return max(step - 1, 0) // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        """Whether the `step`-th finished step is an epoch's last."""
        return step % self.steps_per_epoch == 0

    def next_evaluation(self, step: int) -> int:
        """The first evaluation after `step`: every `eval_every` steps inside an epoch, and at its end."""
        epoch_start = step - step % self.steps_per_epoch
        epoch_end = min(epoch_start + self.steps_per_epoch, self.total_steps)
        if self.eval_every is None:
            return epoch_end
        return min(epoch_start + ((step - epoch_start) // self.eval_every + 1) * self.eval_every, epoch_end)

    def checkpoint_due(self, step: int) -> bool:
        return self.checkpoint_every is not None and step % self.checkpoint_every == 0

    def window_of(self, step: int) -> tuple[int, int]:
        """First step and end of the window that the step after `step` belongs to; an epoch's last one may be short."""
        epoch_start = step - step % self.steps_per_epoch
        first = step - (step - epoch_start) % self.window
        return first, min(first + self.window, epoch_start + self.steps_per_epoch, self.total_steps)


@dataclass(frozen=True, kw_only=True)
class Logs:
    """The files of the run that only the first process writes."""

    metrics: JsonLines
    curriculum: JsonLines
    timing: JsonLines

    def close(self) -> None:
        for log in (self.metrics, self.curriculum, self.timing):
            log.close()


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that `fit` works with."""

    folder: RunFolder
    accelerator: Accelerator
    model: nn.Module  # prepared
    heads: Mapping[str, nn.Module]  # task -> the part of the model that is its alone
    optimizer: torch.optim.Optimizer  # prepared, where the loss is scaled
    lr_schedule: LrSchedule
    average: WeightAverage | None  # of the weights, besides
    clipping: Clipping
    unfreezing: Unfreezing | None  # None: what trains does so throughout
    objective: Objective
    curriculum: Curriculum
    loader: Loader
    val_streams: Sequence[Stream]
    curve: Curve
    settings: LoopSettings
    identity: Mapping[str, Any]  # resolved config and store fingerprints: what a checkpoint belongs to
    texts: Mapping[str, str]  # files copied into every checkpoint
    on_disk: bool  # False: `folder` is not touched
    console: Console | None  # None: this process prints nothing
    logs: Logs | None  # None: not the first process
    trackers: Sequence[Tracker]
    throughput: Throughput = field(default_factory=Throughput)  # of the epoch under way, in this life of the run
    profile: Profile | None = None  # None: the marks below do nothing

    @property
    def train_streams(self) -> Sequence[Stream]:
        return self.loader.streams

    def span(self, phase: str, *, covers: int = 0) -> AbstractContextManager[None]:
        """Mark what happens inside for the profile: see `Profile.span`."""
        return nullcontext() if self.profile is None else self.profile.span(phase, covers=covers)

    def waits(self, phase: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the wait for each is marked."""
        return items if self.profile is None else self.profile.waits(phase, items)

    def close(self) -> None:
        """Bring trackers and files to their end, however the run ended."""
        if self.profile is not None:
            self.profile.close()
        for tracker in self.trackers:
            tracker.close()
        if self.logs is not None:
            self.logs.close()

    def say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
