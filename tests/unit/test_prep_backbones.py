"""Backbones: rows are where their pictures are, weights are those of the file, and no file of weights runs anything."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from real_media import write_video
from torch import nn
from torchvision import models

from data_prep.extractors import AUDIO, IMAGE, TABLES, VIDEO
from data_prep.extractors.backbone import hash_weights
from data_prep.extractors.choose import choose
from data_prep.extractors.clip_backbone import VIDEO_BACKBONES
from data_prep.extractors.frame_backbone import IMAGE_BACKBONES
from data_prep.media.span import WHOLE, Span
from mmtrain.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("media") / "clip.mp4")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    state = models.resnet18().state_dict()
    safetensors.torch.save_file(state, folder / "resnet18.safetensors")
    torch.save(state, folder / "resnet18.pth")
    return folder


def test_rows_are_what_the_classifier_reads_of_their_pictures(clip: Path, weights: Path) -> None:
    """The fourth row shows the picture at 3.0 s, bright; all by hand through the whole model and its preset."""
    extractor = VIDEO["resnet18"](weights=str(weights / "resnet18.pth"), frames_per_second=1.0, batch_size=3)
    rows = extractor(clip, WHOLE)
    assert (rows.shape, rows.dtype) == ((4, 512), np.float32)
    dark, bright = (np.abs(rows[[0, 1, 2]] - rows[0]).max(), np.abs(rows[3] - rows[0]).max())
    assert bright > 10 * dark
    net = models.resnet18()
    net.load_state_dict(torch.load(weights / "resnet18.pth", weights_only=True))
    net.fc = nn.Identity()
    gray = torch.full((1, 3, 224, 224), 230 / 255)
    mean, std = (torch.tensor(values)[None, :, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = net.eval()((gray - mean) / std).detach().numpy()[0]
    assert np.abs(rows[3] - expected).max() < 0.05 * np.abs(expected).max()  # the codec is not lossless
    part = extractor(clip, Span(Fraction(3), Fraction(4)))
    np.testing.assert_allclose(part, rows[3:], atol=1e-5)
    assert extractor.spec.rows_per_second == 1.0


def test_weights_are_the_same_from_either_file_and_hashed(weights: Path) -> None:
    made = [IMAGE["resnet18"](weights=str(weights / f"resnet18.{form}")) for form in ("pth", "safetensors")]
    picture = torch.rand(1, 3, 224, 224)
    assert torch.equal(made[0]._backbone(picture), made[1]._backbone(picture))
    assert [list(extractor.weights) for extractor in made] == [["resnet18.pth"], ["resnet18.safetensors"]]
    first, second = (IMAGE["resnet18"](weights="random") for _ in range(2))
    assert first.weights == second.weights
    assert torch.equal(first._backbone(picture), second._backbone(picture))


class Bomb:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.file),)


def test_files_that_are_not_the_weights(tmp_path: Path, weights: Path) -> None:
    torch.save({"conv1.weight": Bomb(tmp_path / "ran")}, tmp_path / "hostile.pth")
    torch.save({"model": [1]}, tmp_path / "more.pth")
    torch.save({**torch.load(weights / "resnet18.pth", weights_only=True), "extra": torch.zeros(1)}, tmp_path / "extra.pth")
    for name, message in (
        ("hostile.pth", "cannot be read as safetensors or as a state dict"),
        ("more.pth", "holds more than tensors by name"),
        ("extra.pth", r"not hold the weights of torchvision's resnet18: 1 tensors .* \(first: extra\)"),
        ("absent.pth", "there is no file"),
    ):
        with pytest.raises(ConfigError, match=f"--weights: .*{message}"):
            VIDEO["resnet18"](weights=str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


def test_without_a_network_it_says_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(ConfigError, match=r"cannot be had from https.*no network.*--weights resnet18=FILE"):
        VIDEO["resnet18"]()


@pytest.mark.slow
def test_windows_of_a_video_backbone(tmp_path: Path) -> None:
    """Twenty frames at 10 a second: a window of 16, and one of 4 filled up with its last."""
    extractor = VIDEO["r3d_18"](weights="random", frames_per_second=10.0, batch_size=1)
    pictures = [np.full((32, 32, 3), 10 * number + 20, np.uint8) for number in range(20)]
    clip = write_video(tmp_path / "clip.mp4", rate=None, seconds=2.0, pictures=pictures, group=1)
    windows = list(extractor._windows(clip, WHOLE))
    means = [float(frame.mean()) for window in windows for frame in window.unbind(1)][:20]
    assert means == sorted(means)
    assert len(set(means)) == 20
    assert [tuple(window.shape) for window in windows] == [(3, 16, 112, 112)] * 2
    assert torch.equal(windows[1][:, 3:4].expand(-1, 13, -1, -1), windows[1][:, 3:])
    rows = extractor(clip, Span(Fraction(0), Fraction(1)))
    assert rows.shape == (1, 512)
    assert extractor.spec.rows_per_second == 10 / 16


WIDTHS = {
    **{"resnet18": 512, "resnet50": 2048, "efficientnet_b0": 1280, "vit_b_16": 768},
    **{"r3d_18": 512, "mc3_18": 512, "r2plus1d_18": 512, "s3d": 1024, "mvit_v2_s": 768, "swin3d_t": 768},
}


@pytest.mark.slow
def test_every_backbone_reads_a_clip(tmp_path: Path) -> None:
    """One row for two pictures a second, or for a window; as wide as each paper's last layer; the flash tells."""
    assert set(WIDTHS) == {*IMAGE_BACKBONES, *VIDEO_BACKBONES}
    clip = write_video(tmp_path / "clip.mp4", rate=None)
    for name, width in WIDTHS.items():
        extractor = VIDEO[name](weights="random", batch_size=1)
        dark, flash = (extractor(clip, Span(Fraction(first), Fraction(first) + Fraction(2, 5))) for first in (0, 3))
        assert (dark.shape, dark.dtype, extractor.spec.dim) == ((1, width), np.float32, width), name
        assert np.isfinite(dark).all(), name
        assert np.abs(flash - dark).max() > 0.01 * np.abs(dark).max(), name
        assert extractor.spec.extractor == f"torchvision/{name}"
        assert list(extractor.weights) == ["random"]


