"""Flash and beep at 3.0 s in their rows of both modalities, whatever clock a file has; and pictures the right way up."""

import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from real_media import BRIGHT, write_video

from data_prep.extractors import AUDIO, VIDEO
from data_prep.media.container import Source
from data_prep.media.frames import frames_at
from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span

NTSC = Fraction(1001, 30_000)
JUMPS = [*np.arange(0, 2.5, 0.04), 2.5, 2.9, 3.0, 3.21, 3.25, 3.4, 3.41, *np.arange(3.5, 4, 0.1)]  # a phone's


def span(start: str, end: str | None) -> Span:
    return Span(Fraction(start), None if end is None else Fraction(end))


def bright_rows(file: Path, part: Span) -> list[int]:
    return [row for row, picture in enumerate(frames_at(file, 10, part)) if picture.mean() > BRIGHT / 2]


def loud_rows(file: Path, part: Span) -> list[int]:
    """Of log-mel rows, the k-th over frames centered on k/10 to k/10 + 0.09 s."""
    return np.flatnonzero(AUDIO["logmel"]()(file, part).max(axis=1) > -1).tolist()


@pytest.mark.parametrize("form", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("clock", "times", "flash"),
    [
        (Fraction(1, 25), [k / 25 for k in range(100)], [30, 31, 32, 33]),  # pictures 75 (3.00 s) to 84 (3.36 s)
        # pictures 90 (3.003 s, so that at 3.0 s the one before is on screen) to 101 (3.370 s, until 3.403 s)
        (NTSC, [float(k * NTSC) for k in range(120)], [31, 32, 33, 34]),
        (Fraction(1, 1000), JUMPS, [30, 31, 32, 33]),
    ],
    ids=["25", "29.97", "variable"],
)
def test_flash_and_beep_at_any_frame_rate(
    tmp_path: Path, form: str, clock: Fraction, times: Sequence[float], flash: list[int]
) -> None:
    file = write_video(tmp_path / f"clip.{form}", clock=clock, times=times)
    assert (bright_rows(file, WHOLE), loud_rows(file, WHOLE)) == (flash, [30, 31, 32, 33])
    part = span("2.5", "3.5")
    assert (bright_rows(file, part), loud_rows(file, part)) == ([row - 25 for row in flash], [5, 6, 7, 8])


@pytest.mark.parametrize("form", ["mov", "mkv", "ts"])
@pytest.mark.parametrize("origin", [0.48, 5.0])
def test_flash_and_beep_in_a_file_whose_clock_begins_late(tmp_path: Path, form: str, origin: float) -> None:
    """Seconds are those since the file began; in a transport stream that is 64 ms before, with the coder's first sound."""
    file = write_video(tmp_path / f"clip.{form}", origin=origin)
    late = form == "ts"
    for part, rows in ((WHOLE, [30, 31, 32, 33]), (span("2.5", "3.5"), [5, 6, 7, 8])):
        expected = [row + late for row in rows]
        assert (bright_rows(file, part), loud_rows(file, part)) == (expected, expected)


