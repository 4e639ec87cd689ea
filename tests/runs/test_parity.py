"""One model in every form that it takes after training: Python, files of the command, package, fold, graphs, and, to what
their rounding is by hand, eight and sixteen bits. All on ragged batches in which modalities are missing.
"""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import mmtrain
from mmtrain.cli import main
from mmtrain.data.batch import MaskedSequence
from mmtrain.data.dataset import Sample
from mmtrain.data.store import FeatureStore
from mmtrain.inference.trained_model import TrainedModel

pytestmark = pytest.mark.slow
Logits = dict[str, npt.NDArray[np.floating]]
PROBABILITY = 1e-6  # of the same sums, padded otherwise
LOGIT = 1e-5  # the same, folded or packed
GRAPH = 1e-4  # another program's kernels


def command(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def clips(run_stores: Path) -> FeatureStore:
    return FeatureStore(run_stores / "clips")


@pytest.fixture(scope="module")
def model(normed: Path) -> TrainedModel:
    return mmtrain.load(normed)


@pytest.fixture(scope="module")
def samples(model: TrainedModel, clips: FeatureStore) -> list[Sample]:
    """All of the store; of each modality some lack it, and of some pairs of modalities too."""
    found = [
        model.read({"text": clips.text(index), **{name: clips.rows(name, index) for name in ("audio", "video")}})
        for index in range(len(clips))
    ]
    lacking = [{name for name in ("audio", "video") if name not in one.features} for one in found]
    assert [one for one in lacking if len(one) == 2] != []
    assert {len(one.features["audio"]) for one in found if "audio" in one.features} > {1, 5}
    assert any(not one.text for one in found)
    return found


@pytest.fixture(scope="module")
def expected(model: TrainedModel, samples: list[Sample]) -> Logits:
    """One sample at a time: no padding, no companions."""
    return dict(model.logits(samples, batch_size=1)[0])


def compare(found: Logits, expected: Logits, tolerance: float) -> None:
    assert set(found) == set(expected) == {"funny", "mood", "pitch"}
    for task, logits in expected.items():
        np.testing.assert_allclose(found[task], logits, atol=tolerance, rtol=0, err_msg=task)


def test_files_of_the_command_say_what_python_says(
    model: TrainedModel, normed: Path, clips: FeatureStore, expected: Logits, tmp_path: Path
) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    for suffix in ("csv", "parquet", "jsonl"):
        command("predict", normed, "--store", clips.path, "--out", tmp_path / f"a.{suffix}", "--batch-size", 7)
    rows["parquet"] = pq.read_table(tmp_path / "a.parquet").to_pylist()
    rows["jsonl"] = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "a.csv").open(newline="") as handle:
        rows["csv"] = list(csv.DictReader(handle))
    outputs = model.signature.tasks
    funny, mood, pitch = (
        model.decisions[task].probabilities(outputs[task], expected[task]) for task in ("funny", "mood", "pitch")
    )
    for table in rows.values():
        assert [row["id"] for row in table] == [clips.sample_id(index) for index in range(len(clips))]
        np.testing.assert_allclose([float(row["funny.probability"]) for row in table], funny, atol=PROBABILITY)
        for number, name in enumerate(outputs["mood"].classes):
            written = [float(row[f"mood.probability.{name}"]) for row in table]
            np.testing.assert_allclose(written, mood[:, number], atol=PROBABILITY)
        np.testing.assert_allclose([float(row["pitch"]) for row in table], pitch, atol=LOGIT * outputs["pitch"].std)
        assert [row["mood"] for row in table] == [outputs["mood"].classes[number] for number in mood.argmax(axis=1)]


def test_packages_and_folds_say_what_python_says(
    normed: Path, samples: list[Sample], expected: Logits, tmp_path: Path
) -> None:
    command("pack", normed, "--out", tmp_path / "packed")
    command("compress", normed, "--method", "fold", "--out", tmp_path / "folded")
    command("pack", tmp_path / "folded", "--out", tmp_path / "again")
    for name in ("packed", "folded", "again"):
        found = mmtrain.load(tmp_path / name)
        assert any("BatchNorm" in type(module).__name__ for module in found.model.modules()) == (name == "packed")
        compare(dict(found.logits(samples, batch_size=16)[0]), expected, LOGIT)


@pytest.mark.parametrize(("form", "method"), [("onnx", "none"), ("pt2", "none"), ("pt2", "fold")])
def test_graphs_say_what_python_says(
    form: str, method: str, normed: Path, model: TrainedModel, samples: list[Sample], expected: Logits, tmp_path: Path
) -> None:
    source = normed
    if method != "none":
        source = tmp_path / "small"
        command("compress", normed, "--method", method, "--out", source)
    file = tmp_path / f"model.{form}"
    command("export", source, "--out", file)
    run = onnx_runner(file) if form == "onnx" else program_runner(file)
    parts: dict[str, list[Any]] = {task: [] for task in expected}
    for first in range(0, len(samples), 16):
        batch = model.collate(samples[first : first + 16], [0] * len(samples[first : first + 16]))
        inputs = {name: values for name, (values, _) in batch.inputs.items()}
        outputs = run(inputs | {f"{name}_mask": mask for name, (_, mask) in batch.inputs.items()})
        for task, found in parts.items():
            found.append(outputs[f"{task}.logits"])
    compare({task: np.concatenate(found) for task, found in parts.items()}, expected, GRAPH)


