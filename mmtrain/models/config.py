"""The config of the model: what it reads, and how it brings it together."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from mmtrain.data.schema import TEXT, TEXTS
from mmtrain.errors import ConfigError
from mmtrain.models.encoders import ImageEncoderConfig, SequenceEncoderConfig, TextEncoderConfig
from mmtrain.models.encoders.mean import MeanEncoderConfig
from mmtrain.models.encoders.sentence import SentenceTextConfig
from mmtrain.models.fusion import FusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.needs import Needs
from mmtrain.models.fusion.only import OnlyFusionConfig
from mmtrain.models.pooling import PoolingConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.models.time import TimePositionsConfig
from mmtrain.section import Section


class ModelConfig(Section):
    """What the model reads, and how it brings it together."""

    dim: int = Field(default=128, gt=0, description="d: width of every modality's rows behind its encoder.")
    text: TextEncoderConfig | None = Field(default=None, description="Encoder of the text; null: the text is not read.")
    second_text: bool = Field(
        default=False,
        description="Read the stores' column `second_text` too, with the encoder of `text`, as the modality of this name.",
    )
    sequences: dict[str, SequenceEncoderConfig] = Field(
        default_factory=dict, description="Encoder of each feature modality that is read, by its name in the stores."
    )
    images: dict[str, ImageEncoderConfig] = Field(
        default_factory=dict, description="Encoder of each modality of pixels that is read, by its name in the stores."
    )
    fusion: FusionConfig = Field(default=ConcatFusionConfig(), description="How modalities become one joint vector.")
    pooling: PoolingConfig = Field(default=MeanPoolingConfig(), description="How a modality's rows become one vector.")
    modality_dropout: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        description="Probability that a training sample's modality is hidden, by modality; never all that the sample has.",
    )
    placeholders: tuple[str, ...] = Field(
        default=(),
        description="Modalities in whose place a learned row stands where a sample lacks them.",
    )
    time_positions: TimePositionsConfig | None = Field(
        default=None, description="Marks in seconds on the encoded rows, by the stores' rows per second; null: none."
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute the transformer blocks of sequences and fusion twice, to save memory; `text` has its own.",
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_text_encoder(cls, values: Any) -> Any:
        """A text encoder that does not say its name is the usual one."""
        text = values.get("text") if isinstance(values, dict) else None
        return values | {"text": {"name": "transformers"} | text} if isinstance(text, dict) else values

    @model_validator(mode="after")
    def _modalities_fit(self) -> "ModelConfig":
        if not self.modalities:
            raise ValueError(
                "the model reads nothing: give `text` an encoder, or name a modality under `sequences` or `images`"
            )
        if self.second_text and self.text is None:
            raise ValueError("`second_text` is read with the encoder of `text`: give that one")
        for name in self.images:
            if name in self.sequences:
                raise ValueError(f"'{name}' stands under `sequences` and `images`; pixels go under `images` alone")
        try:
            self.fusion.check(self.modalities)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> "ModelConfig":
        for key, names in (("sequences", self.sequences), ("images", self.images)):
            for name in TEXTS:
                if name in names:
                    raise ValueError(f"`{key}` may not hold a modality called '{name}': that is the text itself")
        for key, named in (("modality_dropout", self.modality_dropout), ("placeholders", self.placeholders)):
            for name in named:
                if name not in self.modalities:
                    known = ", ".join(self.modalities)
                    raise ValueError(f"`{key}` names '{name}', which the model does not read; it reads {known}")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Text first, a second text behind it, then the sequences in their order, then the images in theirs."""
        return (*self.texts, *self.sequences, *self.images)

    @property
    def fused_modalities(self) -> tuple[str, ...]:
        """Those of them that have an encoder: all, or the one of the fusion `only`."""
        return (self.fusion.modality,) if isinstance(self.fusion, OnlyFusionConfig) else self.modalities

    @property
    def needed_modalities(self) -> tuple[str, ...]:
        """Those that the fusion cannot do without."""
        return self.fusion.needed(self.modalities) if isinstance(self.fusion, Needs) else ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The modalities that the text encoder reads."""
        read = TEXTS if self.second_text else (TEXT,)
        return read if self.text is not None else ()

    @property
    def pooled_modalities(self) -> tuple[str, ...]:
        """Those whose encoder gives one row a sample."""
        pooled = tuple(name for name, encoder in self.sequences.items() if isinstance(encoder, MeanEncoderConfig))
        return (*(self.texts if isinstance(self.text, SentenceTextConfig) else ()), *pooled)

    @property
    def needs_times(self) -> bool:
        """Whether rows are placed in time, so that a modality has one rate in all stores."""
        return self.time_positions is not None or getattr(self.fusion, "relative_time", None) is not None
