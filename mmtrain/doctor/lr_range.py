"""Learning-rate range: where the configured rate stands between the one that teaches most and the one that diverges."""

import numpy as np

from mmtrain.doctor.case import Case, unchanged
from mmtrain.doctor.finding import Finding
from mmtrain.tuning.lr import range_test, steadier
from mmtrain.tuning.lr_curve import LrCurve

CHECK = "lr_range"
_SHARE = 0.25  # of the time
_STEPS, _FEWEST = 60, 25
_SMOOTHING = 0.8
_LOWEST, _HIGHEST = 1e-6, 1.0  # of the ramp, which always leads past the configured rate on both sides
_BEYOND = 10.0
BELOW, _ABOVE = 30.0, 100.0  # times below, and above, the steepest fall
_RISEN = 1.5  # times the least loss of the ramp


def check_lr_range(case: Case) -> list[Finding]:
    """A short range test, as `mmtrain tune lr` makes it, on the run's own batches."""
    if not case.can_learn:
        return [Finding(CHECK, "note", "not tried: no parameter is trained; see gradient_reach")]
    lr = case.experiment.training.optimizer.lr
    steps = int(min(_STEPS, case.seconds * _SHARE / case.seconds_per_step))
    if steps < _FEWEST:
        words = f"not tried: {_FEWEST} steps take {_FEWEST * case.seconds_per_step:.0f} s"
        return [Finding(CHECK, "note", words, "--seconds with a higher number, or mmtrain tune lr CONFIG")]
    start, end = min(_LOWEST, lr / _BEYOND), max(_HIGHEST, lr * _BEYOND)
    with unchanged(case.run) as run:
        curve = range_test(run, peak=lr, start=start, end=end, steps=steps, smoothing=_SMOOTHING)
    return range_findings(curve, lr)


def range_findings(curve: LrCurve, lr: float) -> list[Finding]:
    """`curve`: over a ramp that contains `lr`, or up to where it diverged."""
    tune = "mmtrain tune lr CONFIG draws the curve"
    if not curve.lrs:
        return [
            Finding(CHECK, "problem", "the gradient is NaN or Inf in the first step", "see input_scale and gradient_reach")
        ]
    best = curve.suggestion()
    lower = f"training.optimizer.lr={best if best is not None and best < lr else curve.lrs[-1] / 100:.2g}; {tune}"
    last = curve.lrs[-1]
    if curve.diverged and lr >= last:
        found = f"training.optimizer.lr is {lr:g}, and the loss diverges at {last:.2g} of a range test"
        return [Finding(CHECK, "problem", found, lower)]
    least = curve.least()
    here = float(np.interp(np.log(lr), np.log(curve.lrs), curve.smoothed))
    if lr > curve.lrs[least] and here > _RISEN * curve.smoothed[least] and curve.stands_out(here):
        found = (
            f"training.optimizer.lr is {lr:g}, where the loss of a range test has risen to {here:.3g} again, from "
            f"{curve.smoothed[least]:.3g} at {curve.lrs[least]:.2g}"
        )
        return [Finding(CHECK, "warning", found, lower)]
    if curve.is_noisy:
        found = f"too noisy to tell whether the loss falls in {len(curve.lrs)} steps of a range test"
        return [Finding(CHECK, "note", found, f"mmtrain tune lr CONFIG: {steadier(_STEPS)}")]
    if best is None:
        return [Finding(CHECK, "note", f"the loss fell nowhere in {len(curve.lrs)} steps of a range test", tune)]
    end = f"it diverges at {last:.2g}" if curve.diverged else f"it does not diverge up to {last:.2g}"
    found = f"training.optimizer.lr is {lr:g}; the loss falls fastest at {best:.2g}, and {end} ({len(curve.lrs)} steps)"
    return [_beside(found, lr=lr, best=best, lower=lower, tune=tune)]


def _beside(found: str, *, lr: float, best: float, lower: str, tune: str) -> Finding:
    """How a rate at which nothing diverges stands to the one at which the loss falls fastest."""
    if best > BELOW * lr:
        return Finding(
            CHECK, "note", f"{found}: {best / lr:.0f} times below the fastest fall, so learning may be slow", tune
        )
    if lr > _ABOVE * best:
        words = f"{found}: {lr / best:.0f} times above the fastest fall, where few models learn to the end"
        return Finding(CHECK, "warning", words, lower)
    return Finding(CHECK, "ok", found)
