"""Padding share: how many positions of the planned batches hold nothing, and what other settings would make of it."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.plan import WindowPlan
from mmtrain.data.dataset import Stream
from mmtrain.data.tokenize import Tokenizer
from mmtrain.doctor.case import Case
from mmtrain.doctor.finding import Finding
from mmtrain.engine.cutting import cut, fewest
from mmtrain.parts import stream_specs
from mmtrain.references import with_references

CHECK = "padding"
_WIDER = 4  # times the window, as the other setting that is tried
_MOST = 100  # steps that are planned
_GAIN = 0.1  # of a modality's positions: what is worth a word
Integers = npt.NDArray[np.int64]


def check_padding(case: Case) -> list[Finding]:
    """The run's first window as its planner lays it out, then grouped by length, then with a wider window."""
    section, settings = case.experiment.curriculum, case.run.settings
    _, stop = settings.window_of(0)
    now = _shares(case, {}, stop)
    grouped = "curriculum.group_by_length: true"
    others = {} if section.group_by_length else {grouped: _shares(case, {"group_by_length": True}, stop)}
    wide = min(_WIDER * stop, _MOST)
    if wide > stop:
        words = wider_words(wide, window=section.window, steps_per_epoch=settings.steps_per_epoch)
        words = words if section.group_by_length else f"{grouped}, {words}"
        others[words] = _shares(case, {"group_by_length": True, "window": wide}, wide)
    return padding_findings(now, others, is_grouped=section.group_by_length)


def wider_words(wide: int, *, window: int, steps_per_epoch: int) -> str:
    """What to write for windows of `wide` steps, which end with an epoch at the latest."""
    keys = [f"curriculum.window: {wide} (with evaluations on its borders)"] if wide > window else []
    if wide > steps_per_epoch:
        keys.append(f"training.steps_per_epoch: {wide} with fewer epochs, since a window ends with its epoch")
    return ", ".join(keys)


def _shares(case: Case, changes: Mapping[str, object], steps: int) -> dict[str, float]:
    """Padding by modality of the first `steps` steps (at most 100) under these settings of the curriculum."""
    run = case.run
    specs = stream_specs(case.experiment, run.train_streams, run.objective)
    section = with_references(case.experiment, specs).curriculum.model_copy(update=changes)
    curriculum = section.build(
        streams=specs,
        tasks=run.objective.task_names,
        batch_size=run.settings.batch_size,
        seed=run.settings.seed,
        steps_per_epoch=run.settings.steps_per_epoch,
        kinds={name: loss.kind for name, loss in run.objective.losses.items()},
    )
    plan = curriculum.next_window(0, min(steps, _MOST))
    tokenizer = run.loader.collate.tokenizer
    assert tokenizer is None or isinstance(tokenizer, Tokenizer), "the doctor reads no cached texts"
    lengths = planned_lengths(plan, run.train_streams, tokenizer)
    batch = case.experiment.batch
    stacked = np.stack(list(lengths.values()), axis=2)  # [S, B, M]
    parts = [micro_batches(step, tokens=batch.tokens, micro=batch.micro) for step in stacked]
    shares = {name: padding_share(values, parts) for name, values in lengths.items()}
    return {name: share for name, share in shares.items() if share is not None}


def planned_lengths(plan: WindowPlan, streams: Sequence[Stream], tokenizer: Tokenizer | None) -> dict[str, Integers]:
    """Rows, or tokens, of every sample of every planned batch, [S, B] by modality; 0 where a sample lacks it."""
    names = list(dict.fromkeys(name for stream in streams for name in (*stream.texts, *stream.modalities)))
    found = {name: np.zeros(plan.stream.shape, np.int64) for name in names}
    for number, stream in enumerate(streams):
        drawn = plan.stream == number
        indices = stream.indices[plan.position[drawn]]
        for name in stream.modalities:
            found[name][drawn] = stream.store.lengths(name)[indices]
        for name in stream.texts:
            assert tokenizer is not None, "a stream of texts is read with a tokenizer"
            known, places = np.unique(indices, return_inverse=True)
            ids, _ = tokenizer.read([stream.store.text(int(index), name) for index in known])
            found[name][drawn] = np.array([len(own) for own in ids], np.int64)[places]
    return found


def micro_batches(lengths: Integers, *, tokens: int | None, micro: int | None) -> list[Integers]:
    """Places of the samples of a batch in its micro-batches, as one process cuts it; `lengths` [B, M] of its modalities."""
    most = micro or len(lengths)
    if tokens is None:
        return np.array_split(np.arange(len(lengths)), -(-len(lengths) // most))
    return cut(lengths, budget=tokens, most=most, count=fewest(lengths, budget=tokens, most=most))


def padding_share(lengths: Integers, parts: Sequence[Sequence[Integers]]) -> float | None:
    """The share of positions that are padding where batches [S, B] are passed in these parts.

    Samples without the modality count for nothing, as in timing.jsonl; None where no sample has it.
    """
    real = total = 0
    for batch, places in zip(lengths, parts, strict=True):
        for part in (batch[own] for own in places):
            real += int(part.sum())
            total += int((part > 0).sum()) * int(part.max())
    return 1 - real / total if total else None


def padding_findings(
    now: Mapping[str, float], others: Mapping[str, Mapping[str, float]], *, is_grouped: bool
) -> list[Finding]:
    """`now`: padding by modality; `others`: the same under what one would write instead."""
    state = "on" if is_grouped else "off"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in now.items()) or "nothing is padded"
    found = f"padding of the first window: {shares}; curriculum.group_by_length is {state}"
    gains = {
        words: max((now[name] - share[name] for name in now if name in share), default=0.0)
        for words, share in others.items()
    }
    if not gains or max(gains.values()) < _GAIN:
        return [Finding(CHECK, "ok", found)]
    enough = max(gains.values()) - _GAIN / 2  # the first that gains about as much as the best
    fix = next(words for words, gain in gains.items() if gain >= enough)
    better = ", ".join(f"{name} {share:.0%}" for name, share in others[fix].items())
    return [Finding(CHECK, "note", f"{found}; it would be {better}", fix)]
