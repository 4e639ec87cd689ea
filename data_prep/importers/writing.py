"""Samples of a foreign format into a store, one at a time: what failed is reported by name, what is missing is counted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from data_prep.failures import Failure, check_allowed, write_report
from data_prep.importers.arrays import Rows
from data_prep.importers.target import Outcome, Target
from data_prep.progress import track
from mmtrain.data.sample_row import Label
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError


@dataclass(frozen=True)
class Sample:
    """A sample that goes into the store; `flaws`: modalities that it should have had, reported and missing in it."""

    id: str
    split: str
    group: str
    text: str = ""
    features: Mapping[str, Rows] = field(default_factory=dict)
    labels: Mapping[str, Label] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    flaws: tuple[Failure, ...] = ()


def write_store(
    target: Target,
    samples: Iterable[Sample | Failure],
    *,
    total: int,
    name: str,
    modalities: Mapping[str, FeatureSpec],
    tasks: Mapping[str, TaskSchema],
    provenance: Mapping[str, Any],
    columns: Mapping[str, pa.DataType] | None = None,
    licence: str = "",
) -> Outcome:
    """Write the store and `<out>.failures.jsonl`; `name`, `licence`: where `target` has none; `total`: of all samples.

    Errors: MediaError, after all samples were tried and with no store written, where more failed than are allowed.
    """
    outcome = Outcome()
    with StoreWriter(
        target.out,
        name=target.name or name,
        modalities=modalities,
        tasks=tasks,
        columns=columns,
        licence=target.licence or licence,
        overwrite=target.overwrite,
    ) as writer:
        for sample in track(samples, f"importing {writer.name}", total=total, console=target.console):
            _add(writer, sample, outcome)
        write_report(target.out, outcome.failures, flaws=outcome.flaws)
        allowed = target.allow_failures
        check_allowed(target.out, outcome.failures, allowed=allowed, total=total, what="samples cannot be imported")
        if not outcome.samples:
            raise DataError(f"{target.out}: not one sample could be imported, so no store was written")
        counts = {"missing": {key: outcome.missing[key] for key in modalities}, "failed": len(outcome.failures)}
        writer.provenance = {**provenance, **counts}
    _say(target, outcome, modalities)
    return outcome


def _add(writer: StoreWriter, sample: Sample | Failure, outcome: Outcome) -> None:
    if isinstance(sample, Failure):
        outcome.failures.append(sample)
        return
    try:
        f"{sample.id}{sample.group}{sample.text}".encode()
        writer.add(
            id=sample.id,
            split=sample.split,
            group=sample.group,
            text=sample.text,
            features=sample.features,
            labels=sample.labels,
            columns=sample.columns,
        )
    except (DataError, UnicodeEncodeError) as error:
        outcome.failures.append(Failure(sample.id, "", "", str(error)))
        return
    outcome.samples += 1
    outcome.flaws += sample.flaws
    outcome.missing.update(key for key in writer.modalities if key not in sample.features)
    if outcome.sides.setdefault(sample.group, sample.split) != sample.split:
        outcome.torn.add(sample.group)


def _say(target: Target, outcome: Outcome, modalities: Mapping[str, FeatureSpec]) -> None:
    for key in modalities:
        bad = sum(flaw.modality == key for flaw in outcome.flaws)
        listed = f"; {bad} had a file that cannot be read, see {target.report}" if bad else ""
        target.say(f"{key}: missing in {outcome.missing[key]} of {outcome.samples} samples{listed}")
    if outcome.torn:
        some = ", ".join(sorted(outcome.torn)[:3])
        target.say(
            f"warning: {len(outcome.torn)} groups are in more than one split ({some}): what shares a source is on both "
            "sides, and scores on such clips are too good"
        )
