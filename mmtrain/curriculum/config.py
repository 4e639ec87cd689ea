"""The section `curriculum:` of an experiment: four independent choices, and how they become one object."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from mmtrain.curriculum.allocation import Exhausted
from mmtrain.curriculum.curriculum import Curriculum
from mmtrain.curriculum.pacing import PacingConfig
from mmtrain.curriculum.pacing.none import NoPacingConfig
from mmtrain.curriculum.plan import Planner
from mmtrain.curriculum.samplers import SamplerConfig
from mmtrain.curriculum.samplers.uniform import UniformConfig
from mmtrain.curriculum.schedules import ScheduleConfig
from mmtrain.curriculum.schedules.all import AllConfig
from mmtrain.curriculum.setting import Setting, Watching
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.curriculum.streams import steps_per_epoch as steps_of_epoch
from mmtrain.curriculum.weighting import WeightingConfig
from mmtrain.curriculum.weighting.fixed import FixedConfig
from mmtrain.data.schema import TaskKind
from mmtrain.section import Section


class CurriculumConfig(Section):
    """Which samples, which tasks and which loss weights come next."""

    window: int = Field(default=50, ge=1, description="Optimizer steps during which the decisions stand still.")
    sampler: SamplerConfig = Field(default=UniformConfig(), description="How much of each stream is in a batch.")
    schedule: ScheduleConfig = Field(default=AllConfig(), description="Which tasks are trained at a step.")
    pacing: PacingConfig = Field(
        default=NoPacingConfig(), description="Which samples of a stream are in the pool of its next pass."
    )
    weighting: WeightingConfig = Field(
        default=FixedConfig(), description="How task losses, or their gradients, become one update."
    )
    exhausted: Exhausted = Field(
        default="repeat",
        description="A stream that ends begins anew (repeat), leaves its share to the other active ones, the last of which "
        "ends the stage (drop), or ends the stage (stop). It ends with its first pass, so with a pacing's first pool.",
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
    ) -> Curriculum:
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
            pacer=self.pacing.build(setting),
            weighting=self.weighting.build(setting),
            tasks=tasks,
            tasks_of={stream.name: setting.tasks_of(stream) for stream in streams},
            window=self.window,
        )
