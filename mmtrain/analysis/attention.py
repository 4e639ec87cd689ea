"""`mmtrain attention RUN SAMPLE_ID`: what the fusion of a run's model attends to in one sample, with words and times."""

import hashlib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow.compute as pc

from mmtrain.analysis.output import write_json
from mmtrain.compatibility import common_rates
from mmtrain.data.batch import MaskedSequence
from mmtrain.data.cached_texts import CachedTexts
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import SPLITS, TEXTS
from mmtrain.data.store import FeatureStore
from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError
from mmtrain.models.attending import Attentive
from mmtrain.models.attention_maps import Recorded, record_maps
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.time import row_times
from mmtrain.trained import Trained, load_trained

_LONGEST = 120  # characters of a file's name


def record_attention(
    folder: Path, sample: str, *, split: str, stream: str | None = None, checkpoint: str = "best", weights: str = "trained"
) -> Path:
    """Write evaluation/attention/<id>.json, the id as `file_name` writes it; returns the file.

    Errors: those of `load_trained`; ConfigError where the fusion has no attention, and where no stream of the split has the
    sample, or several have one of this id.
    """
    trained = load_trained(folder, split=split, checkpoint=checkpoint, weights=weights)
    model, kind = trained.parts.model, trained.experiment.model.fusion.name
    if not isinstance(model.fusion, Attentive):
        raise ConfigError(
            f"{folder}: the fusion {kind} has no attention between rows; those that have some are "
            f"{', '.join(attentive_fusions())}"
        )
    own, position = _find(trained, sample, stream)
    batch = trained.parts.collate([own.sample(position)], [0]).to(trained.accelerator.device)
    recorded = record_maps(model.eval(), batch.inputs)
    labels = part_labels(
        recorded,
        batch.inputs,
        own_rows=model.fusion.own_rows(),
        tokenizer=trained.parts.collate.tokenizer,
        rates=common_rates(trained.experiment, trained.parts.stores),
    )
    maps = [
        vars(item) | {"weights": np.round(item.weights.astype(np.float64), 6).tolist()}  # short in the file
        for item in recorded.maps
    ]
    which = {"id": sample, "split": split, "stream": own.name, "fusion": kind}
    values = {**which, "weights": weights, "checkpoint": trained.checkpoint, "labels": labels, "maps": maps}
    name = f"attention/{file_name(sample)}"
    file = folder / "evaluation" / f"{name}.json"
    if trained.console is not None:  # the first process alone writes
        write_json(folder, name, values, indent=None)
        trained.console.print(f"{len(maps)} maps written: {file}", highlight=False, soft_wrap=True, markup=False)
    return file


def attentive_fusions() -> list[str]:
    """The names of the fusions whose attention can be recorded."""
    kinds = {row.model_fields["name"].default: typing.get_type_hints(row.build)["return"] for row in FUSIONS}  # type: ignore[attr-defined]
    return [name for name, kind in kinds.items() if hasattr(kind, "attends")]


def file_name(sample: str) -> str:
    """A sample's id as the name of a file: what is no letter, digit or one of _.-~ in percent signs, a long one hashed."""
    name = quote(sample, safe="")
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 17]}-{hashlib.sha256(sample.encode()).hexdigest()[:16]}"


def part_labels(
    recorded: Recorded,
    inputs: Mapping[str, MaskedSequence],
    *,
    own_rows: Mapping[str, Sequence[str]],
    tokenizer: Tokenizer | CachedTexts | None,
    rates: Mapping[str, float],
) -> dict[str, list[str]]:
    """A label for each row of each part: a text's tokens, other rows by number and the second that is their middle.

    A modality whose encoder makes one row of all is "all of it", one that is missing has no label, or "placeholder" where
    the model has one in its place. Rows of the fusion's own are called what it calls them, or by number.
    """
    heights = {item.query: len(item.weights) for item in recorded.maps}
    labels = {part: list(names) or _numbered(heights.get(part, 0)) for part, names in own_rows.items()}
    for name, count in recorded.num_rows.items():
        values, mask = inputs[name]
        num_read = int(mask.sum())
        if not count:
            labels[name] = []
        elif not num_read:
            labels[name] = ["placeholder"]
        elif count != num_read:
            labels[name] = ["all of it"] if count == 1 else _numbered(count)
        elif name in TEXTS:
            assert isinstance(tokenizer, Tokenizer)  # words are read again here, not from a cache
            labels[name] = tokenizer.tokenizer.convert_ids_to_tokens(values[0][mask[0]].tolist())
        else:
            times = row_times(count, rates[name], mask.device).tolist() if name in rates else []
            timed = [f"row {number} ({time:.2f} s)" for number, time in enumerate(times, start=1)]
            labels[name] = timed or _numbered(count)
    return labels


def _numbered(count: int) -> list[str]:
    return [f"row {number + 1}" for number in range(count)]


def _find(trained: Trained, sample: str, stream: str | None) -> tuple[Stream, int]:
    """The stream of the split that has the sample, and its position there."""
    names = [item.name for item in trained.streams]
    if stream is not None and stream not in names:
        raise ConfigError(f"--stream: '{stream}' is none of this run's: {', '.join(names)}")
    found = []
    for item in trained.streams:
        ids = item.store.column("id").take(item.indices)
        places = np.flatnonzero(pc.equal(ids, sample).to_numpy())
        if len(places) and stream in (None, item.name):
            found.append((item, int(places[0])))
    if not found:
        raise ConfigError(f"split '{trained.split}' has no sample '{sample}'{_elsewhere(trained, sample)}")
    if len({(str(item.store.path), item.modalities, item.texts) for item, _ in found}) > 1:
        options = " or ".join(f"--stream {item.name}" for item, _ in found)
        raise ConfigError(f"several streams have a sample '{sample}'; write {options}")
    return found[0]


def _elsewhere(trained: Trained, sample: str) -> str:
    """Where else a sample is, in words."""
    stores: Mapping[str, FeatureStore] = trained.parts.stores
    splits = {
        split
        for store in stores.values()
        for split in SPLITS
        if pc.any(pc.equal(store.column("id").take(store.split(split)), sample)).as_py()
    }
    if trained.split in splits:
        return " with a label of one of the tasks of its streams"
    return f"; it is in another one: --split {' or --split '.join(sorted(splits))}" if splits else " in any of its streams"
