"""What samplers and schedules are built from: the stage's streams and tasks, its seed, and how long an epoch is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, Protocol, runtime_checkable

from mmtrain.curriculum.streams import StreamSpec
from mmtrain.data.schema import TaskKind
from mmtrain.errors import ConfigError

Unit = Literal["steps", "epochs"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One stage, as far as a component may know it."""

    streams: Sequence[StreamSpec]
    tasks: Sequence[str] = ()
    kinds: Mapping[str, TaskKind] = field(default_factory=dict)  # of the tasks, as far as they are known
    seed: int = 0
    steps_per_epoch: int = 1

    @property
    def stream_names(self) -> tuple[str, ...]:
        return tuple(stream.name for stream in self.streams)

    def steps(self, time: float, unit: Unit) -> int:
        """A time of the config in optimizer steps, rounded to a whole one."""
        return round(time * self.steps_per_epoch) if unit == "epochs" else round(time)

    def tasks_of(self, stream: StreamSpec) -> tuple[str, ...]:
        """The tasks of a stream; one that names none has all of the stage's."""
        return tuple(stream.tasks or self.tasks)


@runtime_checkable
class Watching(Protocol):
    """A config that reads metrics of the evaluations; they are checked before the run starts."""

    def watched_metrics(self, tasks: Sequence[str]) -> list[tuple[str, str]]:
        """(key of the config, full name of the metric that it reads), for a stage of these tasks."""


@runtime_checkable
class Naming(Protocol):
    """A config that names streams or tasks of the stage; they are known before any store is opened."""

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:
        """Errors: ConfigError for one that the stage lacks, or does not name where each has to be."""


def check_known(where: str, kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Errors: ConfigError where `given` names a stream or task (`kind`) that is not among the `known`."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(f"{where}: unknown {kind} '{name}'; {hint}The stage has {', '.join(known)}")


def check_complete(where: str, kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    """`given` names each of the `known` streams or tasks and no other. Errors: ConfigError."""
    named = set(given)
    check_known(where, kind, sorted(named), known)
    check_named(where, kind, named, known)


def check_named(where: str, kind: str, given: Iterable[str], needed: Sequence[str]) -> None:
    """Errors: ConfigError where a needed stream or task (`kind`) is not among the `given`."""
    named = set(given)
    missing = [name for name in needed if name not in named]
    if missing:
        raise ConfigError(f"{where}: nothing is written for {kind} {', '.join(missing)}; name every {kind}")
