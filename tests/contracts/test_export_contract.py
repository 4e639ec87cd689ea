"""Every fusion and every encoder of sequences and pixels becomes an ONNX graph (through torch.export) that says the same."""

import copy
import typing
from pathlib import Path

import pytest
import torch
from test_mask_contract import DIMS, MODALITIES, fits, small

from mmtrain.inference import export as exporting
from mmtrain.inference.decision import Decisions
from mmtrain.inference.graph_layers import for_a_graph
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders import IMAGE_ENCODERS, SEQUENCE_ENCODERS, TEXT_ENCODERS
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.pooling import POOLINGS
from mmtrain.section import Section
from mmtrain.signature import TaskOutput

TASKS = {
    "funny": TaskOutput(kind="binary", classes=(), unit=""),
    "mood": TaskOutput(kind="multiclass", classes=("a", "b", "c"), unit=""),
    "pitch": TaskOutput(kind="regression", classes=(), unit="Hz", mean=100.0, std=20.0),
}


def name_of(kind: type[Section]) -> str:
    return str(kind.model_fields["name"].default)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(FUSIONS)), ids=[name_of(fusion) for fusion in FUSIONS])
def test_every_fusion_is_exported(number: int, tiny_bert: Path, tmp_path: Path) -> None:
    """Sequence encoders, poolings, text encoders, placeholders and times take turns; heads have batch normalization."""
    fusion, encoder = FUSIONS[number], SEQUENCE_ENCODERS[number % len(SEQUENCE_ENCODERS)]
    assert len(FUSIONS) >= len(SEQUENCE_ENCODERS)
    read = next(MODALITIES[count] for count in (3, 2, 1) if fits(fusion, count))
    text = TEXT_ENCODERS[number % len(TEXT_ENCODERS)]
    settings: dict[str, typing.Any] = {"placeholders": ("audio",)} if number % 2 else {}
    config = ModelConfig(
        dim=8,
        text=text(path=str(tiny_bert), max_tokens=12) if "text" in read else None,
        sequences={name: small(encoder) for name in read if name != "text"},
        fusion=small(fusion),
        pooling=small(POOLINGS[number % len(POOLINGS)]),
        **settings,
    )
    compare(config, tmp_path, dims=DIMS)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", IMAGE_ENCODERS, ids=name_of)
def test_every_image_encoder_is_exported(encoder: type[Section], tmp_path: Path) -> None:
    options = {"model": "resnet18"} if "model" in encoder.model_fields else {"hidden": (4,)}
    compare(ModelConfig(dim=8, images={"image": encoder(**options)}), tmp_path, frames={"image": (3, 32, 32)})


def compare(config: ModelConfig, folder: Path, **shapes: typing.Any) -> None:
    torch.manual_seed(0)
    frames = shapes.get("frames", {})
    model = build_model(
        config,
        dims={**shapes.get("dims", {}), **dict.fromkeys(frames, 3 * 32 * 32)},
        outputs={name: task.num_outputs for name, task in TASKS.items()},
        heads=dict.fromkeys(TASKS, MlpHeadConfig(hidden=(4,), batch_norm=True)),
        scalar_tasks=["funny", "pitch"],
        frames=frames,
        rates={"audio": 2.0, "video": 1.0},
    )
    eager = exporting.Graph(model, modalities=config.fused_modalities, tasks=TASKS, decisions=Decisions()).eval()
    graph = copy.deepcopy(eager)
    for_a_graph(graph)
    batches = [inputs(config, count, longest, frames) for count, longest in ((1, 1), (2, 7), (5, 4))]
    program = exporting._program(graph, batches[-1])
    outputs = list(eager(batches[0]))
    runner = exporting._save(program, folder / "model.onnx", form="onnx", inputs=list(batches[0]), outputs=outputs)
    assert max(exporting._difference(eager, runner, batch) for batch in batches) <= exporting.TOLERANCE


def inputs(config: ModelConfig, count: int, longest: int, frames: typing.Mapping[str, tuple[int, ...]]) -> exporting.Inputs:
    random = torch.Generator().manual_seed(longest)
    found: exporting.Inputs = {}
    for number, name in enumerate(config.fused_modalities):
        length = longest + number
        lengths = torch.randint(1, length + 1, (count, 1), generator=random)
        if count > 1:
            lengths[number % count] = 0
        if name == "text":
            found[name] = torch.randint(5, 40, (count, length), generator=random)
        elif name in frames:
            found[name] = torch.randint(0, 256, (count, length, *frames[name]), generator=random, dtype=torch.uint8)
        else:
            found[name] = torch.randn(count, length, DIMS[name], generator=random)
        found[f"{name}_mask"] = torch.arange(length) < lengths
    return found
