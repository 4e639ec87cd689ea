"""Time claimed by marks that lie inside each other: each phase gets its own part, and the rest of a step is `loop`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

REST = "loop"
PHASES = {
    "data": "the loop waits for the loader",
    "forward": "model and losses",
    "backward": "gradients, and what a weighting makes of them",
    "optimizer": "clipping and update, schedule and average",
    REST: "progress, counters, and all else in a step",
    "plan": "the curriculum plans a window",
    "report": "a window ends: logs are written, the curriculum listens",
    "evaluation": "of the validation split, and metrics",
    "checkpoint": "saved",
}


@dataclass
class Cost:
    """What a phase took."""

    seconds: float = 0.0
    times: int = 0  # that it came; of a phase of every step, the steps
    steps: int = 0  # that these times stand for

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps


class Costs:
    """Phases of every step are measured between `begin_steps` and `end_steps`; what comes once in many steps, always.

    `now`: seconds, when all work asked for until then is done.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._since = now, 0.0
        self._open: list[str] = []  # marks under way, the innermost last
        self._phases: dict[str, Cost] = {}
        self._measures, self.steps = False, 0

    @contextmanager
    def span(self, phase: str, *, covers: int = 0) -> Iterator[None]:
        """What happens inside is `phase`, but for what spans in it claim. `covers`: see `Profile.span`."""
        if not self._measures and not covers:
            yield
            return
        self._charge()
        self._open.append(phase)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()
        if covers:
            cost = self._of(phase)
            cost.times, cost.steps = cost.times + 1, cost.steps + covers

    def begin_steps(self) -> None:
        self._measures, self._since = True, self._now()

    def finish_step(self) -> None:
        """A step is over, and no span is open."""
        self._charge()
        self.steps += 1

    def end_steps(self) -> None:
        self._measures = False

    def found(self) -> dict[str, Cost]:
        """Every phase that came, in the order of `PHASES`."""
        own = {
            phase: cost if cost.times else Cost(cost.seconds, self.steps, self.steps) for phase, cost in self._phases.items()
        }
        return {phase: own[phase] for phase in PHASES if phase in own and own[phase].steps}

    def _of(self, phase: str) -> Cost:
        return self._phases.setdefault(phase, Cost())

    def _charge(self) -> None:
        """Give the time since the last mark to what is innermost."""
        now = self._now()
        if self._open or self._measures:
            self._of(self._open[-1] if self._open else REST).seconds += now - self._since
        self._since = now
