"""Video and sound read by their time stamps: the flash and the beep are where they are, whatever the file's form."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from real_media import BRIGHT, beep, write_video

from data_prep.extractors import AUDIO, VIDEO
from data_prep.media.frames import frames_at
from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span
from mmtrain.errors import DataError

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("media") / "clip.mp4")


def bright(file: Path, rate: float, span: Span = WHOLE) -> tuple[list[int], int]:
    """Rows that show the flash, and how many rows there are."""
    levels = [frame.mean() for frame in frames_at(file, rate, span)]
    return [row for row, level in enumerate(levels) if level > BRIGHT / 2], len(levels)


def span(start: str, end: str | None) -> Span:
    return Span(Fraction(start), None if end is None else Fraction(end))


@pytest.mark.parametrize(
    ("rate", "part", "rows"),
    [
        (5, WHOLE, ([15, 16], 20)),  # 3.0 and 3.2 s
        (10, WHOLE, ([30, 31, 32, 33], 40)),
        (40, WHOLE, (list(range(120, 136)), 160)),  # each picture stands for four rows
        (5, span("2.5", "3.5"), ([3, 4], 5)),  # rows at 2.5, 2.7, 2.9, 3.1 and 3.3 s
        (5, span("2.5", None), ([3, 4], 8)),
        (0.5, WHOLE, ([], 2)),
    ],
)
def test_the_flash_is_in_its_row(clip: Path, rate: float, part: Span, rows: tuple[list[int], int]) -> None:
    assert bright(clip, rate, part) == rows


def test_a_variable_frame_rate_is_told_by_its_times(tmp_path: Path) -> None:
    times = [0.0, 0.033, 0.9, 1.7, 2.99, 3.0, 3.39, 3.4, 3.9]
    file = write_video(tmp_path / "phone.mp4", times=times, rate=None)
    assert bright(file, 5, span("0", "3.9")) == ([15, 16], 20)
    assert bright(file, 5, span("2.95", "3.95")) == ([1, 2], 5)  # 2.95 shows the picture of 1.7


@pytest.mark.parametrize("part", [WHOLE, span("2.5", "3.5")])
def test_matroska_and_mp4_say_the_same(tmp_path: Path, clip: Path, part: Span) -> None:
    file = write_video(tmp_path / "clip.mkv")
    assert bright(file, 10, part) == bright(clip, 10, part)
    assert abs(len(read_sound(file, 16_000, part)) - len(read_sound(clip, 16_000, part))) < 1100  # an AAC frame more


def test_a_container_whose_clock_begins_late(tmp_path: Path) -> None:
    """The flash is 1.5 s behind the first picture, whatever the clock says then."""
    file = write_video(tmp_path / "late.mkv", times=[1.5 + k / 10 for k in range(25)], rate=None)
    assert bright(file, 10) == ([15, 16, 17, 18], 25)
    assert bright(file, 10, span("1.2", "2.2")) == ([3, 4, 5, 6], 10)


def test_a_container_without_an_index(tmp_path: Path, clip: Path) -> None:
    silent, file = write_video(tmp_path / "silent.ts", rate=None), write_video(tmp_path / "clip.ts")
    for part in (WHOLE, span("2.5", "3.5")):
        assert bright(silent, 10, part) == bright(clip, 10, part)
        first = np.argmax(np.abs(read_sound(file, 16_000, part)) > 0.2) / 16_000
        assert first == pytest.approx(3.0 - float(part.start), abs=0.15)  # the encoder's delay is not said in this form


def test_rounded_time_stamps_make_no_gaps(tmp_path: Path) -> None:
    """Matroska says milliseconds, a frame of 1024 samples at 44.1 kHz lasts 23.22."""
    sound = read_sound(write_video(tmp_path / "clip.mkv", rate=44_100), 44_100)
    assert np.abs(sound - (beep(44_100, 4.0) * 32_000).astype(np.int16) / 32_768).max() < 1e-6


@pytest.mark.parametrize(("part", "first"), [(WHOLE, 3.0), (span("2.5", "3.5"), 0.5), (span("3", "3.2"), 0.0)])
def test_the_beep_is_in_its_place(clip: Path, part: Span, first: float) -> None:
    sound = read_sound(clip, 16_000, part)
    assert np.argmax(np.abs(sound) > 0.2) / 16_000 == pytest.approx(first, abs=0.01)
    if part.end is not None:
        assert len(sound) == (part.end - part.start) * 16_000


def test_sound_that_begins_later_than_the_pictures_is_behind_silence(tmp_path: Path) -> None:
    sound = read_sound(write_video(tmp_path / "late.mkv", delay=0.5), 16_000)
    assert np.argmax(np.abs(sound) > 0.2) / 16_000 == pytest.approx(3.5, abs=0.01)


def test_time_stamps_that_jump_are_named_and_take_no_memory(tmp_path: Path) -> None:
    """As where two recordings were joined by their bytes; a clip before the jump is read."""
    gap = 1_000_000.0  # seconds: 64 GB of silence at 16 kHz
    loud = write_video(tmp_path / "loud.mkv", delays=[*[0.0] * 40, gap])
    seen = write_video(tmp_path / "seen.mkv", times=[0, 1, 2, 5000], rate=None, clock=Fraction(1, 10))
    match = r"jumps from \d\.\d\d s to 100000\d\.\d\d s, as where recordings were joined by their bytes"
    with pytest.raises(DataError, match=f"^its audio {match}"):
        read_sound(loud, 16_000)
    with pytest.raises(DataError, match=r"^its video jumps from 2\.\d\d s to 5000\.00 s, as where"):
        list(frames_at(seen, 1))
    assert len(read_sound(loud, 16_000, span("0", "2.5"))) == 40_000
    assert bright(seen, 1, span("0", "1.5")) == ([], 2)


def test_time_stamps_that_begin_anew_are_named(tmp_path: Path) -> None:
    """What stands behind them would be left out else."""
    once = write_video(tmp_path / "once.ts").read_bytes()
    (tmp_path / "twice.ts").write_bytes(once * 2)
    with pytest.raises(DataError, match=r"^its audio jumps from [34]\.\d\d s to 0\.\d\d s, as where"):
        read_sound(tmp_path / "twice.ts", 16_000)
    with pytest.raises(DataError, match=r"^its video jumps from 3\.\d\d s to 0\.\d\d s, as where"):
        list(frames_at(tmp_path / "twice.ts", 10))
    assert len(read_sound(tmp_path / "twice.ts", 16_000, span("1", "2"))) == 16_000


@pytest.mark.parametrize("start", ["2.9", "3.1", "3.25"])
def test_a_clip_sounds_as_the_same_part_of_the_whole(clip: Path, start: str) -> None:
    """Coders of sound need what stands before to decode what is asked for."""
    part = read_sound(clip, 16_000, span(start, "3.5"))
    first = round(float(start) * 16_000)
    assert np.abs(part - read_sound(clip, 16_000)[first : first + len(part)]).max() < 1e-4


def test_a_clip_that_ends_in_a_gap_is_silent_to_its_end(tmp_path: Path) -> None:
    file = write_video(tmp_path / "gap.mkv", delays=[*[0.0] * 50, 1000.0])
    sound = read_sound(file, 16_000, span("2.5", "100"))
    assert len(sound) == 97.5 * 16_000
    assert 0.5 * 16_000 < np.flatnonzero(sound).max() < 0.7 * 16_000  # 50 x 1024 samples end at 3.2 s


def test_flash_and_beep_are_in_the_rows_of_their_time(clip: Path) -> None:
    """Both modalities have a row every 100 ms; logmel's k-th is over the frames centered on k/10 to k/10 + 0.09 s."""
    logmel, pixels = AUDIO["logmel"](), VIDEO["pixels"](size=2, frames_per_second=10.0)
    loud = logmel(clip, WHOLE).max(axis=1)
    assert [row for row, level in enumerate(loud) if level > -1] == [30, 31, 32, 33]
    assert [row for row, picture in enumerate(pixels(clip, WHOLE)) if picture.mean() > BRIGHT / 2] == [30, 31, 32, 33]


