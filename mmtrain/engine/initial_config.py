"""The config of the weights that a run begins with; apart from their reading, so that configs load fast."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mmtrain.section import Section

Match = Literal["strict", "shapes"]


class InitialConfig(Section):
    """Weights to begin with: of a checkpoint of an earlier run, or of a safetensors file."""

    run: str | None = Field(default=None, min_length=1, description="Folder of the run, relative to where the command runs.")
    file: str | None = Field(default=None, min_length=1, description="A safetensors file instead, with this model's names.")
    checkpoint: str = Field(default="best", min_length=1, description="best, last, or a folder below checkpoints/ of `run`.")
    weights: Literal["trained", "average"] = Field(default="trained", description="Those of `run`, or their average.")
    match: Match = Field(
        default="strict", description="All names and shapes fit, or it is refused; `shapes`: what fits of both is loaded."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.run is None) == (self.file is None):
            raise ValueError("name either the folder of a `run` or a `file`, and not both")
        if self.file is not None and (self.checkpoint, self.weights) != ("best", "trained"):
            raise ValueError("`checkpoint` and `weights` belong to a `run`; a `file` has none: leave them out")
        return self
