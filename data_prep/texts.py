"""The text of a sample from a text file, or from the subtitles that are on screen during its clip."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import unescape
from itertools import accumulate, pairwise
from pathlib import Path

from data_prep.media.span import WHOLE, Span
from data_prep.plain import is_plain
from mmtrain.errors import DataError

SUBTITLE_SUFFIXES = frozenset({".srt", ".vtt", ".ass", ".ssa"})
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")  # the last reads anything
_WORD_TIMES = re.compile(r"<(?:\d+:)?\d\d:\d\d\.\d{3}>")  # inside of a cue of WebVTT: when its next words are said
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

Cue = tuple[Fraction, Fraction, str]


@dataclass(frozen=True)
class Text:
    """What is said in a clip.

    `cues`: JSON [[first character, one behind the last, start, end], ...] with seconds from the clip's start; "" for plain
    text. `flaws`: what was wrong, though it could be read.
    """

    text: str
    cues: str = ""
    flaws: tuple[str, ...] = ()


def read_text(file: Path, span: Span = WHOLE) -> Text:
    """A plain text as a whole, or the cues of subtitles that overlap the span, in order of their times.

    Errors: DataError where the file cannot be read, or a subtitle file holds no cue at all.
    """
    try:
        if not is_plain(file.stat()):
            raise DataError("not a readable text (it is no plain file)")
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"not a readable text ({error.strerror})") from None
    text, encoding = _decode(content)
    if "\0" in text:
        raise DataError("not a text (it holds zero bytes)")
    guessed = (f"not UTF-8, read as {encoding}; save it as UTF-8 where that is wrong",) if encoding else ()
    if file.suffix.lower() not in SUBTITLE_SUFFIXES:
        empty = () if text.strip() else ("the file holds no text",)
        return Text(text.strip(), flaws=(*guessed, *empty))
    cues = [cue for cue in _cues(text) if _is_inside(cue, span)]
    words, times = _join(sorted(cues, key=lambda cue: cue[:2]), span)
    return Text(words, json.dumps(times), (*guessed, *_disorder(cues)))


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


def _cues(content: str) -> list[Cue]:
    """Start, end and words of each cue, as they stand in the file; one that ends before it starts is a DataError."""
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
        plain = unescape(_WORD_TIMES.sub("", cue.plaintext)) if is_webvtt else cue.plaintext
        words = " ".join(plain.split())
        if "-->" in words:  # the library takes a cue whose times it cannot read for words of the one before
            raise DataError(f"not readable subtitles (behind {float(start):g} s, the times in '{words[-60:]}')")
        if words:
            cues.append((start, end, words))
    if not cues:
        raise DataError("the subtitles hold no cue")
    return cues


def _is_inside(cue: Cue, span: Span) -> bool:
    """Whether it is on screen during the clip; one without length belongs to the clip that begins with it."""
    start, end, _ = cue
    return (end > span.start or start >= span.start) and (span.end is None or start < span.end)


def _join(cues: Sequence[Cue], span: Span) -> tuple[str, list[list[float]]]:
    """One text, and the place and time of each cue in it."""
    text, times = "", []
    for start, end, words in cues:
        text += f" {words}" if text else words
        until = end if span.end is None else min(end, span.end)
        begin = max(start, span.start) - span.start
        times.append([len(text) - len(words), len(text), float(begin), float(until - span.start)])
    return text, times


def _disorder(cues: Sequence[Cue]) -> Iterator[str]:
    late = next((later for earlier, later in pairwise(cues) if later[0] < earlier[0]), None)
    if late is not None:
        yield f"its cues are not in the order of their times (first at {float(late[0]):g} s); they are read in that order"
    ordered = sorted(cues, key=lambda cue: cue[:2])
    ends = accumulate((end for _, end, _ in ordered), max)
    over = [start for (start, _, _), until in zip(ordered[1:], ends, strict=False) if start < until]
    if over:
        yield f"{len(over)} of its {len(cues)} cues begin before another ends (first at {float(over[0]):g} s); all are kept"
