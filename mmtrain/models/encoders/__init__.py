"""The tables of encoders: one modality's rows, tokens or pixels to rows of the model's width."""

from typing import Annotated

from pydantic import Field

from mmtrain.models.encoders.bilstm import BiLstmEncoderConfig
from mmtrain.models.encoders.cnn import CnnEncoderConfig
from mmtrain.models.encoders.conformer import ConformerEncoderConfig
from mmtrain.models.encoders.gru import GruEncoderConfig
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.encoders.mean import MeanEncoderConfig
from mmtrain.models.encoders.sentence import SentenceTextConfig
from mmtrain.models.encoders.tcn import TcnEncoderConfig
from mmtrain.models.encoders.text import TransformersTextConfig
from mmtrain.models.encoders.torchvision_backbone import TorchvisionEncoderConfig
from mmtrain.models.encoders.transformer import TransformerEncoderConfig
from mmtrain.section import Section, rows_of

SequenceEncoderConfig = Annotated[
    LinearEncoderConfig
    | MeanEncoderConfig
    | BiLstmEncoderConfig
    | GruEncoderConfig
    | TcnEncoderConfig
    | TransformerEncoderConfig
    | ConformerEncoderConfig,
    Field(discriminator="name"),
]
SEQUENCE_ENCODERS: tuple[type[Section], ...] = rows_of(SequenceEncoderConfig)

ImageEncoderConfig = Annotated[CnnEncoderConfig | TorchvisionEncoderConfig, Field(discriminator="name")]
IMAGE_ENCODERS: tuple[type[Section], ...] = rows_of(ImageEncoderConfig)

TextEncoderConfig = Annotated[TransformersTextConfig | SentenceTextConfig, Field(discriminator="name")]
TEXT_ENCODERS: tuple[type[Section], ...] = rows_of(TextEncoderConfig)
