"""The table of pretext tasks: what is learned from samples without labels."""

from typing import Annotated

from pydantic import Field

from mmtrain.objectives.pretext.info_nce import InfoNceConfig
from mmtrain.section import Section

PretextConfig = Annotated[InfoNceConfig, Field(discriminator="name")]
PRETEXTS: tuple[type[Section], ...] = (InfoNceConfig,)
