"""The weightings: how the task losses become one update. A row here is all that a new weighting needs."""

from typing import Annotated

from pydantic import Field

from mmtrain.curriculum.weighting.adaptive import AdaptiveConfig
from mmtrain.curriculum.weighting.aligned_mtl import AlignedMtlConfig
from mmtrain.curriculum.weighting.cagrad import CagradConfig
from mmtrain.curriculum.weighting.conflict_free import ConflictFreeConfig
from mmtrain.curriculum.weighting.dwa import DwaConfig
from mmtrain.curriculum.weighting.fixed import FixedConfig
from mmtrain.curriculum.weighting.geometric import GeometricConfig
from mmtrain.curriculum.weighting.graddrop import GraddropConfig
from mmtrain.curriculum.weighting.gradnorm import GradnormConfig
from mmtrain.curriculum.weighting.imtl_g import ImtlGConfig
from mmtrain.curriculum.weighting.inverse_loss import InverseLossConfig
from mmtrain.curriculum.weighting.mgda import MgdaConfig
from mmtrain.curriculum.weighting.pcgrad import PcgradConfig
from mmtrain.curriculum.weighting.rlw import RlwConfig
from mmtrain.curriculum.weighting.uncertainty import UncertaintyConfig
from mmtrain.curriculum.weighting.upgrad import UpgradConfig
from mmtrain.section import Section, rows_of

WeightingConfig = Annotated[
    FixedConfig
    | DwaConfig
    | RlwConfig
    | InverseLossConfig
    | AdaptiveConfig
    | UncertaintyConfig
    | GeometricConfig
    | GradnormConfig
    | PcgradConfig
    | MgdaConfig
    | ImtlGConfig
    | AlignedMtlConfig
    | ConflictFreeConfig
    | GraddropConfig
    | UpgradConfig
    | CagradConfig,
    Field(discriminator="name"),
]

WEIGHTINGS: tuple[type[Section], ...] = rows_of(WeightingConfig)