def onnx_runner(file: Path) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return lambda batch: dict(
        zip(names, session.run(names, {name: value.numpy() for name, value in batch.items()}), strict=True)
    )


def program_runner(file: Path) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    program = torch.export.load(file).module()
    return lambda batch: {name: value.detach().numpy() for name, value in program(batch).items()}


class ByHand(nn.Module):
    """A linear layer in float64 of a file's weight; what it reads is rounded to steps of each row's largest over 127.5."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, rows: Tensor) -> Tensor:
        single = rows.float()  # in which the largest number, which lies between two steps, falls as it does in int8
        step = (single.abs().amax(dim=-1, keepdim=True) / 127.5).clamp(min=torch.finfo(torch.float32).eps)
        numbers = (single * (1 / step)).round().clamp(-128, 127)
        found = (numbers.double() * step.double()) @ self.weight.T
        return found if self.bias is None else found + self.bias


def in_float64(model: TrainedModel, samples: list[Sample], change: Callable[[nn.Module], None]) -> Logits:
    """What the run's own modules say in float64, with other weights."""
    own = copy.deepcopy(model.model).double()
    change(own)
    batch = model.collate(samples, [0] * len(samples))
    inputs = {
        name: MaskedSequence(values.double() if values.is_floating_point() else values, mask)
        for name, (values, mask) in batch.inputs.items()
    }
    with torch.inference_mode():
        return {task: logits.numpy() for task, logits in own.eval()(inputs).logits.items()}


def dequantize(file: Path) -> Callable[[nn.Module], None]:
    """Let every linear layer have the weight of the file: its numbers of 8 bits times the steps, in float64."""
    tensors = safetensors.torch.load_file(file)

    def change(model: nn.Module) -> None:
        for name, linear in list(model.named_modules()):
            if type(linear) is nn.Linear:
                step = tensors[f"{name}.weight_scale"].double()
                weight = tensors[f"{name}.weight"].double() * step
                assert tensors[f"{name}.weight"].dtype == torch.int8
                assert ((weight - linear.weight).abs() <= 0.5001 * step).all()
                model.set_submodule(name, ByHand(weight, linear.bias))

    return change


def distance(one: Logits, other: Logits) -> float:
    """Root of the mean square over all logits."""
    return float(np.sqrt(np.mean(np.concatenate([(one[task] - other[task]).ravel() for task in other]) ** 2)))


def test_int8_is_the_model_rounded_by_hand(
    normed: Path, model: TrainedModel, samples: list[Sample], expected: Logits, tmp_path: Path
) -> None:
    """Layer by layer, on what each reads; of the whole, numbers on the border between two roundings add up to more."""
    command("compress", normed, "--method", "int8", "--out", tmp_path / "small")
    small, by_hand = mmtrain.load(tmp_path / "small"), dequantize(tmp_path / "small/model.safetensors")
    layers = copy.deepcopy(model.model).double()
    by_hand(layers)
    seen = set()

    def check(name: str, rows: Tensor, found: Tensor) -> None:
        torch.testing.assert_close(found.double(), layers.get_submodule(name)(rows), atol=1e-5, rtol=1e-5, msg=name)
        seen.add(name)

    for name, module in small.model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, rows, found, name=name: check(name, rows[0], found))
    found = dict(small.logits(samples, batch_size=16)[0])
    assert seen == {name for name, module in model.model.named_modules() if isinstance(module, nn.Linear)}
    whole = in_float64(model, samples, by_hand)
    compare(found, whole, 0.02)
    assert distance(found, whole) < distance(found, expected)


def halve(dtype: str) -> Callable[[nn.Module], None]:
    def change(module: nn.Module) -> None:
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.data = torch.from_numpy(rounded(weight.detach().float().numpy(), dtype)).double()

    return change


def rounded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.float32]:
    """float16 is numpy's own; bfloat16 is the upper half of float32's bits, to nearest even."""
    if dtype == "fp16":
        return values.astype(np.float16).astype(np.float32)
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_half_is_the_model_rounded_by_hand(
    name: str, normed: Path, model: TrainedModel, samples: list[Sample], expected: Logits, tmp_path: Path
) -> None:
    """Exactly where products are float32; of bfloat16 products only nearly."""
    command("compress", normed, "--method", name, "--out", tmp_path / "small")
    by_hand = in_float64(model, samples, halve(name))
    plain = mmtrain.load(tmp_path / "small", precision="fp32")
    compare(dict(plain.logits(samples, batch_size=16)[0]), by_hand, LOGIT)
    assert distance(by_hand, expected) > 3 * distance(dict(plain.logits(samples, batch_size=16)[0]), by_hand)
    own = mmtrain.load(tmp_path / "small")
    compare(dict(own.logits(samples, batch_size=16)[0]), by_hand, 0.05 if name == "bf16" else LOGIT)
