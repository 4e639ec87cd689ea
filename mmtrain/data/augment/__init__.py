"""The table of augmentations: what training samples go through between store and batch."""

from typing import Annotated

from pydantic import Field

from mmtrain.data.augment.color_jitter import ColorJitterConfig
from mmtrain.data.augment.feature_masking import FeatureMaskingConfig
from mmtrain.data.augment.gaussian_noise import GaussianNoiseConfig
from mmtrain.data.augment.horizontal_flip import HorizontalFlipConfig
from mmtrain.data.augment.pixel_noise import PixelNoiseConfig
from mmtrain.data.augment.resized_crop import ResizedCropConfig
from mmtrain.data.augment.rotation import RotationConfig
from mmtrain.data.augment.time_jitter import TimeJitterConfig
from mmtrain.data.augment.time_masking import TimeMaskingConfig
from mmtrain.data.augment.word_dropout import WordDropoutConfig
from mmtrain.section import rows_of

AnyAugmentation = (
    TimeMaskingConfig
    | FeatureMaskingConfig
    | GaussianNoiseConfig
    | TimeJitterConfig
    | HorizontalFlipConfig
    | RotationConfig
    | ResizedCropConfig
    | ColorJitterConfig
    | PixelNoiseConfig
    | WordDropoutConfig
)
AugmentationConfig = Annotated[AnyAugmentation, Field(discriminator="name")]
AUGMENTATIONS: tuple[type[AnyAugmentation], ...] = rows_of(AugmentationConfig)
