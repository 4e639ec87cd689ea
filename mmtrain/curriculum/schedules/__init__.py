"""The schedules: which tasks are trained now. A row here is all that a new schedule needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.curriculum.schedules.all import AllConfig
from mmtrain.curriculum.schedules.assessed import AssessedConfig
from mmtrain.curriculum.schedules.one_at_a_time import OneAtATimeConfig
from mmtrain.curriculum.schedules.staged import StagedConfig
from mmtrain.curriculum.schedules.stop_and_go import StopAndGoConfig
from mmtrain.section import Section, rows_of

ScheduleConfig = Annotated[
    AllConfig | OneAtATimeConfig | StagedConfig | AssessedConfig | StopAndGoConfig,
    Field(discriminator="name"),
]

# All but staged build with their defaults.
SCHEDULES: tuple[type[Section], ...] = rows_of(ScheduleConfig)
