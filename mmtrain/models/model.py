"""The assembled model, and how its config becomes one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmtrain.data.batch import Keys, MaskedSequence
from mmtrain.data.schema import SECOND_TEXT, TEXT
from mmtrain.errors import ConfigError
from mmtrain.models.block import set_checkpointed
from mmtrain.models.encoders import SequenceEncoderConfig, TextEncoderConfig
from mmtrain.models.encoders.mean import MeanEncoderConfig
from mmtrain.models.encoders.sentence import SentenceTextConfig
from mmtrain.models.fusion import FusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.heads import HeadConfig
from mmtrain.models.masks import blank
from mmtrain.models.modality_dropout import ModalityDropout
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused, Outputs
from mmtrain.models.placeholder import Placeholders
from mmtrain.models.pooling import PoolingConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.models.time import TimePositions, TimePositionsConfig, set_rates
from mmtrain.models.views import ModelViews
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
    fusion: FusionConfig = ConcatFusionConfig()
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
            raise ValueError("the model reads nothing: give `text` an encoder, or name a modality under `sequences`")
        if self.second_text and self.text is None:
            raise ValueError("`second_text` is read with the encoder of `text`: give that one")
        for name in (TEXT, SECOND_TEXT):
            if name in self.sequences:
                raise ValueError(f"`sequences` may not hold a modality called '{name}': that is the text itself")
        for key, names in (("modality_dropout", self.modality_dropout), ("placeholders", self.placeholders)):
            for name in names:
                if name not in self.modalities:
                    known = ", ".join(self.modalities)
                    raise ValueError(f"`{key}` names '{name}', which the model does not read; it reads {known}")
        try:
            self.fusion.check(self.modalities)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Text first, a second text behind it, then the sequences in their order."""
        texts = (TEXT, SECOND_TEXT) if self.second_text else (TEXT,)
        return (*(texts if self.text else ()), *self.sequences)

    @property
    def pooled_modalities(self) -> tuple[str, ...]:
        """Those whose encoder gives one row a sample."""
        texts = self.modalities[: len(self.modalities) - len(self.sequences)]
        pooled = tuple(name for name, encoder in self.sequences.items() if isinstance(encoder, MeanEncoderConfig))
        return (*(texts if isinstance(self.text, SentenceTextConfig) else ()), *pooled)

    @property
    def needs_times(self) -> bool:
        """Whether rows are placed in time, so that a modality has one rate in all stores."""
        return self.time_positions is not None or getattr(self.fusion, "relative_time", None) is not None


