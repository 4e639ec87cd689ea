"""Every fusion, encoder and pooling gives the same values and gradients in parts (FSDP), gathered layer by layer."""

import multiprocessing
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from test_mask_contract import DIMS, padded, real_rows, small
from torch import Tensor, distributed, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.engine import sharding
from mmtrain.errors import ConfigError
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders import SEQUENCE_ENCODERS, TEXT_ENCODERS
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.models.pooling import POOLINGS
from mmtrain.section import Section
from mmtrain.sharded import is_part, put_back_parts

WORLD = 2
TABLES = (FUSIONS, SEQUENCE_ENCODERS, POOLINGS, TEXT_ENCODERS)


def rows(bert: Path) -> Iterator[ModelConfig]:
    """Each row of each table at least once."""
    for number in range(max(map(len, TABLES))):
        fusion, encoder, pooling, text = (table[number % len(table)] for table in TABLES)
        read = reading(small(fusion), text=number < len(TEXT_ENCODERS))  # texts take most of the time
        yield ModelConfig(
            dim=8,
            text=text(path=str(bert), weights="random", max_tokens=16, dropout=0.0) if "text" in read else None,
            sequences={name: with_layers(encoder) for name in read if name != "text"},
            fusion=with_layers(fusion),
            pooling=small(pooling),
        )


def reading(fusion: Any, *, text: bool) -> tuple[str, ...]:
    """As many modalities as the fusion takes of these, or of others where it wants a text."""
    for read in (("text" if text else "face", "audio", "video"), ("text", "audio", "video"), ("text", "audio")):
        with suppress(ConfigError):
            fusion.check(read)
            return read
    raise AssertionError(fusion.name)


def with_layers(kind: type[Section]) -> Section:
    """Two layers wherever there are layers: a list of one is no list of layers."""
    settings = small(kind)
    several = {name: 2 for name in ("layers", "self_layers") if isinstance(getattr(settings, name, None), int)}
    return kind(**{**settings.model_dump(), **several})


def built(config: ModelConfig) -> MultimodalModel:
    torch.manual_seed(0)
    heads = {"funny": LinearHeadConfig(), "mood": LinearHeadConfig()}
    return build_model(config, dims=DIMS, outputs={"funny": 1, "mood": 3}, heads=heads, scalar_tasks=["funny"]).eval()


def values_and_gradients(model: nn.Module, batch: dict[str, MaskedSequence]) -> dict[str, Tensor | None]:
    """Logits, batch terms, and the gradient of every parameter, whole."""
    outputs = model(batch)
    found = {**outputs.logits, **outputs.aux}
    torch.stack([value.square().sum() for value in found.values()]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    whole = {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in gradients.items()}
    return {name: value.detach() for name, value in found.items()} | whole


def differences(bert: Path) -> Iterator[str]:
    """What differs in parts, in words. Both processes see one batch: the mean of their gradients is that of each."""
    batch = padded(real_rows())
    num_units = 0
    for config in rows(bert):
        expected = values_and_gradients(built(config), batch)
        model = built(config)
        num_units += sharding.shard(model, device=torch.device("cpu"), reshard=True)
        with torch.no_grad():
            model(batch)
        put_back_parts(model)
        if any(parameter.ndim and not is_part(parameter) for parameter in model.parameters()):
            yield f"{config.fusion.name}: something stays whole behind a pass without a backward pass"
        try:
            found = values_and_gradients(model, batch)
        except (RuntimeError, UserWarning) as error:
            yield f"{config.fusion.name}: {error}"
            continue
        for name, value in expected.items():
            other = found[name]
            if (value is None) != (other is None) or (value is not None and not torch.allclose(value, other, atol=1e-5)):
                yield f"{config.fusion.name}: {name}"
    if num_units < len(FUSIONS):
        yield f"{num_units} units: the layers were not gathered one at a time"


def work(rank: int, port: int, bert: Path, answer: Path) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    sharding.SMALLEST_UNIT = 1
    addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(WORLD)}
    os.environ.update(addresses)
    distributed.init_process_group("gloo")
    warnings.simplefilter("error")
    answer.write_text("\n".join(differences(bert)))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_every_row_gives_the_same_in_parts(tiny_bert: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = [tmp_path / f"{rank}.txt" for rank in range(WORLD)]
    processes = [context.Process(target=work, args=(rank, port, tiny_bert, file)) for rank, file in enumerate(answers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * WORLD
    assert [file.read_text() for file in answers] == [""] * WORLD
