"""The model that a config describes."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from mmtrain.data.schema import FrameShape
from mmtrain.errors import ConfigError
from mmtrain.models.block import set_checkpointed
from mmtrain.models.config import ModelConfig
from mmtrain.models.dropout import replace_dropouts
from mmtrain.models.encoders import ImageEncoderConfig, SequenceEncoderConfig
from mmtrain.models.heads import HeadConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.models.placeholder import Placeholders
from mmtrain.models.time import TimePositions, set_rates


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
    frames: Mapping[str, FrameShape] | None = None,
    rates: Mapping[str, float] | None = None,
    pretext: Mapping[str, PretextBuilder] | None = None,
) -> MultimodalModel:
    """`dims`: row width D of each feature modality; `outputs`: C of each task; `heads`: the head of each task; `frames`:
    (3, H, W) of each modality of pixels; `rates`: rows per second of the modalities that have any; `pretext`: what makes the
    module of each pretext task.

    A modality that the fusion does not use gets no encoder: nothing would train it.

    Errors: ConfigError where a modality has no width, or a component does not fit.
    """
    frames = frames or {}
    _check_modalities(config, dims, frames)
    with _at("model.fusion"):
        fusion = config.fusion.build(modalities=config.modalities, dim=config.dim, pooling=config.pooling)
    sequences = {name: encoder for name, encoder in config.sequences.items() if name in fusion.modalities}
    images = {name: encoder for name, encoder in config.images.items() if name in fusion.modalities}
    texts = [name for name in config.texts if name in fusion.modalities]
    set_rates(fusion, rates or {}, fusion.modalities)
    placeholders = [name for name in config.placeholders if name in fusion.modalities]
    model = MultimodalModel(
        text=config.text.build(dim=config.dim) if config.text and texts else None,
        texts=texts,
        sequences={name: _build_sequence(name, encoder, dims[name], config.dim) for name, encoder in sequences.items()},
        images={name: _build_image(name, encoder, frames[name], config.dim) for name, encoder in images.items()},
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
    replace_dropouts(model)
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


@contextmanager
def _at(key: str) -> Iterator[None]:
    """What is wrong inside is wrong at `key`."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def _build_sequence(name: str, encoder: SequenceEncoderConfig, input_dim: int, dim: int) -> nn.Module:
    with _at(f"model.sequences.{name}"):
        return encoder.build(input_dim=input_dim, dim=dim)


def _build_image(name: str, encoder: ImageEncoderConfig, shape: FrameShape, dim: int) -> nn.Module:
    try:
        return encoder.build(shape=shape, dim=dim)
    except ConfigError as error:
        raise ConfigError(f"model.images.{name}.{error}") from None


def _time_positions(config: ModelConfig, rates: Mapping[str, float]) -> TimePositions | None:
    """For the sequences whose encoders keep their rows. Errors: ConfigError where none of these has a rate."""
    if config.time_positions is None:
        return None
    timed = {
        name: rates[name]
        for name in (*config.sequences, *config.images)
        if name in rates and name not in config.pooled_modalities
    }
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
