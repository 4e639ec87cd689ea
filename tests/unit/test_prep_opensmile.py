"""The extractor opensmile, through a stand-in with the interface that the library documents: it is not installed by us."""

import sys
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from real_media import write_video

from data_prep.cli import main
from data_prep.extractors import AUDIO
from data_prep.media.span import WHOLE, Span
from mmtrain.data.store import FeatureStore
from mmtrain.errors import ConfigError, DataError

HOP = 160  # samples at 16 kHz


class Frame:
    """What is used of a pandas DataFrame."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def to_numpy(self, dtype: type) -> np.ndarray:
        return self.values.astype(dtype)


class Smile:
    """25 columns every 10 ms: the first is the loudest sample as a 16-bit number, the others are the column's number."""

    num_features = 25

    def __init__(self, *, feature_set: str, feature_level: str) -> None:
        assert (feature_set, feature_level) == ("v02", "lld")

    def process_signal(self, signal: np.ndarray, sampling_rate: int) -> Frame:
        assert (signal.ndim, sampling_rate) == (1, 16_000)
        if len(signal) < 960:  # the library fills what is shorter with NaN
            return Frame(np.full((1, 25), np.nan))
        numbers = (signal * 32768).astype(np.int16)  # wraps round at 1.0
        peaks = [numbers[first : first + HOP].max() for first in range(0, len(numbers), HOP)]
        return Frame(np.column_stack([peaks, *(np.full(len(peaks), column) for column in range(1, 25))]))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("opensmile")
    module.Smile, module.__version__ = Smile, "2.9"
    module.FeatureSet = types.SimpleNamespace(eGeMAPSv02="v02")
    module.FeatureLevel = types.SimpleNamespace(LowLevelDescriptors="lld")
    monkeypatch.setitem(sys.modules, "opensmile", module)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("media") / "clip.mp4")


@pytest.mark.usefixtures("library")
def test_rows_are_means_over_100_ms_where_the_beep_is(clip: Path) -> None:
    extractor = AUDIO["opensmile"]()
    rows = extractor(clip, WHOLE)
    assert (rows.dtype, rows.shape[1], len(rows)) == (np.float32, 25, 41)
    assert np.flatnonzero(rows[:, 0] > 8000).tolist() == [30, 31, 32, 33]
    assert rows[5, 1:].tolist() == list(range(1, 25))
    part = extractor(clip, Span(Fraction(5, 2), Fraction(7, 2)))
    assert np.flatnonzero(part[:, 0] > 8000).tolist() == [5, 6, 7, 8]
    spec = extractor.spec
    assert (spec.extractor, spec.extractor_version, spec.rows_per_second) == ("opensmile/eGeMAPSv02", "1, opensmile 2.9", 10)


@pytest.mark.usefixtures("library")
def test_full_volume_does_not_wrap_round(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "loud.wav", np.ones(16_000), 16_000, subtype="FLOAT")
    assert AUDIO["opensmile"]()(tmp_path / "loud.wav", WHOLE)[:, 0].tolist() == [32767] * 10


@pytest.mark.usefixtures("library")
def test_what_is_too_short_has_no_descriptors(clip: Path) -> None:
    with pytest.raises(DataError, match=r"openSMILE has no descriptors for 0\.020 s of sound; it may be too short"):
        AUDIO["opensmile"]()(clip, Span(Fraction(3), Fraction(151, 50)))


@pytest.mark.usefixtures("library")
def test_a_store_of_them_says_what_made_it(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "clips" / "table.csv").write_text("id,split,video\na,train,a.mp4\n")
    arguments = ["extract", str(tmp_path / "clips" / "table.csv"), "--out", str(tmp_path / "store"), "--audio", "opensmile"]
    monkeypatch.setattr("sys.argv", ["data_prep", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    store = FeatureStore(tmp_path / "store")
    assert store.schema.modalities["audio"].extractor == "opensmile/eGeMAPSv02"
    assert store.schema.provenance["extractors"]["audio"]["version"] == "1, opensmile 2.9"


def test_without_the_library_it_says_licence_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(
        ConfigError,
        match=r"openSMILE, which mmtrain does not install: its licence .* no commercial .* pip install opensmile",
    ):
        AUDIO["opensmile"]()
