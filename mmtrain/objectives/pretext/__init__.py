"""The table of pretext tasks: what is learned from samples without labels."""

from typing import Annotated

from pydantic import Field

from mmtrain.objectives.pretext.info_nce import InfoNceConfig
from mmtrain.objectives.pretext.masked_modelling import MaskedModellingConfig
from mmtrain.objectives.pretext.matching import MatchingConfig
from mmtrain.section import Section

PretextConfig = Annotated[InfoNceConfig | MatchingConfig | MaskedModellingConfig, Field(discriminator="name")]
PRETEXTS: tuple[type[Section], ...] = (InfoNceConfig, MatchingConfig, MaskedModellingConfig)
