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
    file: Path,
    *,
    times: Sequence[float] | None = None,
    rate: int | None = 16_000,
    seconds: float = 4.0,
    delay: float = 0.0,
    delays: Sequence[float] = (),
    origin: float = 0.0,
    clock: Fraction = Fraction(1, 1000),
    pictures: Sequence[np.ndarray] | None = None,
    group: int = 12,
) -> Path:
    """MPEG-4 pictures at `times` (10 a second) and a tone of 1 kHz, later by `delay`, at `rate` Hz; None: no audio track.

    `delays`: of each 1024 samples of the tone by itself, the last one also of all that follow.

    `origin`: seconds at which the file's clock stands when it begins; `clock`: of the pictures' time stamps; `pictures`:
    instead of dark and bright ones; `group`: pictures from one that can be decoded by itself to the next.
    """
    times = [k / 10 for k in range(round(seconds * 10))] if times is None else times
    flat = [np.full((SIDE, SIDE, 3), BRIGHT if is_event(time) else DARK, np.uint8) for time in times]
    with av.open(str(file), "w") as container:
        video = container.add_stream("mpeg4", rate=1 / clock)
        video.height, video.width = (flat if pictures is None else pictures)[0].shape[:2]
        video.pix_fmt, video.codec_context.time_base, video.codec_context.gop_size = "yuv420p", clock, group
        codec = "pcm_s16le" if file.suffix in (".mkv", ".mov") else "aac"
        sound = None if rate is None else container.add_stream(codec, rate=rate, layout="mono")
        for time, picture in zip(times, flat if pictures is None else pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round((time + origin) / clock), clock
            container.mux(_lasting(video.encode(frame), clock))
        container.mux(_lasting(video.encode(), clock))
        if sound is not None and rate is not None:
            wave = (beep(rate, seconds) * 32_000).astype(np.int16)
            for first in range(0, len(wave), 1024):
                chunk = av.AudioFrame.from_ndarray(wave[None, first : first + 1024], format="s16", layout="mono")
                chunk.sample_rate, chunk.time_base = rate, Fraction(1, rate)
                own = delays[min(first // 1024, len(delays) - 1)] if delays else delay
                chunk.pts = first + round((own + origin) * rate)
                container.mux(sound.encode(chunk))
            container.mux(sound.encode())
    return file


def _lasting(packets: list[av.Packet], clock: Fraction) -> list[av.Packet]:
    """What the last picture's length is told by."""
    for packet in packets:
        packet.duration = round(Fraction(1, 10) / clock)
    return packets


def beep(rate: int, seconds: float) -> np.ndarray:
    """Silence, and a tone of 1 kHz during the flash."""
    times = np.arange(round(seconds * rate)) / rate
    return np.where((times >= FLASH[0]) & (times < FLASH[1]), 0.5 * np.sin(2 * np.pi * 1000 * times), 0.0)
