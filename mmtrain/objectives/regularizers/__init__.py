"""The table of regularizers: penalties on weights, and R-Drop on predictions."""

from typing import Annotated

from pydantic import Field

from mmtrain.objectives.regularizers.l2 import L2Config
from mmtrain.objectives.regularizers.l2_initial import L2InitialConfig
from mmtrain.objectives.regularizers.r_drop import RDropConfig
from mmtrain.section import rows_of

AnyRegularizer = L2Config | L2InitialConfig | RDropConfig
RegularizerConfig = Annotated[AnyRegularizer, Field(discriminator="name")]
PENALTIES: tuple[type[L2Config] | type[L2InitialConfig], ...] = (L2Config, L2InitialConfig)
REGULARIZERS: tuple[type[AnyRegularizer], ...] = rows_of(RegularizerConfig)
