"""Every row of every component table: its name is its own, it says what it is, builds, and bounds its numbers."""

import typing
from types import NoneType

import annotated_types
import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mmtrain.config import Experiment
from mmtrain.config_models import models_in
from mmtrain.curriculum.pacing import PACINGS, PacingConfig
from mmtrain.curriculum.pacing.difficulty import DIFFICULTIES, DifficultyConfig
from mmtrain.curriculum.samplers import SAMPLERS, SamplerConfig
from mmtrain.curriculum.samplers.doremi import DoremiConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.curriculum.weighting import WEIGHTINGS, WeightingConfig
from mmtrain.data.augment import AUGMENTATIONS, AugmentationConfig
from mmtrain.data.schema import TaskSchema
from mmtrain.engine.averages import AVERAGES, AverageConfig
from mmtrain.engine.clipping import CLIPPINGS, ClippingConfig
from mmtrain.engine.optimizers import OPTIMIZERS, OptimizerConfig
from mmtrain.engine.schedules import LR_SCHEDULES, LrScheduleConfig
from mmtrain.evaluation.conventions import CONVENTIONS, ConventionConfig
from mmtrain.models.encoders import (
    IMAGE_ENCODERS,
    SEQUENCE_ENCODERS,
    TEXT_ENCODERS,
    ImageEncoderConfig,
    SequenceEncoderConfig,
    TextEncoderConfig,
)
from mmtrain.models.fusion import FUSIONS, FusionConfig
from mmtrain.models.heads import HEADS, HeadConfig
from mmtrain.models.heads.scale import ScaleHeadConfig
from mmtrain.models.pooling import POOLINGS, PoolingConfig
from mmtrain.models.pooling.mean import MeanPoolingConfig
from mmtrain.objectives.losses import LOSSES, LossConfig
from mmtrain.objectives.pretext import PRETEXTS, PretextConfig
from mmtrain.objectives.regularizers import REGULARIZERS, RegularizerConfig
from mmtrain.section import Section

# table: its rows, the union that a config is checked against, what `build` is given
TABLES = {
    "samplers": (SAMPLERS, SamplerConfig),
    "pacings": (PACINGS, PacingConfig),
    "difficulties": (DIFFICULTIES, DifficultyConfig),
    "weightings": (WEIGHTINGS, WeightingConfig),
    "augmentations": (AUGMENTATIONS, AugmentationConfig),
    "sequence encoders": (SEQUENCE_ENCODERS, SequenceEncoderConfig),
    "image encoders": (IMAGE_ENCODERS, ImageEncoderConfig),
    "text encoders": (TEXT_ENCODERS, TextEncoderConfig),
    "fusions": (FUSIONS, FusionConfig),
    "poolings": (POOLINGS, PoolingConfig),
    "heads": (HEADS, HeadConfig),
    "losses": (tuple(row for row, _ in LOSSES), LossConfig),
    "conventions": (tuple(CONVENTIONS.values()), ConventionConfig),
    "pretext tasks": (PRETEXTS, PretextConfig),
    "regularizers": (REGULARIZERS, RegularizerConfig),
    "optimizers": (OPTIMIZERS, OptimizerConfig),
    "weight averages": (AVERAGES, AverageConfig),
    "clippings": (CLIPPINGS, ClippingConfig),
    "learning-rate schedules": (LR_SCHEDULES, LrScheduleConfig),
}
ROWS = [pytest.param(table, row, id=f"{table}-{row.__name__}") for table, (rows, _) in TABLES.items() for row in rows]
# numbers that nothing bounds, and why
UNBOUNDED: dict[str, str] = {
    "TargetConfig.target": "a metric may take any value",
    "DoremiConfig.reference_losses": "what another run measured; only differences from it count",
}
# fields of which a row needs one
ONE_OF = {DoremiConfig: ("reference", "reference_losses")}


def build_loss(row, config):
    kind = dict(LOSSES)[row]
    classes = ("x", "y") if kind in ("multiclass", "multilabel") else ()
    labels = np.array([[0.0, 1.0], [1.0, 0.0]]) if kind == "multilabel" else np.array([0.0, 1.0, 0.0])
    return config.build(labels, TaskSchema(kind=kind, classes=classes), where="task 't'")


def build_pretext(_, config):
    assert config.build_loss(modalities=("video", "audio"), tasks={}) is not None
    dims = {"video": 2, "audio": 3}
    return config.build_module(modalities=tuple(dims), dim=8, joint_dim=8, input_dims=dims, tokenizer=None)


def build_optimizer(row, config):
    if row.model_fields["name"].default == "schedule_free_adamw":
        pytest.importorskip("schedulefree")
    return config.build(torch.nn.Linear(2, 2), text=None)


def build_lr_schedule(_, config):
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=1.0)
    return config.build(optimizer, total=30, steps_per_epoch=10)


