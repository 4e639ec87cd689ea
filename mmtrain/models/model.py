"""The assembled model, and how its config becomes one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.data.schema import TEXT, FrameShape
from mmtrain.errors import ConfigError
from mmtrain.models.block import set_checkpointed
from mmtrain.models.encoders import ImageEncoderConfig, SequenceEncoderConfig, TextEncoderConfig
from mmtrain.models.fusion import FusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.heads import HeadConfig
from mmtrain.models.modality_dropout import ModalityDropout
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused, Outputs
from mmtrain.models.pooling import PoolingConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.section import Section


class ModelConfig(Section):
    """What the model reads, and how it brings it together."""

    dim: int = Field(default=128, gt=0, description="d: width of every modality's rows behind its encoder.")
    text: TextEncoderConfig | None = Field(default=None, description="Encoder of the text; null: the text is not read.")
    sequences: dict[str, SequenceEncoderConfig] = Field(
        default_factory=dict, description="Encoder of each feature modality that is read, by its name in the stores."
    )
    images: dict[str, ImageEncoderConfig] = Field(
        default_factory=dict, description="Encoder of each modality of pixels that is read, by its name in the stores."
    )
    fusion: FusionConfig = ConcatFusionConfig()
    pooling: PoolingConfig = Field(default=MeanPoolingConfig(), description="How a modality's rows become one vector.")
    modality_dropout: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        description="Probability that a training sample's modality is hidden, by modality; never all that the sample has.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute the transformer blocks of sequences and fusion twice, to save memory; `text` has its own.",
    )

    @model_validator(mode="after")
    def _modalities_fit(self) -> "ModelConfig":
        if not self.modalities:
            raise ValueError(
                "the model reads nothing: give `text` an encoder, or name a modality under `sequences` or `images`"
            )
        for key, names in (("sequences", self.sequences), ("images", self.images)):
            if TEXT in names:
                raise ValueError(f"`{key}` may not hold a modality called 'text': that is the text itself")
        for name in self.images:
            if name in self.sequences:
                raise ValueError(f"'{name}' stands under `sequences` and `images`; pixels go under `images` alone")
        for name in self.modality_dropout:
            if name not in self.modalities:
                known = ", ".join(self.modalities)
                raise ValueError(f"`modality_dropout` names '{name}', which the model does not read; it reads {known}")
        try:
            self.fusion.check(self.modalities)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Text first, then the sequences in their order, then the images in theirs."""
        return (*((TEXT,) if self.text else ()), *self.sequences, *self.images)


class MultimodalModel(nn.Module):
    """Encoders, fusion and heads. Every head runs on every batch, so that every process's graph holds every parameter.

    `text` reads token ids, None where the text is not read; `scalar_tasks`: those whose logits are [B], not [B, C];
    `modality_dropout`: probabilities by modality.
    """

    def __init__(
        self,
        *,
        text: nn.Module | None,
        sequences: Mapping[str, nn.Module],
        fusion: nn.Module,
        heads: Mapping[str, nn.Module],
        scalar_tasks: Collection[str],
        modality_dropout: Mapping[str, float] | None = None,
        images: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.modality_dropout = ModalityDropout(modality_dropout or {})
        self.text, self.fusion = text, fusion
        self.sequences, self.heads = module_dict("encoder", sequences), module_dict("head", heads)
        self.images = module_dict("encoder", images or {})
        self._sequences, self._images = tuple(sequences), tuple(images or {})
        self._tasks, self._scalar_tasks = tuple(heads), frozenset(scalar_tasks)

    def head(self, task: str) -> nn.Module:
        """The part of the model that is this task's alone."""
        return self.heads[module_key(task, "head")]

    def forward(self, inputs: Mapping[str, MaskedSequence], labelled: Mapping[str, Tensor] | None = None) -> Outputs:
        """`inputs`: token ids [B, T], rows [B, T, D] or pixels [B, T, 3, H, W] of every modality the model reads;
        `labelled`: [B] bool by task.
        """
        read = (*((TEXT,) if self.text is not None else ()), *self._sequences, *self._images)
        if self.training:
            inputs = self.modality_dropout({name: inputs[name] for name in read})
        encoded = {TEXT: self.text(inputs[TEXT])} if self.text is not None else {}
        for name in self._sequences:
            encoded[name] = self.sequences[module_key(name, "encoder")](inputs[name])  # [B, T, d] and its mask
        for name in self._images:
            encoded[name] = self.images[module_key(name, "encoder")](inputs[name])
        fused: Fused = self.fusion(encoded)
        logits = {}
        for task in self._tasks:
            rows = labelled.get(task) if labelled is not None else None
            output = self.head(task)(fused.joint, rows)  # [B, C]
            output = output.to(torch.promote_types(output.dtype, torch.float32))  # also under autocast: losses need it
            logits[task] = output[:, 0] if task in self._scalar_tasks else output
        return Outputs(logits=logits, joint=fused.joint, per_modality=fused.per_modality, aux=fused.aux)


def build_model(
    config: ModelConfig,
    *,
    dims: Mapping[str, int],
    outputs: Mapping[str, int],
    heads: Mapping[str, HeadConfig],
    scalar_tasks: Collection[str],
    frames: Mapping[str, FrameShape] | None = None,
) -> MultimodalModel:
    """`dims`: row width D of each feature modality; `frames`: (3, H, W) of each modality of pixels; `outputs`: C of each
    task; `heads`: the head of each task.

    A modality that the fusion does not use gets no encoder: nothing would train it.

    Errors: ConfigError where a modality has no width, or a component does not fit.
    """
    frames = frames or {}
    _check_modalities(config, dims, frames)
    fusion = config.fusion.build(modalities=config.modalities, dim=config.dim, pooling=config.pooling)
    sequences = {name: encoder for name, encoder in config.sequences.items() if name in fusion.modalities}
    model = MultimodalModel(
        text=config.text.build(dim=config.dim) if config.text and TEXT in fusion.modalities else None,
        sequences={name: encoder.build(input_dim=dims[name], dim=config.dim) for name, encoder in sequences.items()},
        fusion=fusion,
        heads={task: heads[task].build(input_dim=fusion.joint_dim, num_outputs=count) for task, count in outputs.items()},
        scalar_tasks=scalar_tasks,
        modality_dropout=config.modality_dropout,
        images={
            name: _build_image(name, encoder, frames[name], config.dim)
            for name, encoder in config.images.items()
            if name in fusion.modalities
        },
    )
    set_checkpointed(model, config.gradient_checkpointing)
    return model


def _check_modalities(config: ModelConfig, dims: Mapping[str, int], frames: Mapping[str, FrameShape]) -> None:
    known = ", ".join(dict.fromkeys((*dims, *frames))) or "none"
    for key, names in (("sequences", config.sequences), ("images", config.images)):
        for name in names:
            if name not in dims and name not in frames:
                raise ConfigError(f"model.{key}.{name}: no store has this modality (there are: {known})")
            if (name in frames) != (key == "images"):
                held, other = ("pixels", "images") if name in frames else ("feature rows", "sequences")
                raise ConfigError(f"model.{key}.{name}: the stores hold {held} of it; write its encoder under model.{other}")


def _build_image(name: str, encoder: ImageEncoderConfig, shape: FrameShape, dim: int) -> nn.Module:
    try:
        return encoder.build(shape=shape, dim=dim)
    except ConfigError as error:
        raise ConfigError(f"model.images.{name}.{error}") from None


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters."""

    trainable: int
    total: int


def count_parameters(model: nn.Module) -> ParameterCount:
    """How many numbers the model has, and how many of them are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCount(sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes))