@pytest.mark.parametrize(
    ("rate", "subtype", "channels"),
    [(8_000, "PCM_U8", 1), (96_000, "PCM_24", 2), (44_100, "FLOAT", 6), (16_000, "PCM_16", 1)],
)
def test_any_sound_becomes_one_signal(tmp_path: Path, rate: int, subtype: str, channels: int) -> None:
    wave = np.zeros((rate * 4, channels))
    wave[:, 0] = beep(rate, 4.0) * 1.5
    soundfile.write(tmp_path / "tone.wav", wave, rate, subtype=subtype)
    sound = read_sound(tmp_path / "tone.wav", 16_000)
    assert len(sound) == 64_000
    middle = sound[round(3.1 * 16_000) : round(3.3 * 16_000)]
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.75 / np.sqrt(2) / channels, rel=0.03)  # the mean of all channels
    assert np.abs(sound[: 2 * 16_000]).max() < 0.01
    part = read_sound(tmp_path / "tone.wav", 16_000, span("2.5", "3.5"))
    assert np.abs(part[800:-800] - sound[40_800:55_200]).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", r"\(the file is empty\)"),
        ("noise.mp4", b"noise" * 200, r"\(Invalid data"),
        ("absent.mp4", None, r"\(No such file"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nclip.mp4\n#EXT-X-ENDLIST\n", r"\(Invalid"),
        ("concat.mp4", b"ffconcat version 1.0\nfile clip.mp4\n", r"\(Invalid"),
    ],
)
def test_a_file_that_is_no_medium_says_why(
    tmp_path: Path, clip: Path, name: str, content: bytes | None, reason: str
) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"not a readable video {reason}"):
        list(frames_at(tmp_path / name, 5))
    with pytest.raises(DataError, match=f"not a readable sound file {reason}"):
        read_sound(tmp_path / name, 16_000)


