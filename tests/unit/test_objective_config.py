"""The objective's config: defaults by kind, and what is refused with which words."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from mmtrain.data.schema import TaskSchema
from mmtrain.errors import ConfigError, DataError
from mmtrain.objectives.config import ObjectiveConfig
from mmtrain.objectives.losses import BinaryConfig, HuberConfig, LossConfig, MSEConfig, MulticlassConfig, MultilabelConfig

TASKS = {"funny": TaskSchema(kind="binary"), "mood": TaskSchema(kind="regression")}
LABELS = {"funny": np.array([0.0, 1.0, 0.0]), "mood": np.array([1.0, 2.0, 3.0])}


def build(config: dict[str, object]) -> object:
    network = nn.Linear(2, 1)
    parsed = ObjectiveConfig.model_validate(config)
    return parsed.build(tasks=TASKS, labels=LABELS, named_parameters=network.named_parameters())


def test_tasks_without_a_loss_get_that_of_their_kind() -> None:
    objective = build({"losses": {"funny": {"name": "binary", "pos_weight": "auto"}}})
    assert objective.losses["funny"].pos_weight == 2
    assert objective.losses["mood"].kind == "regression"
    assert objective.losses["mood"].mean == 2


def test_regularizers_are_named() -> None:
    objective = build(
        {"regularizers": {"decay": {"name": "l2", "strength": 0.1}, "twice": {"name": "r_drop", "strength": 2}}}
    )
    assert set(objective.regularizers) == {"decay"}
    assert objective.r_drop == 2
    assert objective.num_views == 2


def test_what_a_config_may_not_say() -> None:
    with pytest.raises(ConfigError, match=r"losses: no task 'angry' here; the tasks are funny, mood"):
        build({"losses": {"angry": {"name": "binary"}}})
    with pytest.raises(ConfigError, match="task 'mood': loss 'binary' is for binary tasks, but the store says regression"):
        build({"losses": {"mood": {"name": "binary"}}})
    with pytest.raises(ValidationError, match="r_drop may stand here once"):
        build({"regularizers": {"a": {"name": "r_drop", "strength": 1}, "b": {"name": "r_drop", "strength": 1}}})


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "focal"},
        {"name": "binary", "label_smoothing": 0.5},
        {"name": "binary", "label_smoothing": -0.1},
        {"name": "binary", "pos_weight": 0},
        {"name": "binary", "pos_weight": "inverse"},
        {"name": "multiclass", "class_weight": "yes"},
        {"name": "multilabel", "gamma": 2},
        {"name": "huber", "delta": 0},
        {"name": "mse", "label_smoothing": 0.1},
    ],
)
def test_bounds(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(LossConfig).validate_python(bad)


def test_auto_needs_something_to_balance() -> None:
    with pytest.raises(DataError, match=r"task 'x': all 3 training labels are negative, so pos_weight 'auto'"):
        BinaryConfig(pos_weight="auto").build(np.zeros(3), TASKS["funny"], where="task 'x'")
    with pytest.raises(DataError, match="are positive"):
        BinaryConfig(pos_weight="auto").build(np.ones(3), TASKS["funny"])
    abc = TaskSchema(kind="multiclass", classes=("a", "b", "c"))
    with pytest.raises(DataError, match="no training label is of class b, c"):
        MulticlassConfig(class_weight="auto").build(np.zeros(3), abc)
    tags = TaskSchema(kind="multilabel", classes=("a", "b"))
    with pytest.raises(DataError, match="class 'b': all 2 training labels are positive"):
        MultilabelConfig(pos_weight="auto").build(np.array([[0.0, 1.0], [1.0, 1.0]]), tags)
    assert BinaryConfig().build(np.zeros(3), TASKS["funny"]).pos_weight == 1  # one class alone is no error


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e9])
def test_a_constant_regression_is_refused(value: float) -> None:
    for config in (MSEConfig(), HuberConfig(standardize=False)):
        with pytest.raises(DataError, match=r"all 7 training labels are .*; a regression needs labels that differ"):
            config.build(np.full(7, value), TASKS["mood"])


def test_smoothing_and_weights_do_not_reach_the_report() -> None:
    logits, targets = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    loud = BinaryConfig(pos_weight=5, label_smoothing=0.3).build(LABELS["funny"], TASKS["funny"])
    plain = BinaryConfig().build(LABELS["funny"], TASKS["funny"])
    assert torch.equal(loud.reported(logits, targets), plain.training(logits, targets))
    assert not torch.equal(loud.training(logits, targets), plain.training(logits, targets))