@pytest.mark.parametrize("form", ["ts", "mp4", "mkv"])
def test_a_seek_that_lands_where_nothing_can_be_decoded_begins_anew(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture in all that can be decoded by itself; every other one is told by those before it."""
    file = write_video(tmp_path / f"clip.{form}", group=1000, rate=None)
    passes = []
    decoded = Source._decoded
    monkeypatch.setattr(Source, "_decoded", lambda source: passes.append(1) or decoded(source))
    assert bright_rows(file, span("2.5", "3.5")) == [5, 6, 7, 8]
    assert len(passes) == 2


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg, which knows these forms, is not installed")
@pytest.mark.parametrize(
    ("form", "coders"),
    [
        ("ts", ("libx264", "aac")),  # a seek to its beginning lands behind the only picture that can be decoded by itself
        ("mpg", ("mpeg2video", "mp2")),  # a seek lands within a packet of sound
        ("wmv", ("wmv2", "wmav2")),  # the last samples of sound have no time stamp
        ("webm", ("libvpx", "libopus")),
        ("avi", ("mpeg4", "libmp3lame")),
        ("flv", ("flv", "aac")),
    ],
)
def test_flash_and_beep_in_every_form(tmp_path: Path, form: str, coders: tuple[str, str]) -> None:
    """A coder may add a frame of sound, and its form may begin with that."""
    source = write_video(tmp_path / "source.mkv", clock=Fraction(1, 25), times=[k / 25 for k in range(100)], rate=44_100)
    file = tmp_path / f"clip.{form}"
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", source, "-c:v", coders[0], "-c:a", coders[1], file]
    subprocess.run(command, check=True)
    for part, first in ((WHOLE, 30), (span("2.5", "3.5"), 5)):
        for rows in (bright_rows(file, part), loud_rows(file, part)):
            assert rows[0] == pytest.approx(first, abs=1)
            assert 4 <= len(rows) <= 5
    assert len(read_sound(file, 16_000, span("2.5", "3.5"))) == 16_000


class Careless:
    """A container whose seeks land two seconds behind what they were asked for, or behind the end."""

    start_time, format = 0, SimpleNamespace(name="matroska")

    def __init__(self) -> None:
        self._from = 0.0

    def seek(self, microseconds: int) -> None:
        self._from = microseconds / 1_000_000 + 2 if microseconds else 0.0

    def decode(self, stream: SimpleNamespace) -> Iterator[SimpleNamespace]:
        for second in range(6):
            if second >= self._from:
                yield SimpleNamespace(pts=second, time_base=stream.time_base, duration=1, key_frame=True)


class Torn(Careless):
    """A container whose seeks land within a packet."""

    def decode(self, stream: SimpleNamespace) -> Iterator[SimpleNamespace]:
        if self._from:
            raise av.InvalidDataError(1094995529, "Invalid data found when processing input")
        yield from super().decode(stream)


@pytest.mark.parametrize("container", [Careless, Torn])
@pytest.mark.parametrize("start", [2, 5])
def test_a_seek_that_lands_wrongly_begins_anew(start: int, container: type[Careless]) -> None:
    stream = SimpleNamespace(type="video", duration=None, start_time=0, time_base=Fraction(1), average_rate=1)
    times = [int(time) for time, _ in Source(lambda: (container(), stream)).frames(Fraction(start))]
    assert times == [0, 1, 2, 3, 4, 5]


def rotated(file: Path, matrix: Sequence[int]) -> Path:
    """The file with a, b, c, d in its track's header: shown at a x + c y, b x + d y, y downwards (ISO 14496-12)."""
    content = bytearray(file.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = file.with_name("turned.mp4")
    turned.write_bytes(content)
    return turned


@pytest.mark.parametrize(
    ("matrix", "shape", "side"),
    [
        ((1, 0, 0, 1), (32, 48), "left"),
        ((0, 1, -1, 0), (48, 32), "top"),  # a quarter clockwise: (x, y) -> (-y, x)
        ((-1, 0, 0, -1), (32, 48), "right"),
        ((0, -1, 1, 0), (48, 32), "bottom"),
    ],
)
def test_a_phone_held_upright_gives_upright_pictures(
    tmp_path: Path, matrix: tuple[int, ...], shape: tuple[int, int], side: str
) -> None:
    """The sensor's pictures are bright on their left; the matrix says how they are to be shown."""
    picture = np.full((32, 48, 3), 20, np.uint8)
    picture[:, :24] = 230
    file = write_video(tmp_path / "clip.mp4", times=[k / 10 for k in range(5)], rate=None, pictures=[picture] * 5)
    shown = next(frames_at(rotated(file, matrix), 5))
    assert shown.shape == (*shape, 3)
    height, width = shape
    halves = {
        "left": shown[:, : width // 2],
        "right": shown[:, width // 2 :],
        "top": shown[: height // 2],
        "bottom": shown[height // 2 :],
    }
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[side]
    assert (halves[side].mean() > 200, halves[opposite].mean() < 50) == (True, True)
    square = VIDEO["pixels"](size=4, frames_per_second=5.0)(rotated(file, matrix), WHOLE)[0].astype(float)  # [3, 4, 4]
    means = {"left": square[..., :2], "right": square[..., 2:], "top": square[:, :2], "bottom": square[:, 2:]}
    assert max(means, key=lambda name: means[name].mean()) == side
