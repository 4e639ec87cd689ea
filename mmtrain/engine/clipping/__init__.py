"""The table of clippings. A row here is all that a new one needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.engine.clipping.none import NoClippingConfig
from mmtrain.engine.clipping.norm import NormClippingConfig
from mmtrain.engine.clipping.value import ValueClippingConfig
from mmtrain.section import Section, rows_of

ClippingConfig = Annotated[NormClippingConfig | ValueClippingConfig | NoClippingConfig, Field(discriminator="name")]
CLIPPINGS: tuple[type[Section], ...] = rows_of(ClippingConfig)
