"""Difficulty as this run's own model meets it."""

from typing import Literal

from pydantic import Field

from mmtrain.section import Section


class RunningConfig(Section):
    """Each sample's last loss in this run, the mean over its labelled tasks; until all have one, the stream is whole."""

    name: Literal["running"] = "running"
    probe_every: int | None = Field(
        default=None,
        ge=1,
        description="Passes of a stream between evaluations of the samples outside its pool: a forward pass each, so many "
        "where the pool is small; null: they keep their last loss.",
    )
