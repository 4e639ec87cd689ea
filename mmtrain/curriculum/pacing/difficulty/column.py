"""Difficulty that stands in the store."""

from typing import Literal

from pydantic import Field

from mmtrain.section import Section


class ColumnConfig(Section):
    """A numeric column of samples.parquet in every stream's store; a larger number is harder."""

    name: Literal["column"] = "column"
    column: str = Field(min_length=1, description="The column's name; no training sample may lack a number there.")
