"""The table of pretext tasks: what is learned from samples without labels of their own."""

from typing import Annotated

from pydantic import Field

from mmtrain.objectives.pretext.contrastive_margin import ContrastiveMarginConfig
from mmtrain.objectives.pretext.info_nce import InfoNceConfig
from mmtrain.objectives.pretext.masked_modelling import MaskedModellingConfig
from mmtrain.objectives.pretext.matching import MatchingConfig
from mmtrain.objectives.pretext.nt_xent import NtXentConfig
from mmtrain.objectives.pretext.siglip import SiglipConfig
from mmtrain.objectives.pretext.supervised_contrastive import SupervisedContrastiveConfig
from mmtrain.objectives.pretext.triplet_hardest import TripletHardestConfig
from mmtrain.objectives.pretext.triplet_semi_hard import TripletSemiHardConfig
from mmtrain.section import Section, rows_of

PretextConfig = Annotated[
    InfoNceConfig
    | NtXentConfig
    | SiglipConfig
    | TripletHardestConfig
    | TripletSemiHardConfig
    | ContrastiveMarginConfig
    | SupervisedContrastiveConfig
    | MatchingConfig
    | MaskedModellingConfig,
    Field(discriminator="name"),
]
PRETEXTS: tuple[type[Section], ...] = rows_of(PretextConfig)
