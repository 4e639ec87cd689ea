"""Texts and subtitles: cut to the clip, in the order of time, whatever the encoding; what is no text says why."""

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest

from data_prep.media.span import WHOLE, Span
from data_prep.texts import read_text
from mmtrain.errors import DataError

SRT = """1
00:00:04,000 --> 00:00:06,000
third <i>line</i>

2
00:00:00,500 --> 00:00:02,000
first

3
00:00:01,500 --> 00:00:03,000
- second
  voice
"""
VTT = "WEBVTT\n\nNOTE a remark\n\n00:01.000 --> 00:02.000 align:start\n<v Ann>salt &amp; <b>pepper</b>\n"


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_cues_are_sorted_by_time_and_overlap_as_they_do(tmp_path: Path) -> None:
    text = read_text(_file(tmp_path, "a.srt", SRT))
    assert text.text == "first - second voice third line"
    assert json.loads(text.cues) == [[0, 5, 0.5, 2.0], [6, 20, 1.5, 3.0], [21, 31, 4.0, 6.0]]
    assert [text.text[first:last] for first, last, _, _ in json.loads(text.cues)] == [
        "first",
        "- second voice",
        "third line",
    ]


@pytest.mark.parametrize(
    ("start", "end", "words", "times"),
    [
        ("2", "4", "- second voice", [[0.0, 1.0]]),  # the first ends, and the third begins, at its border
        ("1.75", "4.5", "first - second voice third line", [[0.0, 0.25], [0.0, 1.25], [2.25, 2.75]]),
        ("3.2", "3.8", "", []),
    ],
)
def test_cues_are_cut_to_the_clip(tmp_path: Path, start: str, end: str, words: str, times: list[list[float]]) -> None:
    text = read_text(_file(tmp_path, "a.srt", SRT), Span(Fraction(start), Fraction(end)))
    assert text.text == words
    assert [cue[2:] for cue in json.loads(text.cues)] == times


def test_webvtt(tmp_path: Path) -> None:
    assert read_text(_file(tmp_path, "a.vtt", VTT)).text == "salt & pepper"


def test_times_of_words_inside_a_cue_are_no_text(tmp_path: Path) -> None:
    """As in the captions that sites make of speech; what is written as &lt; was meant to be read."""
    cue = "salt<00:00:01.500><c> and</c><01:02.000> pepper &lt;00:00:02.000&gt;"
    text = read_text(_file(tmp_path, "a.vtt", f"WEBVTT\n\n00:01.000 --> 00:02.000\n{cue}\n"))
    assert text.text == "salt and pepper <00:00:02.000>"


def test_a_cue_without_length_belongs_to_the_clip_that_begins_with_it(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.srt", "1\n00:00:02,000 --> 00:00:02,000\nnow\n")
    clips = [Span(Fraction(start), Fraction(start + 2)) for start in (0, 2, 4)]
    assert [read_text(file, clip).text for clip in clips] == ["", "now", ""]


def test_flaws_are_told_of_the_clip_that_has_them(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.srt", SRT.replace("first", "\u00e9t\u00e9").encode("cp1252"))
    guessed = "not UTF-8, read as cp1252; save it as UTF-8 where that is wrong"
    order = "its cues are not in the order of their times (first at 0.5 s); they are read in that order"
    over = "1 of its {} cues begin before another ends (first at 1.5 s); all are kept"
    assert read_text(file).flaws == (guessed, order, over.format(3))
    assert read_text(file, Span(Fraction(1), Fraction(3))).flaws == (guessed, over.format(2))
    assert read_text(file, Span(Fraction(3), Fraction(9))).flaws == (guessed,)
    assert read_text(_file(tmp_path, "b.txt", " \n")).flaws == ("the file holds no text",)


def test_a_short_cue_inside_a_long_one_does_not_hide_the_next(tmp_path: Path) -> None:
    times = [("00", "09"), ("01", "02"), ("03", "04"), ("09", "10")]
    cues = "\n\n".join(f"1\n00:00:{start},000 --> 00:00:{end},000\nword" for start, end in times)
    (flaw,) = read_text(_file(tmp_path, "a.srt", cues)).flaws
    assert flaw.startswith("2 of its 4 cues begin before another ends (first at 1 s)")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"not a readable text \(it is no plain file\)"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("na\u00efve \u201cyes\u201d".encode(), ""),
        ("na\u00efve \u201cyes\u201d".encode("utf-8-sig"), ""),
        ("na\u00efve \u201cyes\u201d".encode("utf-16"), ""),
        ("na\u00efve \u201cyes\u201d".encode("cp1252"), "cp1252"),
    ],
)
def test_encodings(tmp_path: Path, content: bytes, encoding: str) -> None:
    text = read_text(_file(tmp_path, "a.txt", content))
    flaws = (f"not UTF-8, read as {encoding}; save it as UTF-8 where that is wrong",) if encoding else ()
    assert (text.text, text.flaws, text.cues) == ("na\u00efve \u201cyes\u201d", flaws, "")
    assert "read as latin-1" in read_text(_file(tmp_path, "b.txt", b"\x81\xe9")).flaws[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.srt", "", r"not readable subtitles \("),
        ("a.srt", "just words", r"not readable subtitles \("),
        ("a.vtt", "WEBVTT\n\n", "the subtitles hold no cue|not readable subtitles"),
        ("a.srt", SRT.replace("00:00:01,500", "00:00:09,500"), r"a cue runs from 9\.5 s to 3 s"),
        ("a.srt", SRT.replace("00:00:01,500", "00:00:xx,500"), r"behind 0\.5 s, the times in '.*-->"),
        ("a.txt", b"\xff\xfe\x00", "said to be utf-16, byte 2 is not"),
        ("a.txt", b"PK\0\0", "not a text"),
    ],
)
def test_what_is_no_text_says_why(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_text(_file(tmp_path, name, content), WHOLE)


def test_an_absent_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a readable text \(No such file or directory\)"):
        read_text(tmp_path / "absent.txt")
