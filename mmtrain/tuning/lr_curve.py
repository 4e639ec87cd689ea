"""The curve of a learning-rate range test: smoothed losses over an exponential ramp, where they diverge and fall fastest."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_DIVERGED = 4.0  # a smoothed loss this many times the best one


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
        """The lr at which the smoothed loss falls fastest in log(lr), before its least value; None where it never falls.

        The first 1 / (1 - smoothing) points are left out: their averages are of too few losses.
        """
        first = round(1 / (1 - self.smoothing))
        if len(self.lrs) < first + 2:
            return None
        slopes = self.slopes()[first : max(int(np.argmin(self.smoothed)), first) + 1]
        steepest = int(np.argmin(slopes))
        return self.lrs[first + steepest] if slopes[steepest] < 0 else None

    def slopes(self) -> npt.NDArray[np.float64]:
        """d smoothed / d log(lr) at every point, by central differences."""
        return np.asarray(np.gradient(self.smoothed, np.log(self.lrs)), np.float64)


def ramp(start: float, end: float, steps: int, finished: int) -> float:
    """The lr of the step after `finished` ones: from `start` by equal factors to `end` in the last of `steps`."""
    return float(start * (end / start) ** (min(finished, steps - 1) / max(steps - 1, 1)))