class MultimodalModel(nn.Module):
    """Encoders, fusion and heads. Every head runs on every batch, so that every process's graph holds every parameter.

    `text` reads the token ids of all modalities in `texts`, None where no text is read; `scalar_tasks`: those whose logits
    are [B], not [B, C]; `modality_dropout`: probabilities by modality; `placeholders`: modalities with a learned row where a
    sample lacks them; `time_positions`: marks on encoded rows; `pretext`: modules of pretext tasks, called with a ModelViews
    and the samples that the task speaks for.
    """

    def __init__(
        self,
        *,
        text: nn.Module | None,
        sequences: Mapping[str, nn.Module],
        fusion: nn.Module,
        heads: Mapping[str, nn.Module],
        scalar_tasks: Collection[str],
        texts: Sequence[str] = (TEXT,),
        modality_dropout: Mapping[str, float] | None = None,
        placeholders: Placeholders | None = None,
        time_positions: TimePositions | None = None,
        pretext: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        pretext = pretext or {}
        self.placeholders, self.time_positions = placeholders, time_positions
        self.modality_dropout = ModalityDropout(modality_dropout or {})
        self.text, self.fusion = text, fusion
        self.sequences, self.heads = module_dict("encoder", sequences), module_dict("head", {**heads, **pretext})
        self._read = (*(texts if text is not None else ()), *sequences)
        self._texts, self._tasks, self._scalar_tasks = frozenset(texts), tuple(heads), frozenset(scalar_tasks)
        self._pretext = tuple(pretext)

    def head(self, task: str) -> nn.Module:
        """The part of the model that is this task's alone."""
        return self.heads[module_key(task, "head")]

    def encode(self, inputs: Mapping[str, MaskedSequence]) -> dict[str, MaskedSequence]:
        """The modalities given through their encoders: [B, T, d] and its mask each."""
        encoded = {}
        for name in self._read:
            if name in inputs:
                encoder = self.text if name in self._texts else self.sequences[module_key(name, "encoder")]
                assert encoder is not None
                rows = encoder(inputs[name])
                encoded[name] = rows if self.time_positions is None else self.time_positions(name, rows)
        return encoded

    def fuse(self, encoded: Mapping[str, MaskedSequence]) -> Fused:
        """Encoded rows of every modality through the fusion, placeholders in the place of what is missing."""
        if self.placeholders is None:
            fused: Fused = self.fusion(encoded)
            return fused
        fused = self.fusion({name: self.placeholders(name, rows) for name, rows in encoded.items()})
        own = {name: blank(vector, encoded[name].present) for name, vector in fused.per_modality.items()}
        return replace(fused, per_modality=own)  # what a sample lacks contributes no vector

    def forward(
        self,
        inputs: Mapping[str, MaskedSequence],
        labelled: Mapping[str, Tensor] | None = None,
        keys: Keys | None = None,
    ) -> Outputs:
        """`inputs`: token ids [B, T] or rows [B, T, D] of every modality the model reads; `labelled`: [B] bool by task;
        `keys`: of the samples, for pretext tasks.
        """
        inputs = {name: inputs[name] for name in self._read}
        if self.training:
            inputs = self.modality_dropout(inputs)
        encoded = self.encode(inputs)
        fused = self.fuse(encoded)
        logits = {}
        for task in self._tasks:
            rows = labelled.get(task) if labelled is not None else None
            output = self.head(task)(fused.joint, rows)  # [B, C]
            output = _full_precision(output)
            logits[task] = output[:, 0] if task in self._scalar_tasks else output
        views = ModelViews(inputs=inputs, encoded=encoded, fused=fused, keys=keys, encoder=self.encode, fusion=self.fuse)
        pretext = {}
        for task in self._pretext:
            rows = labelled.get(task) if labelled is not None else None
            found = self.head(task)(views, rows)
            pretext[task] = {name: _full_precision(value) for name, value in found.items()}
        return Outputs(logits=logits, joint=fused.joint, per_modality=fused.per_modality, aux=fused.aux, pretext=pretext)


def _full_precision(values: Tensor) -> Tensor:
    """Floating values at least float32, also under autocast: losses need it."""
    return values.to(torch.promote_types(values.dtype, torch.float32)) if values.is_floating_point() else values


class PretextBuilder(Protocol):
    """Makes the module of a pretext task once the model's encoders and fusion are known."""

    def __call__(self, *, modalities: Sequence[str], dim: int, joint_dim: int) -> nn.Module:
        """`modalities`: those with an encoder; `dim`: d of their rows; `joint_dim`: J."""


def build_model(
    config: ModelConfig,
    *,
    dims: Mapping[str, int],
    outputs: Mapping[str, int],
    heads: Mapping[str, HeadConfig],
    scalar_tasks: Collection[str],
    rates: Mapping[str, float] | None = None,
    pretext: Mapping[str, PretextBuilder] | None = None,
) -> MultimodalModel:
    """`dims`: row width D of each feature modality; `outputs`: C of each task; `heads`: the head of each task; `rates`: rows
    per second of the modalities that have any; `pretext`: what makes the module of each pretext task.

    A modality that the fusion does not use gets no encoder: nothing would train it.

    Errors: ConfigError where a modality has no width, or a component does not fit.
    """
    for name in config.sequences:
        if name not in dims:
            raise ConfigError(f"model.sequences.{name}: no store has this modality (there are: {', '.join(dims) or 'none'})")
    fusion = config.fusion.build(modalities=config.modalities, dim=config.dim, pooling=config.pooling)
    sequences = {name: encoder for name, encoder in config.sequences.items() if name in fusion.modalities}
    texts = [name for name in (TEXT, SECOND_TEXT) if name in fusion.modalities]
    set_rates(fusion, rates or {}, fusion.modalities)
    placeholders = [name for name in config.placeholders if name in fusion.modalities]
    model = MultimodalModel(
        text=config.text.build(dim=config.dim) if config.text and texts else None,
        texts=texts,
        sequences={name: encoder.build(input_dim=dims[name], dim=config.dim) for name, encoder in sequences.items()},
        fusion=fusion,
        heads={task: heads[task].build(input_dim=fusion.joint_dim, num_outputs=count) for task, count in outputs.items()},
        scalar_tasks=scalar_tasks,
        modality_dropout=config.modality_dropout,
        placeholders=Placeholders(placeholders, dim=config.dim) if placeholders else None,
        time_positions=_time_positions(config, rates or {}),
        pretext={
            task: build(modalities=tuple(fusion.modalities), dim=config.dim, joint_dim=fusion.joint_dim)
            for task, build in (pretext or {}).items()
        },
    )
    set_checkpointed(model, config.gradient_checkpointing)
    return model


def _time_positions(config: ModelConfig, rates: Mapping[str, float]) -> TimePositions | None:
    """For the sequences whose encoders keep their rows. Errors: ConfigError where none of these has a rate."""
    if config.time_positions is None:
        return None
    timed = {name: rates[name] for name in config.sequences if name in rates and name not in config.pooled_modalities}
    if not timed:
        raise ConfigError(
            "model.time_positions: no modality that is read row by row has rows per second in its store; write null"
        )
    return config.time_positions.build(rates=timed)


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters."""

    trainable: int
    total: int


def count_parameters(model: nn.Module) -> ParameterCount:
    """How many numbers the model has, and how many of them are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCount(sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes))
