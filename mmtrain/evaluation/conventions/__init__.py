"""The table of conventions: what a data set's papers measure regression by, beside the metrics of every regression."""

from typing import Annotated

from pydantic import Field

from mmtrain.evaluation.conventions.mosi import MosiConfig
from mmtrain.evaluation.conventions.sims import SimsConfig

ConventionConfig = Annotated[MosiConfig | SimsConfig, Field(discriminator="name")]
# each row: its config, which has no field but its name, so that the name in a file of predictions is all of it
CONVENTIONS: dict[str, type[MosiConfig | SimsConfig]] = {"mosi": MosiConfig, "sims": SimsConfig}
