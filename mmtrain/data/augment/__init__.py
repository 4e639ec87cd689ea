"""The table of augmentations: what training samples go through between store and batch."""

from typing import Annotated

from pydantic import Field

from mmtrain.data.augment.feature_masking import FeatureMaskingConfig
from mmtrain.data.augment.gaussian_noise import GaussianNoiseConfig
from mmtrain.data.augment.time_jitter import TimeJitterConfig
from mmtrain.data.augment.time_masking import TimeMaskingConfig
from mmtrain.data.augment.word_dropout import WordDropoutConfig

AnyAugmentation = TimeMaskingConfig | FeatureMaskingConfig | GaussianNoiseConfig | TimeJitterConfig | WordDropoutConfig
AugmentationConfig = Annotated[AnyAugmentation, Field(discriminator="name")]
AUGMENTATIONS: tuple[type[AnyAugmentation], ...] = (
    TimeMaskingConfig,
    FeatureMaskingConfig,
    GaussianNoiseConfig,
    TimeJitterConfig,
    WordDropoutConfig,
)
