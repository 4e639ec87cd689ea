"""The part of a media file that a sample is: from a start to an end, in seconds, exactly as the manifest writes them."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Span:
    """Seconds from the beginning of a file; `end` None: up to its end."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __str__(self) -> str:
        return f"{float(self.start):g} s to " + ("the end" if self.end is None else f"{float(self.end):g} s")


WHOLE = Span()
