"""Difficulty as the training dynamics of an earlier run tell it."""

from typing import Literal

from pydantic import Field

from mmtrain.section import Section


class DataMapConfig(Section):
    """A data map that `mmtrain datamap` wrote, matched by stream and id; a sample's mean over its tasks.

    Harder is less `confidence`, more `variability`, more `forgetting_events`; a sample that was never learned counts as
    forgotten once in every epoch.
    """

    name: Literal["data_map"] = "data_map"
    file: str = Field(min_length=1, description="A data map of the training samples, runs/NAME/evaluation/data_map.parquet.")
    column: Literal["confidence", "variability", "forgetting_events"] = Field(
        default="confidence", description="What makes a sample hard: to be rarely right, undecided, or forgotten."
    )
