"""An exported graph says what the model says, and is refused where it would not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import mmtrain
from mmtrain.cli import main
from mmtrain.errors import ConfigError
from mmtrain.inference import export as exporting
from mmtrain.inference.decision import Decision, Decisions
from mmtrain.inference.export import export
from mmtrain.inference.graph_layers import for_a_graph
from mmtrain.inference.trained_model import TrainedModel


@pytest.fixture(scope="module")
def model(trained: Path) -> TrainedModel:
    """With a temperature, so that probabilities are not those of the logits alone."""
    found = mmtrain.load(trained)
    found.decisions = Decisions({"funny": Decision(temperature=2.5), "mood": Decision(temperature=0.5)})
    return found


def ragged(model: TrainedModel) -> tuple[dict[str, list[Any]], dict[str, Tensor]]:
    """Four samples, of which one lacks each modality, as `predict` takes them and as a graph does."""
    random = np.random.default_rng(0)
    texts = ["a very funny fish", None, "who was not here", "stop"]
    audio = [random.normal(size=(length, 6)).astype(np.float32) if length else None for length in (3, 5, 0, 9)]
    video = [random.normal(size=(length, 5)).astype(np.float32) if length else None for length in (0, 4, 7, 2)]
    given = {"text": texts, "audio": audio, "video": video}
    read = [model.read({name: values[number] for name, values in given.items()}) for number in range(4)]
    batch = model.collate(read, [0] * 4)
    tensors = {}
    for name in model.modalities:
        tensors[name], tensors[f"{name}_mask"] = batch.inputs[name]
    return given, tensors


def check(model: TrainedModel, outputs: dict[str, Any], given: dict[str, list[Any]]) -> None:
    for task, answer in model.predict(**given).items():
        np.testing.assert_allclose(outputs[f"{task}.logits"], answer.logits, atol=1e-4)
        value = outputs[f"{task}.value"] if task == "pitch" else outputs[f"{task}.probability"]
        np.testing.assert_allclose(value, answer.label if task == "pitch" else answer.probability, atol=1e-4)


@pytest.mark.slow
def test_a_saved_program_says_what_the_api_says(model: TrainedModel, tmp_path: Path) -> None:
    found = export(model, tmp_path / "model.pt2", form="torch-export")
    assert 0 <= found.largest_difference <= 1e-4
    assert found.bytes == (tmp_path / "model.pt2").stat().st_size
    given, tensors = ragged(model)
    program = torch.export.load(tmp_path / "model.pt2").module()
    check(model, {name: value.detach().numpy() for name, value in program(tensors).items()}, given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt2", "model.pt2.json"]


@pytest.mark.slow
def test_an_onnx_graph_says_what_the_api_says(model: TrainedModel, tmp_path: Path) -> None:
    """Read with onnxruntime alone, by the names in the file beside it."""
    export(model, tmp_path / "model.onnx", form="onnx")
    given, tensors = ragged(model)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    found = session.run(names, {name: value.numpy() for name, value in tensors.items()})
    check(model, dict(zip(names, found, strict=True)), given)
    shapes = {item.name: item.shape for item in session.get_inputs()}
    assert shapes == {
        name: ["batch", axis, *width]
        for modality, axis, *width in (("text", "text_tokens"), ("audio", "audio_rows", 6), ("video", "video_rows", 5))
        for name, width in ((modality, width), (f"{modality}_mask", []))
    }
    assert {item.shape[0] for item in session.get_outputs()} == {"batch"}
    beside = json.loads((tmp_path / "model.onnx.json").read_text())
    assert beside["modalities"] == ["text", "audio", "video"]
    assert beside["weights"] == model.identity
    assert set(beside["signature"]["tasks"]) == {"funny", "mood", "pitch"}


def test_a_graph_that_says_something_else_is_not_written(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any, **__: Any) -> exporting.Runner:
        return lambda batch: {name: value + 1e-3 for name, value in eager(batch).items()}

    eager = exporting.Graph(model.model, modalities=model.modalities, tasks=model.signature.tasks, decisions=model.decisions)
    monkeypatch.setattr(exporting, "_program", lambda *_: None)
    monkeypatch.setattr(exporting, "_save", wrong)
    with pytest.raises(ConfigError, match=r"torch-export: the graph .* 0\.001.*0\.0001"):
        export(model, tmp_path / "model.pt2", form="torch-export")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_says_nan_of_a_later_batch_is_not_written(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch has one sample, which lacks nothing."""
    eager = exporting.Graph(model.model, modalities=model.modalities, tasks=model.signature.tasks, decisions=model.decisions)

    def lost(*_: Any, **__: Any) -> exporting.Runner:
        return lambda batch: {
            name: value * (float("nan") if len(batch["text"]) == 5 else 1) for name, value in eager(batch).items()
        }

    monkeypatch.setattr(exporting, "_program", lambda *_: None)
    monkeypatch.setattr(exporting, "_save", lost)
    with pytest.raises(ConfigError, match="differs from the model by nan"):
        export(model, tmp_path / "model.pt2", form="torch-export")
    assert list(tmp_path.iterdir()) == []


def test_what_depends_on_the_data_is_refused(model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = exporting.Graph.forward

    def branching(self: exporting.Graph, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return real(self, inputs) if bool(inputs["audio"].sum() > 0) else {}

    monkeypatch.setattr(exporting.Graph, "forward", branching)
    with pytest.raises(ConfigError, match=r"this model cannot be exported: .*data-dependent"):
        export(model, tmp_path / "model.pt2", form="torch-export")


def test_names_and_files_are_looked_at_first(trained: Path, model: TrainedModel, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(ConfigError, match=r"onnx files end in \.onnx"):
        export(model, tmp_path / "a.pt2", form="onnx")
    (tmp_path / "a.onnx").touch()
    with pytest.raises(ConfigError, match="exists already"):
        export(model, tmp_path / "a.onnx", form="onnx")
    with pytest.raises(SystemExit):
        main(["export", str(trained), "--out", str(tmp_path / "a.bin")])
    assert "--format .bin: write one of torch-export, onnx" in capsys.readouterr().err


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_one_operation_is_the_layer(cell: type[nn.LSTM] | type[nn.GRU]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(cell(5, 4, batch_first=True))
    rows = torch.randn(3, 7, 5)
    expected = model(rows)[0]
    names = list(model.state_dict())
    for_a_graph(model)
    torch.testing.assert_close(model(rows)[0], expected, rtol=0, atol=0)
    assert [name.replace(".layer", "") for name in model.state_dict()] == names
