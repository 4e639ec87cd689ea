"""The curriculum that a stage's loop talks to: it plans windows, hears reports, and is saved with the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.decision import Decision, Names
from mmtrain.curriculum.pacing.pacer import Pacer
from mmtrain.curriculum.plan import Planner, PlanState, WindowPlan
from mmtrain.curriculum.record import count_active, describe_window, pool_changes, streams_used_up
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.protocol import Sampler
from mmtrain.curriculum.schedules.protocol import Schedule
from mmtrain.curriculum.streams import Integers
from mmtrain.curriculum.weighting.protocol import ByGradients, ByLosses, Learned, Weighting


class Curriculum:
    """Plans one window at a time.

    >>> while curriculum.step < total:
    ...     plan = curriculum.next_window(curriculum.step, min(curriculum.window, total - curriculum.step))
    ...     for step in range(finished, plan.stop_step):  # `finished`: optimizer steps done, also by the run resumed
    ...         streams, positions = plan.slice(step, rank=rank, world=world)
    ...     curriculum.finish_window(WindowReport(...))
    ...     curriculum.observe_losses({name: losses_at(positions) for name, positions in curriculum.probes().items()})
    ...     log(curriculum.record())
    ...     if plan.ended: break

    The state changes in `finish_window` and the two `observe_...` and nowhere else: `state_dict()` and `arrays()` inside a
    window are the state at its start, `step`. The run saves besides how many steps are finished, which is how many batches
    of the recomputed window to skip, and what it has summed up for that window's report.
    """

    def __init__(
        self,
        *,
        planner: Planner,
        sampler: Sampler,
        schedule: Schedule,
        pacer: Pacer,
        weighting: Weighting,
        tasks: Sequence[str],
        tasks_of: Mapping[str, Sequence[str]],
        window: int,
    ) -> None:
        self._planner, self._sampler, self._schedule, self._weighting = planner, sampler, schedule, weighting
        self._pacer, self._tasks, self._tasks_of, self.window = pacer, tuple(tasks), dict(tasks_of), window
        # the weighting as what it is, asked once: `isinstance` of a protocol takes longer than planning a batch
        self.learned = weighting if isinstance(weighting, Learned) else None
        self.by_losses = weighting if isinstance(weighting, ByLosses) else None
        self.by_gradients = weighting if isinstance(weighting, ByGradients) else None
        self.step = 0  # where the window under way starts, in optimizer steps of this stage
        self._state = planner.start()
        self._pending: tuple[WindowPlan, PlanState] | None = None
        self._events: list[str] = []  # of evaluations since the last window's record
        self._record: dict[str, Any] = {}

    @property
    def stream_names(self) -> tuple[str, ...]:
        """The names behind a plan's stream numbers."""
        return self._planner.names

    @property
    def listens(self) -> bool:
        """Whether the reports of windows must bring the loss of every sample."""
        return self._pacer.listens

    def next_window(self, step: int, num_steps: int) -> WindowPlan:
        """The window that starts at `step` (which is `self.step`), `num_steps` long, less where streams end the stage.

        Asking twice gives the same plan; nothing is used up until `finish_window`.
        """
        if step != self.step or not 1 <= num_steps <= self.window:
            raise ValueError(
                f"the next window starts at step {self.step} and has 1 .. {self.window} steps, not {step} and {num_steps}"
            )
        decision = Decision(
            shares=self._sampler.decide(step),
            active=self._active_streams(),
            pool=partial(self._pacer.pool, step=step),
            weight=self._pacer.weights,
        )
        self._pending = self._planner.plan(self._state, decision, first_step=step, num_steps=num_steps)
        return self._pending[0]

    def finish_window(self, report: WindowReport) -> None:
        """The window last planned has been trained on: commit it, and let every part hear what it showed."""
        if self._pending is None or report.step != self._pending[0].stop_step:
            planned = "none is planned" if self._pending is None else f"it ends at step {self._pending[0].stop_step}"
            raise ValueError(f"a report of step {report.step} cannot end the window: {planned}")
        active = count_active(self._pending[0], self._schedule.decide(self.step))
        weights = report.weights if report.weights is not None else self.weights(report.step - 1)
        (plan, after), before = self._pending, self._state
        self.step, self._state, self._pending = plan.stop_step, after, None
        report = replace(report, first_step=plan.first_step, shares=dict(zip(self._planner.names, plan.shares, strict=True)))
        self._sampler.observe(report)
        self._weighting.observe(report)
        pools = pool_changes(before, after, streams=self._planner.streams, pacer=self._pacer, step=plan.first_step)
        ends = streams_used_up(before, after, plan, streams=self._planner.streams, exhausted=self._planner.exhausted)
        events, self._events = [*self._events, *self._schedule.observe(report), *pools, *ends], []
        self._record = describe_window(plan, report, self._planner.streams, after)
        self._record |= {"active": active, "weights": weights, "conflicts": report.conflicts, "events": events}
        self._pacer.observe(plan, report.sample_losses, before=before.turns, after=after.turns)

    def probes(self) -> dict[str, Integers]:
        """Stream -> positions, ascending, whose losses are to be evaluated between `finish_window` and the next save."""
        return self._pacer.probes()

    def observe_losses(self, losses: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Hear the losses of what `probes` asked for, by stream in its order; NaN where a sample has none."""
        self._pacer.observe_probes(losses)
        self._pending = None

    def observe_evaluation(self, report: EvalReport) -> None:
        """Hear an evaluation; it falls on a border between windows."""
        if report.step != self.step:
            raise ValueError(f"an evaluation at step {report.step} is not on the window border {self.step}")
        self._sampler.observe(report)
        self._weighting.observe(report)
        self._events += self._schedule.observe(report)
        self._pending = None

    @property
    def weighting(self) -> Weighting:
        """What turns the losses or gradients of a step into one update."""
        return self._weighting

    def weights(self, step: int) -> dict[str, float] | None:
        """Task -> weight of its loss in the batch of `step`, which is in the window under way: 0 where it is not active.

        None where the weights come out of the step itself.
        """
        weights = self._weighting.weights(step, self.active_tasks(step))
        return None if weights is None else {task: weights.get(task, 0.0) for task in self._tasks}

    def active_tasks(self, step: int) -> Names:
        """The tasks that are trained at `step`, which is in the window under way.

        A sample drawn for one of them may carry labels of others: those are not learned from.
        """
        return self._schedule.decide(self.step)(step)

    def record(self) -> dict[str, Any]:
        """What curriculum.jsonl says of the window last finished; empty before the first.

        `step`: finished steps at its end; `passes`: how often each stream has been walked through, with the fraction;
        `pools`: samples in the pool of each stream's pass under way, or of its last; `active`: at how many of the window's
        steps each task was trained; `weights`: of the losses or gradients at its last step, 0 where a task is not active,
        and `conflicts`: see WindowReport; `events`: changes that took effect in it.
        """
        return dict(self._record)

    def state_dict(self) -> dict[str, Any]:
        """The state at the start of the window under way, JSON-able; of a weighting that learns in every step, as it is."""
        return {
            "step": self.step,
            "plan": self._planner.state_dict(self._state),
            "sampler": self._sampler.state_dict(),
            "schedule": self._schedule.state_dict(),
            "pacing": self._pacer.state_dict(),
            "weighting": self._weighting.state_dict(),
            "events": list(self._events),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the state holds by the sample, at the same moment: `pool/<stream>` bits and `losses/<stream>` [N]."""
        return {**self._planner.arrays(self._state), **self._pacer.arrays()}

    def load_state_dict(self, state: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue where both were taken. Errors: CheckpointError where streams or known difficulties have changed."""
        self._state = self._planner.load_state(state["plan"], arrays)
        self._pacer.load_state_dict(state["pacing"], arrays)
        self._sampler.load_state_dict(state["sampler"])
        self._weighting.load_state_dict(state["weighting"])
        self._schedule.load_state_dict(state["schedule"])
        self.step, self._pending, self._record = int(state["step"]), None, {}
        self._events = list(state["events"])

    def _active_streams(self) -> Callable[[int], Names]:
        """step -> the streams with an active task, in the plan's order, for the window that starts now."""
        tasks = self._schedule.decide(self.step)

        @cache
        def streams(active: Names) -> Names:
            return tuple(name for name in self._planner.names if not set(active).isdisjoint(self._tasks_of[name]))

        return lambda step: streams(tasks(step))
