"""The streams on which the model is furthest behind a reference get the larger shares."""

from collections.abc import Mapping, Sequence
from functools import cache
from math import exp
from statistics import fmean
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.protocol import normalized
from mmtrain.curriculum.setting import Setting, check_complete, check_known, check_named
from mmtrain.errors import ConfigError
from mmtrain.section import Section

ByTask = Mapping[str, Mapping[str, float]]  # stream -> task -> number
_WHERE = "sampler doremi: reference_losses"


class DoremiConfig(Section):
    """Shares grow exponentially with the loss in excess of an earlier run's."""

    name: Literal["doremi"] = "doremi"
    reference: str | None = Field(
        default=None,
        min_length=1,
        description="The reference run's folder; its predictions of all training samples give the losses.",
    )
    reference_epoch: int | None = Field(default=None, ge=1, description="Of which of its epochs; null: the newest there.")
    reference_losses: dict[str, dict[str, float]] | None = Field(
        default=None, description="In place of `reference`: stream -> task -> its mean loss, for every stream and its tasks."
    )
    rate: float = Field(default=1.0, gt=0, le=100, description="eta: step size of the exponentiated gradient.")
    smoothing: float = Field(default=1e-3, gt=0, le=1, description="c: the part of the shares that is always equal.")

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if (self.reference is None) == (self.reference_losses is None):
            given = "neither stands here" if self.reference is None else "both stand here; make one null"
            raise ValueError(
                f"it needs reference (the folder of a run) or reference_losses (stream -> task -> mean loss); {given}"
            )
        if self.reference is None and self.reference_epoch is not None:
            raise ValueError("reference_epoch is an epoch of the run in `reference`; with reference_losses leave it out")
        return self

    def with_losses(self, losses: dict[str, dict[str, float]]) -> "DoremiConfig":
        """The same with the numbers that its reference run gave."""
        return DoremiConfig(reference_losses=losses, rate=self.rate, smoothing=self.smoothing)

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:
        """Errors: ConfigError for a stream unknown or without a reference, or an unknown task; a run is not read here."""
        for stream, given in (self.reference_losses or {}).items():
            check_known(f"{_WHERE}.{stream}", "task", given, tasks)
        if self.reference_losses is not None:
            check_complete(_WHERE, "stream", self.reference_losses, streams)

    def build(self, setting: Setting) -> "Doremi":
        """The sampler of this stage. Errors: ConfigError for a stream or task that is unknown or has no reference.

        A run that is trained or simulated has read `reference` before, and passed it on by `with_losses`.
        """
        if self.reference_losses is None:
            raise ConfigError(
                f"sampler doremi: reference {self.reference} is read by a run alone; here give reference_losses"
            )
        self.check_names(setting.stream_names, setting.tasks)
        for stream in setting.streams:
            check_named(f"{_WHERE}.{stream.name}", "task", self.reference_losses[stream.name], setting.tasks_of(stream))
        return Doremi(reference_losses=self.reference_losses, rate=self.rate, smoothing=self.smoothing)


class Doremi:
    """a_t <- (1 - c) a_t exp(eta l_t) / sum_s a_s exp(eta l_s) + c / K after every window, from a_t = 1 / K; shares are a.

    l_t = max(0, mean over the stream's tasks of the window's mean loss less the reference's). A stream that was not drawn
    keeps its last l_t; one never drawn counts as the mean of the others. eta is `rate`, c is `smoothing`; among active
    streams the shares are scaled to sum to 1.
    Source: Xie et al. 2023, "DoReMi", algorithm 1. Two differences: there the excess is cut at 0 token by token, here the
    reports hold means and the mean is cut; there a weighs losses in the proxy model's batches, here it is the share.
    A window's losses are those of training (with dropout); a reference run's are of an evaluation, which is lower.
    """

    def __init__(self, *, reference_losses: ByTask, rate: float = 1.0, smoothing: float = 1e-3) -> None:
        self.rate, self.smoothing = rate, smoothing
        self._references = {stream: dict(tasks) for stream, tasks in reference_losses.items()}
        self._shares = dict.fromkeys(reference_losses, 1 / len(reference_losses))
        self._excesses: dict[str, float] = {}

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The weights as they stand; the same for every step of the window."""
        shares = dict(self._shares)

        @cache
        def by_active(active: Names) -> dict[str, float]:
            return normalized({name: shares[name] for name in active})

        return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule

    def observe(self, report: WindowReport | EvalReport) -> None:
        """One step of the exponentiated gradient; evaluations change nothing."""
        if isinstance(report, EvalReport):
            return
        for stream, tasks in report.losses.items():
            if tasks:
                behind = fmean(loss - self._references[stream][task] for task, loss in tasks.items())
                self._excesses[stream] = max(behind, 0.0)
        if not self._excesses:
            return
        unknown = fmean(self._excesses.values())
        excesses = {name: self._excesses.get(name, unknown) for name in self._shares}
        largest = max(excesses.values())  # taken off everywhere: the exponentials stay finite, the quotient is the same
        grown = {name: share * exp(self.rate * (excesses[name] - largest)) for name, share in self._shares.items()}
        equal = self.smoothing / len(grown)
        self._shares = {name: (1 - self.smoothing) * part + equal for name, part in normalized(grown).items()}

    def state_dict(self) -> dict[str, Any]:
        """The weights and the last excesses, by stream."""
        return {"shares": dict(self._shares), "excesses": dict(self._excesses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._shares, self._excesses = dict(state["shares"]), dict(state["excesses"])
