"""`mmtrain import-checkpoint`: what it takes, what it leaves out and says so, and what it refuses, each in one message."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from mmtrain.cli import main

WIDE = {
    "att1_drop_norm1.1.weight": 768,
    "att3_drop_norm2.1.bias": 768,
    "rnn_img_drop_norm.1.weight": 1024,
    "attention.v": 768,
}


def small() -> dict[str, Tensor]:
    """A few of HICCAP's tensors, the small ones, as flat attributes."""
    torch.manual_seed(0)
    return {name: torch.randn(width) for name, width in WIDE.items()}


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["import-checkpoint", *map(str, words)])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out + said.err


def saved(folder: Path, content: Any, name: str = "theirs.pth", **how: Any) -> Path:
    torch.save(content, folder / name, **how)
    return folder / name


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(file, framework="pt") as handle:
        return {name: handle.get_tensor(name) for name in handle.keys()}, handle.metadata()  # noqa: SIM118 (it is no mapping)


def test_a_training_checkpoint_is_converted_and_what_is_left_out_is_said(tmp_path, capsys) -> None:
    extra = {
        "features.0.pooler.dense.bias": torch.zeros(768),
        "TAM_linear.0.bias": torch.zeros(512),
        "other": torch.zeros(1),
    }
    state = {**small(), **extra, "sequential.0.bias": torch.zeros(100), "g_CL.0.bias": torch.zeros(768)}
    state |= {"bert.embeddings.position_ids": torch.arange(512)[None], "loss_weights": torch.ones(5)}
    state["features.22.1.weight"] = torch.zeros(3)  # the list has 22 places, 0 to 21
    state = {f"module.{name}": value for name, value in state.items()}
    file = saved(tmp_path, {"epoch": 3, "model_state": state, "score": 0.1, "optimizer": {"state": {}}})
    code, said = run(capsys, "hiccap", file, "--out", tmp_path / "ours.safetensors")
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "4 tensors converted"
    assert "left out, a list of numbers, no weight: module.bert.embeddings.position_ids" in lines
    assert "left out, heads of the matching pretraining: module.TAM_linear.0.bias" in lines
    assert "left out, never called: module.features.0.pooler.dense.bias, module.sequential.0.bias" in lines
    assert "left out, the head of the contrastive pretraining: module.g_CL.0.bias" in lines
    assert "left out, weights of losses, not of the model: module.loss_weights" in lines
    assert "left out, unknown: module.other, module.features.22.1.weight" in lines
    assert any(line.startswith("not in the file, so left as they are initialized: bert.embeddings.word") for line in lines)
    assert lines[-1] == f"written to {tmp_path / 'ours.safetensors'}"
    tensors, metadata = read(tmp_path / "ours.safetensors")
    expected = {
        "fusion.readers.text_reader.norms.0.weight": "att1_drop_norm1.1.weight",
        "fusion.readers.video_reader.norms.1.bias": "att3_drop_norm2.1.bias",
        "sequences.video_encoder.norm.weight": "rnn_img_drop_norm.1.weight",
        "fusion.readers.text_reader.pooling.context.weight": "attention.v",
    }
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[mine].flatten(), small()[theirs]) for mine, theirs in expected.items())
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert metadata == {"format": "pt", "names": "mmtrain", "source": "theirs.pth", "source_sha256": sha256}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.safetensors", "theirs.pth"]


