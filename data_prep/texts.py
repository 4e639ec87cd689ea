"""The text of a sample from a text file, or from the subtitles that are on screen during its clip."""

import json
from dataclasses import dataclass
from fractions import Fraction
from html import unescape
from pathlib import Path

from data_prep.media.span import WHOLE, Span
from mmtrain.errors import DataError

SUBTITLE_SUFFIXES = frozenset({".srt", ".vtt", ".ass", ".ssa"})
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")  # the last reads anything
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Text:
    """What is said in a clip.

    `cues`: JSON [[first character, one behind the last, start, end], ...] with seconds from the clip's start; "" for plain
    text. `encoding`: of the file, where it is none of Unicode's.
    """

    text: str
    cues: str = ""
    encoding: str = ""


def read_text(file: Path, span: Span = WHOLE) -> Text:
    """A plain text as a whole, or the cues of subtitles that overlap the span, in order of their times.

    Errors: DataError where the file cannot be read, or a subtitle file holds no cue at all.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"not a readable text ({error.strerror})") from None
    text, encoding = _decode(content)
    if "\0" in text:
        raise DataError("not a text (it holds zero bytes)")
    if file.suffix.lower() not in SUBTITLE_SUFFIXES:
        return Text(text.strip(), encoding=encoding)
    return _in_span(_cues(text), span, encoding)


def _decode(content: bytes) -> tuple[str, str]:
    """The text, and the encoding that had to be guessed, if any."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            try:
                return content.decode(name), ""
            except UnicodeDecodeError as error:
                raise DataError(f"not a readable text (said to be {name}, byte {error.start} is not)") from None
    for name in _ENCODINGS:
        try:
            return content.decode(name), "" if name == _ENCODINGS[0] else name
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 reads any byte")


def _cues(content: str) -> list[tuple[Fraction, Fraction, str]]:
    """Start, end and words of each cue, sorted by time; a cue that ends before it starts is a DataError."""
    import pysubs2

    try:
        found = list(pysubs2.SSAFile.from_string(content))
    except Exception as error:  # a damaged file makes the library raise anything
        raise DataError(f"not readable subtitles ({error or type(error).__name__})") from None
    is_webvtt = content.startswith("WEBVTT")
    cues = []
    for cue in found:
        if cue.is_comment or cue.is_drawing:
            continue
        start, end = Fraction(cue.start, 1000), Fraction(cue.end, 1000)
        if end < start:
            raise DataError(f"not readable subtitles (a cue runs from {float(start):g} s to {float(end):g} s)")
        words = " ".join((unescape(cue.plaintext) if is_webvtt else cue.plaintext).split())
        if "-->" in words:  # the library takes a cue whose times it cannot read for words of the one before
            raise DataError(f"not readable subtitles (behind {float(start):g} s, the times in '{words[-60:]}')")
        if words:
            cues.append((start, end, words))
    if not cues:
        raise DataError("the subtitles hold no cue")
    return sorted(cues, key=lambda cue: cue[:2])


def _in_span(cues: list[tuple[Fraction, Fraction, str]], span: Span, encoding: str) -> Text:
    text, times = "", []
    for start, end, words in cues:
        if end <= span.start or (span.end is not None and start >= span.end):
            continue
        text += f" {words}" if text else words
        until = end if span.end is None else min(end, span.end)
        begin = max(start, span.start) - span.start
        times.append([len(text) - len(words), len(text), float(begin), float(until - span.start)])
    return Text(text, json.dumps(times), encoding)
