"""Opening a media file by PyAV, and the frames of one of its tracks from a time on; whatever is wrong is a DataError."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from data_prep.media.span import Span
from mmtrain.errors import DataError

Track = Literal["audio", "video"]

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    )
)
AUDIO_SUFFIXES = frozenset(
    (
        *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a"),
        *(".mka", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav", ".wma"),
    )
)

# no playlist: a file never makes another one, or a network address, be read
_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,apng,asf,au,avi,caf,eac3,flac,flv,gif,h264,hevc,ivf,m4v,matroska,webm,mov,mp4,m4a,3gp,3g2,"
    "mj2,mp3,mpeg,mpegts,mpegvideo,mxf,nut,ogg,opus,rm,rf64,tta,w64,wav,wv"
)
_WITHOUT_INDEX = {"aac", "ac3", "eac3", "mp3", "flac", "h264", "hevc"}  # a seek in them lands where nobody knows
_PREROLL = Fraction(1)  # seconds that a decoder runs in before a clip begins
_SLACK = Fraction(1)  # seconds that a file may end before what was said of it, or its time stamps may go back
_LONGEST_GAP = 3600  # seconds without a frame: beyond, the time stamps are broken, and filling the gap takes all memory


class Source:
    """One track of an open file; its times are seconds since the file began, whichever track begins first.

    `open_track` gives the container and the track; it is asked again where only the beginning can be decoded.
    """

    def __init__(self, open_track: Callable[[], tuple[Any, Any]]) -> None:
        self._open_track = open_track
        self._container, self.stream = container, stream = open_track()
        self._origin = Fraction(container.start_time or 0, 1_000_000)
        self._has_index = not _WITHOUT_INDEX & set(container.format.name.split(","))
        declared = stream.duration if "mov" in container.format.name.split(",") else None  # elsewhere an estimate
        begin = Fraction(stream.start_time or 0) * (stream.time_base or 0) - self._origin
        self.declared_end = None if declared is None else begin + declared * stream.time_base
        self.reached = Fraction(0)  # end of the last frame given

    def frames(self, start: Fraction) -> Iterator[tuple[Fraction, Any]]:
        """Time and frame, in the order of presentation, from the frame at `start` or one before it."""
        if start > _PREROLL and self._has_index:
            place = int((start - _PREROLL + self._origin) * 1_000_000)
            self._container.seek(place)
            if self._is_whole_from(start):
                self._container.seek(place)
            else:  # not by a seek, which in a transport stream lands behind the first picture
                self._container, self.stream = self._open_track()
        before: Fraction | None = None
        for time, frame in self._decoded():
            if time - (start if before is None else before) > _LONGEST_GAP or (
                before is not None and time < before - _SLACK
            ):
                raise DataError(
                    f"its {self.stream.type} jumps from {float(before or start):.2f} s to {float(time):.2f} s, as where "
                    "recordings were joined by their bytes; write the file anew by a tool that mends its time stamps"
                )
            before = time if before is None else max(before, time)
            yield time, frame

    def _is_whole_from(self, start: Fraction) -> bool:
        """Whether decoding from here gives what is there at a time: it begins before, and with a picture of its own.

        Some decoders make pictures also of those that are told by others before them, which they have not seen.
        """
        import av

        try:
            for time, frame in self._decoded():
                return time <= start and (self.stream.type == "audio" or bool(frame.key_frame))
        except (DataError, av.FFmpegError):  # half a packet, in forms that are sought by their bytes
            return False
        return False

    def _decoded(self) -> Iterator[tuple[Fraction, Any]]:
        follows: Fraction | None = None
        for frame in self._container.decode(self.stream):
            if frame.pts is not None:
                time = frame.pts * frame.time_base - self._origin
            elif follows is not None and self.stream.type == "audio":  # what a decoder had left at its end
                time = follows
            else:
                raise DataError("its frames have no time stamps; put it into a container that has them, such as mp4")
            follows = time + self._length(frame)
            self.reached = max(self.reached, follows)
            yield time, frame

    def _length(self, frame: Any) -> Fraction:
        if self.stream.type == "audio":
            return Fraction(frame.samples, frame.sample_rate)
        if frame.duration:
            return Fraction(frame.duration * frame.time_base)
        return 1 / Fraction(self.stream.average_rate) if self.stream.average_rate else Fraction(0)

    def check_end(self, span: Span) -> None:
        """To be called behind the last frame. Errors: DataError where the track ends long before the span or its own end."""
        if span.end is not None and self.reached + _SLACK < span.end:
            raise DataError(f"its {self.stream.type} ends at {float(self.reached):.2f} s, before the clip ({span}) does")
        if span.end is None and self.declared_end is not None and self.reached + _SLACK < self.declared_end:
            raise DataError(
                f"damaged: its {self.stream.type} ends at {float(self.reached):.2f} s, its header says "
                f"{float(self.declared_end):.2f} s"
            )


@contextmanager
def opened(file: Path, track: Track) -> Iterator[Source]:
    """The file's first track of a kind. Errors: DataError where it cannot be read, now or while frames are taken."""
    import av

    kind = "sound file" if track == "audio" else "video"
    try:
        if file.stat().st_size == 0:
            raise DataError(f"not a readable {kind} (the file is empty)")
        with ExitStack() as opened_files:
            yield Source(lambda: _find(opened_files.enter_context(_open(file)), track))
    except DataError:
        raise
    except (av.FFmpegError, OSError, ValueError, MemoryError, RuntimeError) as error:
        raise DataError(f"not a readable {kind} ({getattr(error, 'strerror', None) or error})") from None


def _open(file: Path) -> Any:
    import av

    return av.open(str(file), options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"})


def _find(container: Any, track: Track) -> tuple[Any, Any]:
    """The container and its first track of a kind. Errors: DataError where it has none."""
    found = container.streams.audio if track == "audio" else container.streams.video
    streams = [stream for stream in found if not stream.disposition & stream.disposition.attached_pic]
    if not streams:
        raise DataError(_without(track))
    return container, streams[0]


def duration(file: Path) -> Fraction:
    """Seconds of the file's longest track. Errors: DataError where it cannot be read, or its header does not say."""
    import av

    try:
        with _open(file) as container:
            if not container.duration:
                raise DataError("its header does not say how long it is")
            return Fraction(container.duration, 1_000_000)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"not a readable media file ({getattr(error, 'strerror', None) or error})") from None


def _without(track: Track) -> str:
    if track == "video":
        return "the file has no video track"
    return "the file has no audio track; where a clip has no sound, leave its cell in a column 'audio' empty"