def test_half_precision_is_stored_as_float16(weights: Path, clip: Path) -> None:
    whole, half = (VIDEO["resnet18"](weights=str(weights / "resnet18.pth"), half=half) for half in (False, True))
    part = Span(Fraction(3), Fraction(7, 2))
    rows = half(clip, part)
    assert (rows.dtype, half.spec.dtype) == (np.float16, "float16")
    expected = whole(clip, part)
    assert np.abs(rows - expected).max() < 0.05 * np.abs(expected).max()


def test_weights_are_told_apart_by_names_and_shapes_too() -> None:
    values = torch.arange(6.0)
    nets = []
    for name, shape in (("one", (2, 3)), ("two", (2, 3)), ("one", (3, 2))):
        net = nn.Module()
        net.register_buffer(name, values.reshape(shape).clone())
        nets.append(net)
    assert len({hash_weights(net) for net in nets}) == 3


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"--device cda: torch cannot use it here .*write cpu, cuda"):
        VIDEO["resnet18"](weights="random", device="cda")


def test_options_go_to_those_that_take_them() -> None:
    chosen = choose({"audio": "logmel", "video": "resnet18"}, options={"batch_size": 2}, weights={"resnet18": "random"})
    assert chosen["video"].keywords == {"model": "resnet18", "batch_size": 2, "weights": "random"}
    assert chosen["audio"].keywords == {}
    with pytest.raises(ConfigError, match=r"--rows-per-second: only --audio hf:\.\.\. read it"):
        choose({"audio": "logmel"}, options={"rows_per_second": 2.0}, weights={})
    for name in ("resnet50", "logmel"):
        with pytest.raises(ConfigError, match=f"--weights {name}=x: no extractor of that name, with weights, is asked for"):
            choose({"audio": "logmel"}, options={}, weights={name: "x"})
    for modality in TABLES:
        with pytest.raises(ConfigError, match=f"--{modality} cat: unknown extractor; write one of .*, or hf: and the name"):
            choose({modality: "cat"}, options={}, weights={})


def test_a_picture_has_no_time(tmp_path: Path, clip: Path) -> None:
    extractor = IMAGE["resnet18"](weights="random")
    with pytest.raises(DataError, match="a video, where a picture was expected"):
        extractor(clip, WHOLE)
    with pytest.raises(DataError, match="a picture has no time"):
        extractor(tmp_path / "a.png", Span(Fraction(1)))


@pytest.mark.parametrize("name", ["logmel", "mfcc", "vggish-rows"])
def test_rows_of_sound_are_where_they_are(clip: Path, name: str) -> None:
    extractor = AUDIO[name]()
    rows = extractor(clip, WHOLE)
    assert rows.shape == (pytest.approx(4.1 * extractor.spec.rows_per_second, abs=1), extractor.spec.dim)
    loud = np.flatnonzero(np.abs(rows - rows[0]).max(axis=1) > 0.5 * np.abs(rows - rows[0]).max())
    assert {int((row + 0.5) / extractor.spec.rows_per_second * 10) / 10 for row in loud} <= (
        {3.0, 3.1, 3.2, 3.3} if extractor.spec.rows_per_second == 10 else {3.3}
    )
    assert len(loud)


def test_the_page_names_every_extractor() -> None:
    page = (Path(__file__).parents[2] / "docs" / "extraction.md").read_text()
    assert [name for table in TABLES.values() for name in table if f"`{name}`" not in page] == []
