"""Rows, sound and cues are at their times whatever the rates and the clip: against loops over exact times."""

import json
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_media import SIDE, write_video

from data_prep.extractors import AUDIO
from data_prep.media.frames import frames_at
from data_prep.media.sound import read_sound
from data_prep.media.span import WHOLE, Span
from data_prep.texts import read_text

soundfile = pytest.importorskip("soundfile")

MILLISECOND = Fraction(1, 1000)


@given(
    steps=st.lists(st.integers(20, 400), min_size=4, max_size=14),
    rate=st.sampled_from(["1", "2", "7.5", "10", "24", "29.97", "100"]),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    form=st.sampled_from(["mp4", "mkv"]),
)
@settings(max_examples=25, deadline=None)
def test_pictures_are_those_on_screen(steps: list[int], rate: str, ends: list[float], form: str) -> None:
    shown = [0, *np.cumsum(steps).tolist()]  # milliseconds
    start, end = (round(part * (shown[-1] - 2)) for part in ends)
    part = Span(start * MILLISECOND, (end + 2) * MILLISECOND)
    levels = [30 + 40 * (number % 6) for number in range(len(shown))]
    pictures = [np.full((SIDE, SIDE, 3), level, np.uint8) for level in levels]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"clip.{form}"
        write_video(file, times=[time / 1000 for time in shown], pictures=pictures, rate=None, group=1)
        found = [float(picture.mean()) for picture in frames_at(file, float(rate), part)]
    expected = []
    due = part.start
    while due < part.end:
        expected.append(levels[max(number for number, time in enumerate(shown) if time * MILLISECOND <= due + MILLISECOND)])
        due = part.start + len(expected) / Fraction(rate)
    assert found == pytest.approx(expected, abs=12)


@given(
    native=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000, 96_000]),
    place=st.floats(0.2, 2.8),
    before=st.floats(0.05, 0.19),
    channels=st.sampled_from([1, 2]),
    form=st.sampled_from([("wav", "PCM_U8"), ("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24"), ("aiff", "PCM_16")]),
)
@settings(max_examples=20, deadline=None)
def test_a_click_is_where_it_is(native: int, place: float, before: float, channels: int, form: tuple[str, str]) -> None:
    sample = round(place * native)
    wave = np.zeros((3 * native, channels), np.float32)
    wave[sample] = 0.9
    start = Fraction(str(round(place - before, 3)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"click.{form[0]}"
        soundfile.write(file, wave, native, subtype=form[1])
        clip = read_sound(file, 16_000, Span(start, start + Fraction(1, 5)))
        whole = read_sound(file, 16_000)
    assert (len(clip), len(whole)) == (3_200, 48_000)
    assert abs(np.abs(clip).argmax() - (sample / native - start) * 16_000) < 2
    assert abs(np.abs(whole).argmax() - sample / native * 16_000) < 2


@given(
    cues=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 3000)), min_size=1, max_size=12),
    borders=st.lists(st.integers(1, 11_999), min_size=1, max_size=5, unique=True).map(sorted),
)
@settings(max_examples=40, deadline=None)
def test_each_cue_is_in_the_clips_that_it_is_spoken_in(cues: list[tuple[int, int]], borders: list[int]) -> None:
    def clock(time: int) -> str:
        return f"00:00:{time // 1000:02d},{time % 1000:03d}"

    content = "\n\n".join(
        f"{number}\n{clock(start)} --> {clock(start + length)}\nw{number}" for number, (start, length) in enumerate(cues)
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.srt"
        file.write_text(content)
        for begin, end in zip([0, *borders], [*borders, 12_001], strict=True):
            text = read_text(file, Span(begin * MILLISECOND, end * MILLISECOND))
            expected = {
                f"w{number}": (max(start, begin) - begin, min(start + length, end) - begin)
                for number, (start, length) in enumerate(cues)
                if any(begin <= time < end for time in range(start, start + max(length, 1)))
            }
            found = {text.text[first:last]: times for first, last, *times in json.loads(text.cues)}
            assert {word: tuple(round(time * 1000) for time in times) for word, times in found.items()} == expected
            assert text.text == " ".join(sorted(expected, key=lambda word: _times(cues, word)))


def _times(cues: list[tuple[int, int]], word: str) -> tuple[int, int, int]:
    number = int(word[1:])
    return cues[number][0], sum(cues[number]), number


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng, which speaks, is not installed")
def test_speech_is_heard_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    subprocess.run(["espeak-ng", "-w", "said.wav", "a fish swims by"], cwd=tmp_path, check=True)
    said, rate = soundfile.read(tmp_path / "said.wav", dtype="float32")
    audible = np.flatnonzero(np.abs(said) > 0.02)
    said = said[audible[0] : audible[-1]]
    soundfile.write(tmp_path / "clip.flac", np.concatenate([np.zeros(rate), said, np.zeros(rate)]), rate)
    loud = np.flatnonzero(AUDIO["logmel"]()(tmp_path / "clip.flac", WHOLE).max(axis=1) > -1)
    assert loud[0] == pytest.approx(10, abs=1)
    assert loud[-1] == pytest.approx(10 + len(said) / rate * 10 - 1, abs=2)
    assert len(loud) > 0.6 * (loud[-1] - loud[0])
