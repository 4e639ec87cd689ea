"""The curriculum that a stage's loop talks to: it plans windows, hears reports, and is saved with the run."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import Field

from mmtrain.curriculum.allocation import Exhausted
from mmtrain.curriculum.decision import Decision, Names
from mmtrain.curriculum.plan import Planner, PlanState, WindowPlan
from mmtrain.curriculum.reports import EvalReport, WindowReport, round_significant
from mmtrain.curriculum.samplers import SamplerConfig
from mmtrain.curriculum.samplers.protocol import Sampler
from mmtrain.curriculum.samplers.uniform import UniformConfig
from mmtrain.curriculum.schedules import ScheduleConfig
from mmtrain.curriculum.schedules.all import AllConfig
from mmtrain.curriculum.schedules.protocol import Schedule
from mmtrain.curriculum.setting import Setting, Watching
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.curriculum.streams import steps_per_epoch as steps_of_epoch
from mmtrain.curriculum.weighting import WeightingConfig
from mmtrain.curriculum.weighting.fixed import FixedConfig
from mmtrain.curriculum.weighting.protocol import Weighting
from mmtrain.data.schema import TaskKind
from mmtrain.section import Section


class CurriculumConfig(Section):
    """Which samples, which tasks and which loss weights come next."""

    window: int = Field(default=50, ge=1, description="Optimizer steps during which the decisions stand still.")
    sampler: SamplerConfig = UniformConfig()
    schedule: ScheduleConfig = AllConfig()
    weighting: WeightingConfig = FixedConfig()
    exhausted: Exhausted = Field(
        default="repeat",
        description="A stream that ends begins anew (repeat), leaves its share to the other active ones, the last of which "
        "ends the stage (drop), or ends the stage (stop).",
    )
    group_by_length: bool = Field(default=True, description="Samples of like length share a batch: less padding.")

    def watched_metrics(self, tasks: Sequence[str]) -> list[tuple[str, str]]:
        """(key, metric) of all that reads the evaluations: what a run must be able to give."""
        parts = {"sampler": self.sampler, "schedule": self.schedule}
        return [
            (f"curriculum.{part}.{key}", metric)
            for part, section in parts.items()
            if isinstance(section, Watching)
            for key, metric in section.watched_metrics(tasks)
        ]

    def build(
        self,
        *,
        streams: Sequence[StreamSpec],
        tasks: Sequence[str],
        batch_size: int,
        seed: int,
        steps_per_epoch: int | None = None,
        kinds: Mapping[str, TaskKind] | None = None,
    ) -> "Curriculum":
        """The curriculum of one stage; `batch_size` counts samples over all processes. Errors: ConfigError.

        `steps_per_epoch`: None = all streams' samples over the batch size. `kinds`: of the tasks, for the weightings that
        go by them.
        """
        epoch = steps_per_epoch or steps_of_epoch(streams, batch_size)
        setting = Setting(streams=streams, tasks=tasks, kinds=kinds or {}, seed=seed, steps_per_epoch=epoch)
        planner = Planner(
            streams=streams,
            batch_size=batch_size,
            seed=seed,
            exhausted=self.exhausted,
            group_by_length=self.group_by_length,
        )
        return Curriculum(
            planner=planner,
            sampler=self.sampler.build(setting),
            schedule=self.schedule.build(setting),
            weighting=self.weighting.build(setting),
            tasks=tasks,
            tasks_of={stream.name: setting.tasks_of(stream) for stream in streams},
            window=self.window,
        )


class Curriculum:
    """Plans one window at a time.

    >>> while curriculum.step < total:
    ...     plan = curriculum.next_window(curriculum.step, min(curriculum.window, total - curriculum.step))
    ...     for step in range(finished, plan.stop_step):  # `finished`: optimizer steps done, also by the run resumed
    ...         streams, positions = plan.slice(step, rank=rank, world=world)
    ...     curriculum.finish_window(WindowReport(...))
    ...     log(curriculum.record())
    ...     if plan.ended: break

    The state changes in `finish_window` and `observe_evaluation` and nowhere else. So `state_dict()` inside a window is
    the state at the window's start, `step`; the number of finished steps, which the run saves anyway, says how many
    batches of the recomputed window to skip. The loop saves what it has summed up for the report of that window.
    """

    def __init__(
        self,
        *,
        planner: Planner,
        sampler: Sampler,
        schedule: Schedule,
        weighting: Weighting,
        tasks: Sequence[str],
        tasks_of: Mapping[str, Sequence[str]],
        window: int,
    ) -> None:
        self._planner, self._sampler, self._schedule, self._weighting = planner, sampler, schedule, weighting
        self._tasks, self._tasks_of, self.window = tuple(tasks), dict(tasks_of), window
        self.step = 0  # where the window under way starts, in optimizer steps of this stage
        self._state = planner.start()
        self._pending: tuple[WindowPlan, PlanState] | None = None
        self._events: list[str] = []  # of evaluations since the last window's record
        self._record: dict[str, Any] = {}

    @property
    def stream_names(self) -> tuple[str, ...]:
        """The names behind a plan's stream numbers."""
        return self._planner.names

    def next_window(self, step: int, num_steps: int) -> WindowPlan:
        """The window that starts at `step` (which is `self.step`), `num_steps` long, less where streams end the stage.

        Asking twice gives the same plan; nothing is used up until `finish_window`.
        """
        if step != self.step or not 1 <= num_steps <= self.window:
            raise ValueError(
                f"the next window starts at step {self.step} and has 1 .. {self.window} steps, not {step} and {num_steps}"
            )
        decision = Decision(shares=self._sampler.decide(step), active=self._active_streams())
        self._pending = self._planner.plan(self._state, decision, first_step=step, num_steps=num_steps)
        return self._pending[0]

    def finish_window(self, report: WindowReport) -> None:
        """The window last planned has been trained on: commit it, and let sampler and weighting hear what it showed."""
        if self._pending is None or report.step != self._pending[0].stop_step:
            planned = "none is planned" if self._pending is None else f"it ends at step {self._pending[0].stop_step}"
            raise ValueError(f"a report of step {report.step} cannot end the window: {planned}")
        plan, self._state = self._pending
        active = self._count_active(plan)
        weights = report.weights if report.weights is not None else self.weights(plan.stop_step - 1)
        self.step, self._pending = plan.stop_step, None
        shares = dict(zip(self._planner.names, plan.shares, strict=True))
        report = replace(report, first_step=plan.first_step, shares=shares)
        self._sampler.observe(report)
        self._weighting.observe(report)
        events = [*self._events, *self._schedule.observe(report)]
        self._events = []
        decided = {"active": active, "weights": weights, "conflicts": report.conflicts, "events": events}
        self._record = self._describe(plan, report) | decided

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
        `active`: at how many of the window's steps each task was trained; `weights`: of the losses or
        gradients at its last step, 0 where a task is not active, and `conflicts`: see WindowReport; `events`: changes that
        took effect in it.
        """
        return dict(self._record)

    def state_dict(self) -> dict[str, Any]:
        """The state at the start of the window under way, JSON-able; of a weighting that learns in every step, as it is."""
        return {
            "step": self.step,
            "plan": self._planner.state_dict(self._state),
            "sampler": self._sampler.state_dict(),
            "schedule": self._schedule.state_dict(),
            "weighting": self._weighting.state_dict(),
            "events": list(self._events),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. Errors: CheckpointError where the streams have changed."""
        self._state = self._planner.load_state(state["plan"])
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

    def _count_active(self, plan: WindowPlan) -> dict[str, int]:
        tasks = self._schedule.decide(plan.first_step)
        return dict(Counter(task for step in range(plan.first_step, plan.stop_step) for task in tasks(step)))

    def _describe(self, plan: WindowPlan, report: WindowReport) -> dict[str, Any]:
        names, state = self._planner.names, self._state
        totals = plan.counts.sum(axis=0).tolist()
        walked = [
            passes + offset / stream.size
            for stream, passes, offset in zip(self._planner.streams, state.passes, state.offsets, strict=True)
        ]
        return {
            "step": plan.stop_step,
            "steps": plan.num_steps,
            "shares": {name: round_significant(share) for name, share in report.shares.items()},
            "counts": dict(zip(names, totals, strict=True)),
            "passes": {name: round_significant(value) for name, value in zip(names, walked, strict=True)},
            "losses": {stream: dict(tasks) for stream, tasks in report.losses.items()},
        }
