"""Difficulty as another model met it."""

from typing import Literal

from pydantic import Field

from mmtrain.section import Section


class PredictionsConfig(Section):
    """The losses of an earlier run, matched by stream and id; a sample's mean over its tasks."""

    name: Literal["predictions"] = "predictions"
    file: str = Field(
        min_length=1, description="A predictions file over the training samples, runs/NAME/predictions/train.parquet."
    )
