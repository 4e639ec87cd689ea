"""Models of Hugging Face from folders: tiny ones with random weights, made on the spot; rows checked by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from real_media import beep, write_video

from data_prep.extractors.choose import choose
from data_prep.extractors.hf_audio import HuggingFaceAudio
from data_prep.extractors.hf_vision import HuggingFaceVision
from data_prep.media.span import WHOLE
from mmtrain.errors import ConfigError

soundfile = pytest.importorskip("soundfile")

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders vit, wav2vec2, whisper and ast."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    wav2vec2 = transformers.Wav2Vec2Config(
        **SIZES, conv_dim=(8, 8), conv_kernel=(10, 40), conv_stride=(10, 32), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, num_feat_extract_layers=2, do_stable_layer_norm=True, feat_extract_norm="layer",
    )  # fmt: skip
    whisper = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, max_source_positions=150, vocab_size=9,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    ast = transformers.ASTConfig(**SIZES, max_length=128, num_mel_bins=32, patch_size=16)
    made = {
        "vit": (
            transformers.ViTModel(transformers.ViTConfig(**SIZES, image_size=32, patch_size=16), add_pooling_layer=False),
            transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
        ),
        "wav2vec2": (transformers.Wav2Vec2Model(wav2vec2), transformers.Wav2Vec2FeatureExtractor()),
        "whisper": (transformers.WhisperModel(whisper), transformers.WhisperFeatureExtractor(chunk_length=3)),
        "ast": (transformers.ASTModel(ast), transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=32)),
    }
    for name, (model, processor) in made.items():
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "tone.wav", beep(16_000, 4.0) + 0.01, 16_000)
    return tmp_path / "tone.wav"


def test_a_vision_model_without_its_pooler_is_averaged_over_patches(models: Path, tmp_path: Path) -> None:
    extractor = HuggingFaceVision(path=str(models / "vit"), frames_per_second=1.0)
    rows = extractor(write_video(tmp_path / "clip.mp4"), WHOLE)
    assert rows.shape == (4, 16)
    assert np.abs(rows[0] - rows[1]).max() < 0.1 * np.abs(rows[0] - rows[3]).max()
    net = transformers.ViTModel.from_pretrained(models / "vit", add_pooling_layer=False).eval()
    gray = torch.full((1, 3, 32, 32), (230 / 255 - 0.5) / 0.5)
    expected = net(gray).last_hidden_state.mean(dim=1).detach().numpy()[0]
    assert np.abs(rows[3] - expected).max() < 0.1 * np.abs(rows[0] - rows[3]).max()
    assert (extractor.spec.extractor, len(extractor.weights["vit"])) == ("hf/vit", 64)


def test_wav2vec2_is_averaged_over_the_frames_of_a_row(models: Path, tone: Path) -> None:
    """A frame every 20 ms: 199 over 4 s, whose middles fall to eight rows of half a second."""
    rows = HuggingFaceAudio(path=str(models / "wav2vec2"))(tone, WHOLE)
    assert rows.shape == (8, 16)
    sound = torch.from_numpy(soundfile.read(tone, dtype="float32")[0])
    sound = (sound - sound.mean()) / (sound.var(unbiased=False) + 1e-7).sqrt()
    states = transformers.Wav2Vec2Model.from_pretrained(models / "wav2vec2").eval()(sound[None]).last_hidden_state[0]
    assert len(states) == 199
    for row in range(8):
        inside = [state for k, state in enumerate(states) if row <= (k + 0.5) * 4 / 199 * 2 < row + 1]
        np.testing.assert_allclose(rows[row], torch.stack(inside).mean(dim=0).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(("name", "rate", "rows"), [("whisper", 2.0, 8), ("ast", 5.0, 20), ("wav2vec2", 0.75, 3)])
def test_rows_of_a_sound_longer_than_the_model_hears(models: Path, tone: Path, name: str, rate: float, rows: int) -> None:
    extractor = HuggingFaceAudio(path=str(models / name), rows_per_second=rate)
    found = extractor(tone, WHOLE)
    assert (found.shape, extractor.spec.rows_per_second) == ((rows, 16), rate)
    assert np.isfinite(found).all()


def test_whisper_is_heard_by_its_encoder(models: Path, tone: Path) -> None:
    """150 states over 3 s: 25 to each of six rows, and the seventh is the first of what comes next."""
    rows = HuggingFaceAudio(path=str(models / "whisper"))(tone, WHOLE)
    sound = soundfile.read(tone, dtype="float32")[0]
    prepare = transformers.WhisperFeatureExtractor.from_pretrained(models / "whisper")
    encoder = transformers.WhisperModel.from_pretrained(models / "whisper").eval().encoder
    for first, part in ((0, sound[:48_000]), (6, sound[48_000:])):
        features = prepare(part, sampling_rate=16_000, return_tensors="pt")["input_features"]
        states = encoder(features).last_hidden_state[0].detach().numpy()
        for row in range(first, min(first + 6, 8)):
            begin = 25 * (row - first)
            np.testing.assert_allclose(rows[row], states[begin : begin + 25].mean(axis=0), atol=1e-4)


def test_ast_is_averaged_over_bands_first(models: Path, tone: Path) -> None:
    """2 bands and 12 times, 10 frames apart, over 1.28 s: five rows a second hold two times each, by their middles."""
    rows = HuggingFaceAudio(path=str(models / "ast"), rows_per_second=5.0)(tone, WHOLE)
    sound = soundfile.read(tone, dtype="float32")[0][: round(1.2 * 16_000)]
    prepare = transformers.ASTFeatureExtractor.from_pretrained(models / "ast")
    values = prepare(sound, sampling_rate=16_000, return_tensors="pt")["input_values"]
    states = transformers.ASTModel.from_pretrained(models / "ast").eval()(values).last_hidden_state[0].detach().numpy()
    assert len(states) == 2 + 2 * 12
    for row in range(6):
        times = [k for k in range(12) if row <= (k + 0.5) * 1.28 / 12 * 5 < row + 1]
        expected = np.mean([states[2 + band * 12 + time] for band in range(2) for time in times], axis=0)
        np.testing.assert_allclose(rows[row], expected, atol=1e-4)


def test_what_is_no_model_says_so(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(ConfigError, match=r"hf:.* cannot be loaded \(.*preprocessor_config\.json"):
            HuggingFaceVision(path=str(path))
    with pytest.raises(ConfigError, match=r"--rows-per-second 80\.0: the model gives 4.*, write less"):
        HuggingFaceAudio(path=str(models / "wav2vec2"), rows_per_second=80.0)
    with pytest.raises(ConfigError, match=r"--rows-per-second 0\.01: 10 s is what the model hears at a time"):
        HuggingFaceAudio(path=str(models / "wav2vec2"), rows_per_second=0.01)


def test_a_name_goes_to_the_model(models: Path) -> None:
    maker = choose({"audio": f"hf:{models / 'ast'}"}, options={"rows_per_second": 5.0}, weights={})["audio"]
    assert maker().spec.extractor == "hf/ast"