STREAMS = [StreamSpec(name=name, size=size, chance={"t": 0.7}) for name, size in (("a", 5), ("b", 9))]
SETTING = Setting(streams=STREAMS, tasks=("t",), seed=3, steps_per_epoch=10)
# how the project builds a row, on something small
BUILD = {
    "samplers": lambda _, config: config.build(SETTING),
    "pacings": lambda _, config: config.build(SETTING),
    "difficulties": lambda _, config: config,  # mmtrain/difficulty.py reads them
    "weightings": lambda _, config: config.build(SETTING),
    "augmentations": lambda _, config: config.build(),
    "sequence encoders": lambda _, config: config.build(input_dim=3, dim=8),
    "image encoders": lambda _, config: config.build(shape=(3, 8, 8), dim=8),
    "fusions": lambda _, config: config.build(modalities=("text", "audio"), dim=8, pooling=MeanPoolingConfig()),
    "poolings": lambda _, config: config.build(dim=8),
    "heads": lambda row, config: (
        config.build(input_dim=1, num_outputs=1) if row is ScaleHeadConfig else config.build(input_dim=8, num_outputs=2)
    ),
    "losses": build_loss,
    "conventions": lambda _, config: config.names,
    "pretext tasks": build_pretext,
    "optimizers": build_optimizer,
    "weight averages": lambda _, config: config.build(torch.nn.Linear(2, 2), total=10),
    "clippings": lambda _, config: config.build(),
    "learning-rate schedules": build_lr_schedule,
}


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    """Every section below one, itself included."""
    found = {model}
    for field in model.model_fields.values():
        for below in models_in(_members([field.annotation])):
            found |= sections(below)
    return found


def _members(annotations):
    """All types inside types."""
    for annotation in annotations:
        yield annotation
        yield from _members(typing.get_args(annotation))


def unbounded(field: FieldInfo) -> bool:
    """Whether a number can be written here that no bound has seen."""
    bounds = (annotated_types.Ge, annotated_types.Gt, annotated_types.Interval)

    def free(annotation, metadata):
        if any(isinstance(mark, bounds) for mark in metadata):
            return False
        if typing.get_origin(annotation) is typing.Annotated:
            inner, *marks = typing.get_args(annotation)
            marks = [inside for mark in marks for inside in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
            return free(inner, marks)
        if typing.get_origin(annotation) is typing.Literal or annotation in (bool, str, NoneType):
            return False
        return annotation in (int, float) or any(free(inner, ()) for inner in typing.get_args(annotation))

    return free(field.annotation, field.metadata)


NUMBERS = [
    pytest.param(f"{section.__name__}.{name}", field, id=f"{section.__name__}.{name}")
    for section in sorted(sections(Experiment), key=lambda section: section.__name__)
    for name, field in section.model_fields.items()
    if {int, float} & set(_members([field.annotation]))
]


@pytest.mark.parametrize("table", TABLES)
def test_names_are_unique_and_the_union_holds_the_rows(table):
    rows, union = TABLES[table]
    names = [row.model_fields["name"].default for row in rows]
    assert len(set(names)) == len(names)
    assert models_in([union]) == list(rows)


def test_the_experiment_reaches_every_row():
    reached = sections(Experiment)
    assert [row for rows, _ in TABLES.values() for row in rows if row not in reached] == []


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_a_row_says_what_it_is(table, row):
    assert issubclass(row, Section)
    assert row.__doc__
    assert row.__doc__ != Section.__doc__
    name = row.model_fields["name"]
    assert typing.get_args(name.annotation) == (name.default,)
    module = __import__(row.__module__, fromlist=["x"])
    assert module.__doc__
    assert row.__module__.rpartition(".")[2] != "__init__", f"{table}: one component, one file"


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_a_row_builds_from_its_defaults(table, row):
    required = [name for name, field in row.model_fields.items() if field.is_required()] + list(ONE_OF.get(row, ()))
    if required:
        with pytest.raises(ValidationError):
            row()
        assert all(row.model_fields[name].description for name in required)
    else:
        assert BUILD[table](row, row()) is not None


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_a_row_knows_its_keys_and_does_not_change(table, row):  # noqa: ARG001
    with pytest.raises(ValidationError, match="no_such_key\n  Extra inputs"):
        row.model_validate({"no_such_key": 1})
    with pytest.raises(ValidationError, match="frozen"):
        row.model_construct().name = "other"


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_every_number_has_a_bound(name, field):
    assert unbounded(field) == (name in UNBOUNDED), f"{name}: give it a bound, or say in UNBOUNDED why it has none"


def test_a_number_without_bound_would_be_seen():
    class Loose(Section):
        plain: float = 1.0
        pair: tuple[float, float] = (0.0, 0.0)
        maybe: int | None = None

    assert all(unbounded(field) for field in Loose.model_fields.values())
    assert len(NUMBERS) > 20
