"""What a pacing is given and asked: the difficulties of every stream's samples, its pools, and whose losses are stale."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.decision import Weights
from mmtrain.curriculum.pacing.difficulty import DifficultyConfig
from mmtrain.curriculum.pacing.difficulty.running import RunningConfig
from mmtrain.curriculum.pacing.protocol import Pacing
from mmtrain.curriculum.pacing.ranking import Floats, Ranking
from mmtrain.curriculum.permutation import derive_key
from mmtrain.curriculum.plan import WindowPlan
from mmtrain.curriculum.pool import Pool
from mmtrain.curriculum.reports import round_all_significant
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import Integers
from mmtrain.curriculum.turn import Chosen, Span, Turn
from mmtrain.errors import CheckpointError

_PATIENCE = 2  # whole passes after which a sample without a loss is not waited for


def pacer_by(difficulty: DifficultyConfig, pacing: Pacing, setting: Setting) -> "Pacer":
    """A pacer by known difficulties, those of the setting's streams, or by the losses of this run."""
    if isinstance(difficulty, RunningConfig):
        return Pacer(pacing, setting=setting, listens=True, probe_every=difficulty.probe_every)
    values = {}
    for stream in setting.streams:
        if stream.difficulty is None:
            raise ValueError(f"stream '{stream.name}' has no difficulty, and the pacing goes by {difficulty.name}")
        values[stream.name] = stream.difficulty
    return Pacer(pacing, setting=setting, values=values)