def test_legacy_names_old_files_half_precision_and_parts_in_two_files(tmp_path, capsys) -> None:
    parts = list(small().items())
    one = saved(tmp_path, {"model_state": dict(parts[:2])}, "hca.pth", _use_new_zipfile_serialization=False)
    two = saved(tmp_path, {name: value.half() for name, value in parts[2:]}, "fe.pth")
    code, said = run(capsys, "hiccap", one, two, "--legacy", "--out", tmp_path / "legacy.safetensors")
    assert (code, said.splitlines()[0]) == (0, "4 tensors converted")
    tensors, metadata = read(tmp_path / "legacy.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    torch.testing.assert_close(tensors, dict(sorted(parts)), atol=1e-3, rtol=1e-3)
    assert (metadata["names"], metadata["source"]) == ("legacy", "hca.pth, fe.pth")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_file_runs_nothing(tmp_path, capsys) -> None:
    file = saved(tmp_path, {"model_state": small(), "score": Bomb(tmp_path / "ran")})
    code, said = run(capsys, "hiccap", file, "--out", tmp_path / "ours.safetensors")
    assert code == 2
    assert not (tmp_path / "ran").exists()
    assert "holds more than tensors and plain numbers: 'posix.mkdir', which could run code." in said
    assert "torch.save({'model_state': model.state_dict()}, file)" in said
    assert not (tmp_path / "ours.safetensors").exists()
    file = saved(tmp_path, {"model_state": small(), "score": np.float64(0.5)})  # what a metric of scikit-learn leaves there
    code, said = run(capsys, "hiccap", file, "--out", tmp_path / "ours.safetensors")
    assert code == 2
    assert "scalar', which could run code. Nothing of it was loaded." in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"epoch": 3},
            "holds no state dict: expected names with tensors, at the top or under model_state, model_state_dict",
        ),
        ([torch.zeros(2)], "holds no state dict"),
        (
            {"layer.weight": torch.zeros(2), "b": torch.zeros(1)},
            "no name is known among layer.weight, b; expected names like",
        ),
        ({"att1_drop_norm1.1.weight": torch.zeros(7)}, "att1_drop_norm1.1.weight: the file has (7,), the model (768,)"),
        ({"features.8.1.bias": torch.zeros(2, 3)}, "features.8.1.bias: the file has (2, 3), the model (768,)"),
        (
            {"att1_drop_norm1.1.weight": torch.zeros(768), "module.features.8.1.weight": torch.zeros(768)},
            "'att1_drop_norm1.1.weight' and 'module.features.8.1.weight' are both att1_drop_norm1.1.weight; give one of",
        ),
        ({"attention.v": torch.full((768,), torch.nan)}, "attention.v holds NaN or Inf; take an earlier checkpoint"),
    ],
)
def test_what_does_not_fit_is_said(content, words, tmp_path, capsys) -> None:
    code, said = run(capsys, "hiccap", saved(tmp_path, content), "--out", tmp_path / "ours.safetensors")
    assert code == 2
    assert words in said
    assert said.startswith(f"error: {tmp_path / 'theirs.pth'}")
    assert not (tmp_path / "ours.safetensors").exists()


def test_many_wrong_shapes_are_five_lines(tmp_path, capsys) -> None:
    content = {f"features.{place}.1.weight": torch.zeros(3) for place in (2, 4, 8, 9, 11, 12, 14)}
    code, said = run(capsys, "hiccap", saved(tmp_path, content), "--out", tmp_path / "ours.safetensors")
    assert code == 2
    assert said.splitlines()[0].endswith("theirs.pth is of other dimensions:")
    assert len(said.splitlines()) == 7
    assert said.splitlines()[-1] == "... and 2 more"


def test_files_that_are_no_checkpoints(tmp_path, capsys) -> None:
    out = tmp_path / "ours.safetensors"
    whole = saved(tmp_path, small())
    files = {
        "gone.pth": (None, "does not exist; write the path of a PyTorch checkpoint"),
        "empty.pth": (b"", "is not a checkpoint that torch.save wrote ("),
        "text.pth": (b"weights: none\n", "is not a checkpoint that torch.save wrote ("),
        "half.pth": (whole.read_bytes()[:2000], "is not a checkpoint that torch.save wrote ("),
    }
    for name, (content, words) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        code, said = run(capsys, "hiccap", tmp_path / name, "--out", out)
        assert code == 2
        assert f"error: {tmp_path / name} {words}" in said
        assert len(said.splitlines()) == 1
    assert "is a folder; write the file" in run(capsys, "hiccap", tmp_path, "--out", out)[1]
    code, said = run(capsys, "hiccap", whole, whole, "--out", out)
    assert (code, "stood in an earlier file already; give one of them" in said) == (2, True)
    assert not out.exists()


def test_where_it_is_written_and_whose_it_is(tmp_path, capsys) -> None:
    whole = saved(tmp_path, small())
    code, said = run(capsys, "hicap", whole, "--out", tmp_path / "a.safetensors")
    assert (code, said) == (2, "error: no checkpoints of 'hicap' can be imported; there are: hiccap\n")
    assert "the name must end in .safetensors" in run(capsys, "hiccap", whole, "--out", tmp_path / "a.bin")[1]
    (tmp_path / "b.safetensors").touch()
    code, said = run(capsys, "hiccap", whole, "--out", tmp_path / "b.safetensors")
    assert (code, "exists already; write another name, or delete it" in said) == (2, True)
    code, said = run(capsys, "hiccap", whole, "--out", tmp_path / "nowhere" / "a.safetensors")
    assert (code, "could not be written:" in said) == (2, True)


def test_the_papers_model_is_what_a_whole_file_must_have() -> None:
    from mmtrain.foreign_weights.hiccap import HiccapScheme

    scheme = HiccapScheme()
    shapes = scheme.shapes(["heads.gory.0.weight"])
    assert shapes["bert.embeddings.word_embeddings.weight"] == (30522, 768)
    assert "bert.encoder.layer.11.output.dense.weight" in shapes
    assert shapes["rnn_img.weight_ih_l1_reverse"] == (2048, 1024)
    assert shapes["rnn_audio.weight_ih_l0"] == (2048, 128)
    assert shapes["heads.gory.0.weight"] == (200, 2304)
    assert not any(name.startswith(("heads.binary", "heads.mature")) for name in shapes)
