"""Image encoders: files of weights, frozen backbones, and what a wrong config or file hears."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from mmtrain.data.batch import MaskedSequence
from mmtrain.engine.launch import process_notes
from mmtrain.errors import ConfigError
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.cnn import CnnEncoderConfig
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.encoders.torchvision_backbone import TorchvisionEncoderConfig, load_backbone
from mmtrain.models.heads.linear import LinearHeadConfig

MODEL = "squeezenet1_1"
CNN = {"image": CnnEncoderConfig()}


def whole_model(name: str = MODEL) -> torch.nn.Module:
    from torchvision import models

    torch.manual_seed(1)
    return models.get_model(name, weights=None)


def build(config: ModelConfig):
    return build_model(
        config,
        dims={"audio": 3},
        frames={"image": (3, 32, 32)},
        outputs={"funny": 1},
        heads={"funny": LinearHeadConfig()},
        scalar_tasks=["funny"],
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file_with_or_without_its_classifier(tmp_path: Path, suffix: str) -> None:
    tensors = whole_model().state_dict()
    for name in ("whole", "bare"):
        kept = tensors if name == "whole" else {key: value for key, value in tensors.items() if "classifier" not in key}
        file = tmp_path / f"{name}{suffix}"
        safetensors.torch.save_file(kept, file) if suffix == ".safetensors" else torch.save(kept, file)
        loaded = load_backbone(MODEL, str(file)).state_dict()
        assert loaded
        assert all(torch.equal(value, tensors[key]) for key, value in loaded.items())


def test_weights_of_older_files_count_no_batches_and_second_classifiers_are_left_out(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = whole_model("googlenet").state_dict()
    assert any(key.startswith("aux1") for key in tensors)
    torch.save({key: value for key, value in tensors.items() if "num_batches" not in key}, tmp_path / "old.pth")
    loaded = load_backbone("googlenet", str(tmp_path / "old.pth")).state_dict()
    assert torch.equal(loaded["conv1.conv.weight"], tensors["conv1.conv.weight"])


def wrong_files() -> dict[str, tuple[object, str]]:
    tensors = whole_model().state_dict()
    first = next(iter(tensors))
    resnet = whole_model("resnet34").state_dict()
    return {
        "missing tensor": ({key: value for key, value in tensors.items() if key != first}, f"1 tensors .*first: {first}"),
        "another shape": (tensors | {first: torch.zeros(2)}, f"1 tensors are missing, too many or .*first: {first}"),
        "a larger model's": (tensors | {"features.99.weight": torch.zeros(2)}, r"1 tensors .*features\.99\.weight"),
        "another model's": (resnet, "does not hold the weights of torchvision's squeezenet1_1: "),
        "a checkpoint": ({"model": tensors, "epoch": 3}, "holds more than tensors by name"),
        "a number": (3, "holds more than tensors by name"),
    }


def test_files_that_are_not_the_models_weights_are_refused(tmp_path: Path) -> None:
    for name, (content, message) in wrong_files().items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(ConfigError, match=message):
            load_backbone(MODEL, str(tmp_path / f"{name}.pth"))
    for name in ("noise.pth", "noise.safetensors", "empty.pth", "empty.safetensors"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"\x80\x02noise, and no tensors at all")
        with pytest.raises(ConfigError, match=rf"weights: .*{name} cannot be read as safetensors or as a state dict"):
            load_backbone(MODEL, str(tmp_path / name))
    with pytest.raises(
        ConfigError, match=r"weights: there is no file nowhere\.pth; write `random`, or a \.safetensors or \.pth"
    ):
        load_backbone(MODEL, "nowhere.pth")


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_file_of_weights_runs_nothing(tmp_path: Path) -> None:
    import pickle

    buffer = io.BytesIO()
    torch.save({"weight": Bomb(tmp_path / "mark")}, buffer)
    for kind, content in {"pickle": pickle.dumps(Bomb(tmp_path / "mark")), "zip": buffer.getvalue()}.items():
        for suffix in (".pth", ".safetensors", ".bin"):
            (tmp_path / f"{kind}{suffix}").write_bytes(content)
            with pytest.raises(ConfigError, match="cannot be read as safetensors or as a state dict of torch") as error:
                load_backbone(MODEL, str(tmp_path / f"{kind}{suffix}"))
            assert "weights_only" not in str(error.value), "torch's own words advise to run the file"
    assert not (tmp_path / "mark").exists()


def test_a_frozen_backbone_drops_nothing_and_keeps_its_mode() -> None:
    encoder = TorchvisionEncoderConfig(model=MODEL, frozen=True).build(shape=(3, 32, 32), dim=4).train()
    assert encoder.training
    assert not any(module.training for module in encoder.backbone.modules())
    values = torch.randint(0, 256, (2, 2, 3, 32, 32), dtype=torch.uint8)
    sequence = MaskedSequence(values, torch.ones(2, 2, dtype=torch.bool))
    torch.testing.assert_close(encoder(sequence).values, encoder(sequence).values, rtol=0, atol=0)
    trained = {name for name, value in encoder.named_parameters() if value.requires_grad}
    assert trained == {"projection.weight", "projection.bias", "norm.weight", "norm.bias"}


def test_what_differs_on_several_processes_is_said_of_what_is_trained() -> None:
    def notes(**options) -> str:
        model = build(
            ModelConfig(dim=4, images={"image": options.pop("kind")(**options)}, fusion={"name": "sum", "dropout": 0})
        )
        return " ".join(process_notes(model, 2))

    assert "batch normalization" in notes(kind=CnnEncoderConfig)
    assert "batch normalization" in notes(kind=TorchvisionEncoderConfig, model="shufflenet_v2_x0_5")
    assert notes(kind=TorchvisionEncoderConfig, model="shufflenet_v2_x0_5", frozen=True) == ""
    assert "dropout" in notes(kind=TorchvisionEncoderConfig, model=MODEL)


def test_half_precision_and_double_pass_through() -> None:
    encoder = CnnEncoderConfig(hidden=(4,)).build(shape=(3, 8, 8), dim=2)
    values = torch.randint(0, 256, (2, 2, 3, 8, 8), dtype=torch.uint8)
    sequence = MaskedSequence(values, torch.ones(2, 2, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(sequence).values.isfinite().all()
    assert encoder.double()(sequence).values.dtype == torch.float64
    assert not {"mean", "std"} & encoder.state_dict().keys()


def test_models_and_pictures_that_do_not_fit() -> None:
    def refused(**options) -> str:
        with pytest.raises(ConfigError) as error:
            build(ModelConfig(dim=4, images={"image": TorchvisionEncoderConfig(**options)}))
        return str(error.value)

    assert refused(model="squeezenet11").startswith(
        "model.images.image.model: torchvision has no classification model 'squeezenet11'; nearest: squeezenet1_1, "
    )
    assert "no classification model 'fcn_resnet50'" in refused(model="fcn_resnet50")
    assert refused(model="vit_b_32").startswith(
        "model.images.image.model: 'vit_b_32' does not read pictures of 32 x 32 pixels (Wrong image height! Expected 224 "
        "but got 32!); extract them with another --size, or choose another model"
    )
    assert refused(model=MODEL, weights="nowhere.pth").startswith("model.images.image.weights: there is no file nowhere.pth")


def test_pixels_and_features_are_read_by_their_own_encoders() -> None:
    with pytest.raises(ConfigError, match=r"model\.images\.face: no store has this modality \(there are: audio, image\)"):
        build(ModelConfig(images={"face": CnnEncoderConfig()}))
    with pytest.raises(ConfigError, match=r"model\.images\.audio: the stores hold feature rows of it; .* model\.sequences"):
        build(ModelConfig(images={"audio": CnnEncoderConfig()}))
    with pytest.raises(ConfigError, match=r"model\.sequences\.image: the stores hold pixels of it; .* under model\.images"):
        build(ModelConfig(sequences={"image": LinearEncoderConfig()}))
    with pytest.raises(
        ValidationError, match="'image' stands under `sequences` and `images`; pixels go under `images` alone"
    ):
        ModelConfig(images=CNN, sequences={"image": LinearEncoderConfig()})
    with pytest.raises(ValidationError, match="`images` may not hold a modality called 'text'"):
        ModelConfig(images={"text": CnnEncoderConfig()})
    config = ModelConfig(images=CNN, sequences={"audio": LinearEncoderConfig()}, text={"path": "x"})
    assert config.modalities == ("text", "audio", "image")


def test_a_config_of_images_imports_no_torchvision() -> None:
    code = """
import sys
from mmtrain.models.config import ModelConfig
from mmtrain.data.augment import ColorJitterConfig, RotationConfig
ModelConfig(images={"image": {"name": "torchvision", "model": "resnet18"}})
RotationConfig().build(), ColorJitterConfig().build()
print("torchvision" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