class Pacer:
    """Holds one float32 a sample, in memory; where it `listens` to losses, in checkpoints too.

    `values`: stream -> known difficulties [N]; a stream without any is always whole. With `listens` the values are the
    samples' last losses, NaN where there is none yet, and a stream is whole until each of its samples has one; those that
    have none after two whole passes (their steps were left out for NaN) count as the hardest there are.
    `probe_every`: passes of a stream between evaluations of the samples outside its pool; None = never.
    """

    def __init__(
        self,
        pacing: Pacing,
        *,
        setting: Setting,
        values: Mapping[str, Floats] | None = None,
        listens: bool = False,
        probe_every: int | None = None,
    ) -> None:
        self._pacing, self.listens, self._probe_every, self._streams = pacing, listens, probe_every, setting.streams
        sizes = {stream.name: stream.size for stream in setting.streams}
        nothing = {name: np.full(size, np.nan, np.float32) for name, size in sizes.items()} if listens else {}
        self._values = dict(values or {}) | nothing
        self._unknown = dict(sizes) if listens else {}  # stream -> samples without a loss
        self._keys = {name: derive_key(setting.seed, "pacing", name) for name in sizes}
        self._stale: dict[str, Integers] = {}  # stream -> positions to evaluate after the window just finished
        self._next = dict.fromkeys(sizes, 0)  # stream -> number of the next pass to begin, after the window just finished
        self._begun: dict[str, int] = {}  # stream -> its first pass that began with all difficulties known
        for name, known in (values or {}).items():
            self._begin(name, known, 0)
        self._digests = {name: hashlib.sha256(known.tobytes()).hexdigest() for name, known in (values or {}).items()}

    def pool(self, stream: str, number: int, *, step: int) -> Chosen:
        """The pool of the pass `number` that begins in the window of `step`, its first."""
        begun = self._begun.get(stream)
        if begun is None:
            return Chosen(None, None)
        ranking = Ranking(self._values[stream], key=self._keys[stream])
        mask, until = self._pacing.choose(ranking, stream=stream, number=number - begun, step=step)
        pool = None if mask is None or mask.all() else Pool.of(mask)
        return Chosen(pool, None if until is None else begun + until)

    def weights(self, stream: str, span: Span) -> Weights | None:
        """Weights [n] of the samples of a span; None = 1 throughout."""
        begun = self._begun.get(stream)
        alone = span.pool is not None and span.pool.size == 1  # in its pool, a sample is all there is
        if begun is None or alone or span.passes[0] < begun:
            return None
        return self._pacing.weights(self._values[stream][span.positions], stream=stream, numbers=span.passes - begun)

    def words(self, stream: str, number: int, *, step: int) -> str:
        """Why the pool of pass `number`, that began in the window of `step`, is what it is."""
        return self._pacing.words(stream=stream, number=number - self._begun[stream], step=step)

    def observe(self, plan: WindowPlan, losses: Floats | None, *, before: Sequence[Turn], after: Sequence[Turn]) -> None:
        """A window has led the streams from the turns `before` to those `after`: hear its samples' losses [S * B].

        Errors: ValueError where the pacer listens and there are none.
        """
        if not self.listens:
            return
        if losses is None:
            raise ValueError("this pacing goes by the samples' losses: a window's report must bring sample_losses")
        for k, stream in enumerate(self._streams):
            mine = plan.stream.ravel() == k
            self._next[stream.name] = after[k].next_number()
            self._hear(stream.name, plan.position.ravel()[mine], losses[mine])
            if self._unknown[stream.name] and after[k].number >= _PATIENCE:
                self._give_up(stream.name)
        turns = zip(self._streams, before, after, strict=True)
        stale = {stream.name: self._outside(old, new, stream.size) for stream, old, new in turns}
        self._stale = {name: positions for name, positions in stale.items() if len(positions)}

    def probes(self) -> dict[str, Integers]:
        """Stream -> positions [n], ascending, to evaluate now that a window has been heard.

        Where the window held the end of a pass whose number, counted from 1, `probe_every` divides: the samples that are
        neither in its pool nor in that of the pass under way.
        """
        return dict(self._stale)

    def observe_probes(self, losses: Mapping[str, Floats]) -> None:
        """Hear the losses [n] of what `probes` asked for, by stream; NaN = none."""
        for name, values in losses.items():
            self._hear(name, self._stale[name], round_all_significant(values))
        self._stale = {}

    def _hear(self, stream: str, positions: Integers, losses: Floats) -> None:
        """Losses [n] of samples at `positions` [n]; of one that stands there twice the last counts."""
        seen = ~np.isnan(losses)
        positions, losses = positions[seen], losses[seen]
        values = self._values[stream]
        self._unknown[stream] -= len(np.unique(positions[np.isnan(values[positions])]))
        values[positions] = losses
        if not self._unknown[stream] and stream not in self._begun:
            self._begin(stream, values, self._next[stream])

    def _give_up(self, stream: str) -> None:
        """What whole passes have given no loss, since its steps were left out, counts as the hardest there is."""
        values = self._values[stream]
        values[np.isnan(values)] = np.finfo(np.float32).max
        self._unknown[stream] = 0
        self._begin(stream, values, self._next[stream])

    def _outside(self, before: Turn, after: Turn, size: int) -> Integers:
        if self._probe_every is None or before.number // self._probe_every == after.number // self._probe_every:
            return np.zeros(0, np.int64)
        inside = np.zeros(size, np.bool_)
        for pool in [after.ended] + ([after.pool] if after.offset else []):
            inside |= np.True_ if pool is None else pool.mask(size)
        return np.flatnonzero(~inside).astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        """All but the losses, which `arrays` gives."""
        return {"begun": dict(self._begun), "pacing": self._pacing.state_dict(), "difficulty": dict(self._digests)}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """`losses/<stream>`: the last losses [N], where the pacer listens."""
        return {f"losses/{name}": losses for name, losses in self._values.items()} if self.listens else {}

    def load_state_dict(self, state: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue where `state_dict` was taken. Errors: CheckpointError where a known difficulty is another one now."""
        for name, digest in self._digests.items():
            if state["difficulty"].get(name) != digest:
                raise CheckpointError(
                    f"cannot resume: the difficulties of stream '{name}' are not those that the run began with. Put back "
                    "the file that curriculum.pacing.difficulty reads, or start a new run with another name"
                )
        self._begun = dict(state["begun"])
        self._pacing.load_state_dict(state["pacing"])
        for name in self._unknown:
            self._values[name] = arrays[f"losses/{name}"].astype(np.float32)
            self._unknown[name] = int(np.isnan(self._values[name]).sum())

    def _begin(self, stream: str, values: Floats, number: int) -> None:
        self._begun[stream] = number
        self._pacing.begin(stream, values)
