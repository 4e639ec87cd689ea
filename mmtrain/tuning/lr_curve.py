"""The curve of a learning-rate range test: smoothed losses over an exponential ramp, where they diverge and fall fastest."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_DIVERGED = 4.0  # a smoothed loss this many times the best one
_ERRORS = 3.0  # times the noise of a smoothed loss, from which on a fall or rise is told from it
_DEVIATION = 1.4826  # of a normal variable, over its median absolute deviation
_MARGIN = 0.05  # of the drawn losses, above and below them


@dataclass
class LrCurve:
    """Grows a point a step. Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3.

    `smoothing`: b of the exponential average s_i = b s_(i-1) + (1 - b) loss_i, which is divided by 1 - b^i (Kingma and Ba
    2015, section 3). It trails the losses by b / (1 - b) steps, and so does the suggestion.
    """

    smoothing: float
    lrs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    diverged: bool = False
    _average: float = 0.0

    def add(self, lr: float, loss: float) -> None:
        """Note the loss of the step made at `lr`; `diverged` becomes true with a NaN, or far above the best."""
        if not math.isfinite(loss):
            self.diverged = True
            return
        self._average = self.smoothing * self._average + (1 - self.smoothing) * loss
        self.lrs.append(lr)
        self.losses.append(loss)
        self.smoothed.append(self._average / (1 - self.smoothing ** len(self.losses)))
        best = min(self.smoothed)
        self.diverged = self.smoothed[-1] > best + (_DIVERGED - 1) * abs(best)

    def suggestion(self) -> float | None:
        """The lr at which the smoothed loss falls fastest in log(lr), before its least value; None where no fall stands out
        from the noise.

        The first 1 / (1 - smoothing) points are left out: their averages are of too few losses.
        """
        if not self._is_long or self.fall() <= _ERRORS * self.noise():
            return None
        first = self._num_first
        slopes = self.slopes()[first : self.least() + 1]
        steepest = int(np.argmin(slopes))
        return self.lrs[first + steepest] if slopes[steepest] < 0 else None

    @property
    def is_noisy(self) -> bool:
        """Whether the noise hides if the loss falls."""
        return self._is_long and abs(self.fall()) < _ERRORS * self.noise()

    def least(self) -> int:
        """The place of the least smoothed loss, behind the first points where there are more."""
        first = self._num_first if self._is_long else 0
        return first + int(np.argmin(self.smoothed[first:]))

    def fall(self) -> float:
        """From the mean of the first losses, made at rates that teach nothing yet, down to the least smoothed one."""
        return float(np.mean(self.losses[: self._num_first])) - self.smoothed[self.least()]

    def noise(self) -> float:
        """Standard deviation of a smoothed loss, if the losses scatter about it independently: theirs times
        sqrt((1 - b) / (1 + b)). By medians, which the few losses of a divergence do not move.
        """
        scatter = np.median(np.abs(np.subtract(self.losses, self.smoothed)))
        return float(_DEVIATION * scatter * math.sqrt((1 - self.smoothing) / (1 + self.smoothing)))

    def stands_out(self, loss: float) -> bool:
        """Whether a smoothed loss lies above the least one by more than noise."""
        return loss - self.smoothed[self.least()] > _ERRORS * self.noise()

    def drawn(self) -> tuple[float, float] | None:
        """Bounds of the losses before they diverge, with a margin; None where nothing has to be cut."""
        if not self.diverged or len(self.losses) < 2:
            return None
        low, high = min(self.losses), max(*self.losses[: self.least() + 1], *self.smoothed[:-1])
        margin = _MARGIN * (high - low) or 1.0
        return low - margin, high + margin

    @property
    def _num_first(self) -> int:
        return round(1 / (1 - self.smoothing))

    @property
    def _is_long(self) -> bool:
        return len(self.lrs) >= self._num_first + 2

    def slopes(self) -> npt.NDArray[np.float64]:
        """d smoothed / d log(lr) at every point, by central differences."""
        return np.asarray(np.gradient(self.smoothed, np.log(self.lrs)), np.float64)


def ramp(start: float, end: float, steps: int, finished: int) -> float:
    """The lr of the step after `finished` ones: from `start` by equal factors to `end` in the last of `steps`."""
    return float(start * (end / start) ** (min(finished, steps - 1) / max(steps - 1, 1)))
