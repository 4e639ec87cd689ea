"""Small media files made on the spot: a dark video with a silent track, whose flash and beep come at 3.0 s."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIDE = 32  # pixels
FLASH = (3.0, 3.4)  # seconds from which and up to which it is bright and loud
DARK, BRIGHT = 20, 230


def is_event(seconds: float) -> bool:
    return FLASH[0] <= seconds < FLASH[1]


def write_video(
    file: Path, *, times: Sequence[float] | None = None, rate: int | None = 16_000, seconds: float = 4.0, delay: float = 0.0
) -> Path:
    """MPEG-4 pictures at `times` (10 a second) and a tone of 1 kHz, later by `delay`, at `rate` Hz; None: no audio track."""
    times = [k / 10 for k in range(round(seconds * 10))] if times is None else times
    with av.open(str(file), "w") as container:
        video = container.add_stream("mpeg4", rate=1000)
        video.width = video.height = SIDE
        video.pix_fmt, video.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        codec = "pcm_s16le" if file.suffix == ".mkv" else "aac"
        sound = None if rate is None else container.add_stream(codec, rate=rate, layout="mono")
        for time in times:
            level = BRIGHT if is_event(time) else DARK
            frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(_lasting(video.encode(frame)))
        container.mux(_lasting(video.encode()))
        if sound is not None and rate is not None:
            wave = (beep(rate, seconds) * 32_000).astype(np.int16)
            for first in range(0, len(wave), 1024):
                chunk = av.AudioFrame.from_ndarray(wave[None, first : first + 1024], format="s16", layout="mono")
                chunk.sample_rate, chunk.pts, chunk.time_base = rate, first + round(delay * rate), Fraction(1, rate)
                container.mux(sound.encode(chunk))
            container.mux(sound.encode())
    return file


def _lasting(packets: list[av.Packet]) -> list[av.Packet]:
    """What the last picture's length is told by."""
    for packet in packets:
        packet.duration = 100
    return packets


def beep(rate: int, seconds: float) -> np.ndarray:
    """Silence, and a tone of 1 kHz during the flash."""
    times = np.arange(round(seconds * rate)) / rate
    return np.where((times >= FLASH[0]) & (times < FLASH[1]), 0.5 * np.sin(2 * np.pi * 1000 * times), 0.0)
