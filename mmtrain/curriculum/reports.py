"""What a curriculum may know of the training: frozen plain numbers, already reduced over processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from mmtrain.errors import ConfigError


def round_significant(value: float) -> float:
    """The value at six significant digits, so that processes whose sums differ in the last bits decide the same (G4)."""
    return float(f"{value:.5e}")


def round_all_significant(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Values [n] at six significant digits each, as float32; 0, NaN and Inf stay what they are."""
    exact = values.astype(np.float64)
    plain = np.isfinite(exact) & (exact != 0)
    places = 5 - np.floor(np.log10(np.abs(exact), where=plain, out=np.zeros_like(exact)))
    scale = 10.0 ** np.clip(places, -300, 300)
    return np.where(plain, np.round(exact * scale) / scale, exact).astype(np.float32)


@dataclass(frozen=True)
class WindowReport:
    """What a window's training showed.

    `step`: finished optimizer steps at the window's end. `losses`: stream -> task -> mean reported loss per labelled
    sample (regularizers apart), only of what was drawn; rounded to six significant digits here. `counts`: stream ->
    samples drawn. `weights`: what each active task's loss or gradient counted in the window's last step, None where the
    weighting has no such number (or none was trained: a simulation). `conflicts`: the share of pairs of tasks whose
    gradients pointed against each other, mean over the window's steps; None where no gradients were compared.
    `sample_losses` [S * B] float32, where a pacing listens: the reported loss of each sample in the plan's order, the mean
    over its labelled tasks, NaN where it has none; rounded likewise. The curriculum adds what it knows of the window itself:
    `first_step`, and `shares`: stream -> what was asked for, mean over the window.
    """

    step: int
    losses: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    weights: Mapping[str, float] | None = None
    conflicts: float | None = None
    first_step: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    sample_losses: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        rounded = {
            stream: {task: round_significant(loss) for task, loss in tasks.items()} for stream, tasks in self.losses.items()
        }
        object.__setattr__(self, "losses", rounded)
        if self.weights is not None:
            weights = {task: round_significant(weight) for task, weight in self.weights.items()}
            object.__setattr__(self, "weights", weights)
        if self.conflicts is not None:
            object.__setattr__(self, "conflicts", round_significant(self.conflicts))
        if self.sample_losses is not None:
            object.__setattr__(self, "sample_losses", round_all_significant(self.sample_losses))


@dataclass(frozen=True)
class EvalReport:
    """What an evaluation showed: `step` finished optimizer steps, metrics by name `split/task/metric`, rounded here."""

    step: int
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", {name: round_significant(value) for name, value in self.metrics.items()})


def metric_in(report: EvalReport, name: str, *, where: str) -> float:
    """A metric of an evaluation. Errors: ConfigError, naming `where` in the config, if the evaluation has no such metric."""
    if name not in report.metrics:
        known = get_close_matches(name, report.metrics, n=3, cutoff=0)
        raise ConfigError(f"{where}: the evaluations have no '{name}'; the nearest of theirs are {', '.join(known)}")
    return report.metrics[name]