def test_tracks_and_times_that_are_not_there(tmp_path: Path, clip: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", rate=None, seconds=0.5)
    with pytest.raises(DataError, match="no audio track; where a clip has no sound, leave its cell in a column"):
        read_sound(silent, 16_000)
    soundfile.write(tmp_path / "tone.wav", beep(8000, 4.0), 8000)
    with pytest.raises(DataError, match="the file has no video track"):
        list(frames_at(tmp_path / "tone.wav", 5))
    with pytest.raises(DataError, match=r"its video ends at 4\.00 s, before the clip \(3 s to 9 s\) does"):
        list(frames_at(clip, 5, span("3", "9")))
    with pytest.raises(DataError, match=r"its audio ends at 4\.00 s, before the clip \(3 s to 9 s\) does"):
        read_sound(tmp_path / "tone.wav", 16_000, span("3", "9"))
    with pytest.raises(DataError, match=r"no picture from 4\.5 s to the end; it ends at 4\.00 s"):
        list(frames_at(clip, 5, span("4.5", None)))
    with pytest.raises(DataError, match=r"no sound from 4\.5 s to the end; it ends at 4\.00 s"):
        read_sound(tmp_path / "tone.wav", 16_000, span("4.5", None))


def test_a_video_that_was_cut_short_is_damaged(tmp_path: Path, clip: Path) -> None:
    content = bytearray(clip.read_bytes())
    begin = content.index(b"mdat")
    end = content.index(b"moov") - 4
    content[begin + (end - begin) // 8 : end] = bytes(end - begin - (end - begin) // 8)  # the index is whole
    (tmp_path / "cut.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|Invalid data"):
        list(frames_at(tmp_path / "cut.mp4", 5))
    with pytest.raises(DataError, match=r"damaged|Invalid data"):
        read_sound(tmp_path / "cut.mp4", 16_000)
