"""An optuna study in a run folder that several processes work on, and that goes on where killed ones left it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmtrain.errors import ConfigError
from mmtrain.extras import require
from mmtrain.tuning.search_space import Space


@dataclass(frozen=True)
class Candidate:
    """A trial to run: its number from 1, the values to try, and optuna's own object for it."""

    number: int
    values: Mapping[str, Any]
    trial: Any
    begun: bool  # by a process that ended before the trial did

    @property
    def name(self) -> str:
        return f"trial-{self.number:04d}"

    def prunes(self, evaluation: int, value: float) -> bool:
        """Note the metric of an evaluation, counted from 1; whether it is below the median of the others' at that one."""
        if evaluation not in self.trial.study.trials[self.number - 1].intermediate_values:  # before the process was killed
            self.trial.report(value, evaluation)
        return bool(self.trial.should_prune())


class Study:
    """`folder`/study.db, and a lock a trial: what is marked as running there and is not locked was left by a killed process.

    `origin`: what trials are comparable under. Errors: ConfigError where optuna is missing, or the study has another origin.
    """

    def __init__(
        self, folder: Path, *, origin: Mapping[str, Any], mode: Literal["min", "max"], startup: int, seed: int
    ) -> None:
        optuna = require_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._seed, self._optuna = folder, seed, optuna
        with self._locked("study"):
            self.study = optuna.create_study(
                storage=f"sqlite:///{folder / 'study.db'}",
                study_name="search",
                direction={"min": "minimize", "max": "maximize"}[mode],
                pruner=optuna.pruners.MedianPruner(n_startup_trials=startup),
                load_if_exists=True,
            )
            kept = self.study.user_attrs.get("origin")
            if kept is None:
                self.study.set_user_attr("origin", json.dumps(origin, sort_keys=True))
            elif kept != json.dumps(origin, sort_keys=True):
                raise ConfigError(
                    f"{folder / 'study.db'} was made from another experiment or search file: its trials cannot be compared "
                    "with new ones. Put them back, or choose another name: name=..."
                )

    @contextmanager
    def next(self, space: Space, num_trials: int) -> Iterator[Candidate | None]:
        """A trial for this process alone, as long as the block lasts: one left behind, or a new one up to `num_trials`."""
        with ExitStack() as held:
            with self._locked("study"):
                candidate = self._left_behind(space, held) or self._fresh(space, num_trials, held)
            yield candidate

    def _left_behind(self, space: Space, held: ExitStack) -> Candidate | None:
        running = self._optuna.trial.TrialState.RUNNING
        for frozen in self.study.get_trials(deepcopy=False, states=(running,)):
            try:
                held.enter_context(self._locked(f"trial-{frozen.number + 1:04d}", wait=False))
            except BlockingIOError:
                continue
            # optuna's own way to go on with a trial of the storage, also in its integrations
            return self._candidate(self._optuna.trial.Trial(self.study, frozen._trial_id), space, begun=True)
        return None

    def _fresh(self, space: Space, num_trials: int, held: ExitStack) -> Candidate | None:
        number = len(self.study.get_trials(deepcopy=False))
        if number >= num_trials:
            return None
        # keyed by the trial: a process that is started again must not draw what it drew before
        self.study.sampler = self._optuna.samplers.TPESampler(
            seed=int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        )
        trial = self.study.ask()
        held.enter_context(self._locked(f"trial-{trial.number + 1:04d}"))
        return self._candidate(trial, space, begun=False)

    def _candidate(self, trial: Any, space: Space, *, begun: bool) -> Candidate:
        values = {key: entry.suggest(trial, key) for key, entry in space.items()}
        return Candidate(trial.number + 1, values, trial, begun)

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Held by this process, and let go of when it ends in whatever way. Errors: BlockingIOError without `wait`."""
        import fcntl  # not on Windows

        (self._folder / "locks").mkdir(exist_ok=True)
        with (self._folder / "locks" / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    def finish(self, candidate: Candidate, value: float | None, *, pruned: bool = False) -> None:
        """`value` None: the trial failed."""
        states = self._optuna.trial.TrialState
        if pruned:
            self.study.tell(candidate.trial, state=states.PRUNED)
        elif value is None:
            self.study.tell(candidate.trial, state=states.FAIL)
        else:
            self.study.tell(candidate.trial, value)

    def trials(self) -> list[Any]:
        """Optuna's frozen trials, in order."""
        return list(self.study.get_trials(deepcopy=False))

    def best(self) -> Any | None:
        """The best complete trial; None where none is."""
        complete = self._optuna.trial.TrialState.COMPLETE
        return self.study.best_trial if any(trial.state == complete for trial in self.trials()) else None


def require_optuna() -> Any:
    """The library. Errors: ConfigError where it is not installed."""
    require("tune search", ["optuna"], extra="search")
    import optuna

    return optuna
