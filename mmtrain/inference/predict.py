"""A trained model over a store: in parts that a stopped run goes on with, shared by several processes, joined at the end."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState

from mmtrain.data.dataset import Sample
from mmtrain.data.schema import SECOND_TEXT, TEXT, TEXTS
from mmtrain.data.store import FeatureStore
from mmtrain.engine.run_folder import write_whole
from mmtrain.errors import ConfigError, DataError
from mmtrain.inference.columns import EMBEDDING, answer_columns, check_suffix, join_parts
from mmtrain.inference.trained_model import TrainedModel
from mmtrain.signature import source_of

PART = 2048  # samples whose rows are in memory at a time


@dataclass(frozen=True, kw_only=True)
class Predicting:
    """What is asked for, beside the model and the store."""

    out: Path
    split: str | None = None  # None: all samples
    like: str | None = None
    batch_size: int = 32
    embeddings: bool = False
    skip_bad: bool = False
    overwrite: bool = False


def predict_store(
    model: TrainedModel,
    store: FeatureStore,
    asked: Predicting,
    *,
    further: Mapping[str, pa.DataType] | None = None,
    progress: Callable[[int, int], None] | None = None,
    processes: PartialState | None = None,
) -> int:
    """Write the answers to every sample, in the store's order; returns how many were left out for bad rows (in all processes
    but the first 0).

    `further`: columns of the store that are written beside the id; `progress(done, total)` in parts of this process.
    Errors: ConfigError where the file is there already, or of no known kind; DataError where the rows are not from the
    run's extractor, have another width, or hold NaN (unless they are to be skipped, and listed in <out>.bad.jsonl).
    """
    check_out(asked)
    check_store(model, store, like=asked.like)
    indices = np.arange(len(store)) if asked.split is None else store.split(asked.split)
    if not len(indices):
        raise DataError(f"{store.path} has no sample" + (f" in split '{asked.split}'" if asked.split else ""))
    rank, world = (processes.process_index, processes.num_processes) if processes is not None else (0, 1)
    folder = asked.out.with_name(f".{asked.out.name}.parts")
    if rank == 0:
        _open(folder, _key(model, store, asked))
    if processes is not None:
        processes.wait_for_everyone()
    chunks = [indices[first : first + PART] for first in range(0, len(indices), PART)]
    mine = range(rank, len(chunks), world)
    for done, number in enumerate(mine, start=1):
        if not _part(folder, number).exists():
            _predict_part(model, store, chunks[number], asked, folder=folder, number=number, further=further or {})
        if progress is not None:
            progress(done, len(mine))
    if processes is not None:
        processes.wait_for_everyone()
    return _finish(folder, len(chunks), asked.out) if rank == 0 else 0


def check_out(asked: Predicting) -> None:
    """Errors: ConfigError where the file is there already, or of no known kind."""
    check_suffix(asked.out, embeddings=asked.embeddings)
    if asked.out.exists() and not asked.overwrite:
        raise ConfigError(f"{asked.out} exists already; choose another name or pass --overwrite")


def check_store(model: TrainedModel, store: FeatureStore, *, like: str | None) -> None:
    """Errors: DataError where nothing of it is read, or what is has another width or another extractor."""
    found = [name for name in model.signature.modalities if name in store.schema.modalities and name in model.modalities]
    for name in found:
        wanted, schema = model.signature.modalities[name], store.schema.modalities[name]
        if schema.row_shape != wanted.row_shape:
            raise DataError(f"{store.path}: rows of {name} are {schema.row_shape}, the model reads {wanted.row_shape}")
        model.signature.check_source(name, source_of(store, name), origin=str(store.path))
        wanted.statistics(name, like)
    texts = [name for name in TEXTS if name in model.modalities and store.has_column(name)]
    if not found and not (texts and bool(store.text_lengths.any())):
        raise DataError(f"{store.path} has nothing that the model reads ({', '.join(model.modalities)})")


def _key(model: TrainedModel, store: FeatureStore, asked: Predicting) -> str:
    """What finished parts belong to."""
    parts = [model.identity, model.decisions.record, str(model.autocast), store.fingerprint, asked.split, asked.like]
    return hashlib.sha256(json.dumps([*parts, asked.embeddings, asked.skip_bad, PART]).encode()).hexdigest()


def _open(folder: Path, key: str) -> None:
    """Keep the parts of an earlier call that asked the same; begin anew otherwise."""
    mark = folder / "key"
    if folder.exists() and not (mark.is_file() and mark.read_text(encoding="utf-8") == key):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(mark, key)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def _bad(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.bad.jsonl"


def _predict_part(
    model: TrainedModel,
    store: FeatureStore,
    indices: npt.NDArray[np.int64],
    asked: Predicting,
    *,
    folder: Path,
    number: int,
    further: Mapping[str, pa.DataType],
) -> None:
    samples, kept, bad = _read(model, store, indices, asked)
    logits, joint = model.logits(samples, batch_size=asked.batch_size)
    columns = {"id": pa.array([sample.id for sample in samples], pa.string())}
    columns |= {name: store.column(name).take(kept).combine_chunks().cast(kind) for name, kind in further.items()}
    columns["missing"] = pa.array([", ".join(_lacking(model, sample)) for sample in samples], pa.string())
    answers = answer_columns(model.signature, model.decisions, logits)
    taken = sorted(set(answers) & {*columns, EMBEDDING})
    if taken:
        raise DataError(f"a task's answers cannot be written as '{taken[0]}', which is a column of its own")
    columns |= answers
    if asked.embeddings:
        width = joint.shape[1]
        columns[EMBEDDING] = pa.FixedSizeListArray.from_arrays(pa.array(joint.ravel()), width)
    write_whole(_bad(folder, number), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in bad))
    partial = _part(folder, number).with_suffix(".partial")
    pq.write_table(pa.table(columns), partial)
    partial.replace(_part(folder, number))


def _lacking(model: TrainedModel, sample: Sample) -> list[str]:
    """What the model reads and the sample has not, texts first."""
    texts = {TEXT: sample.text, SECOND_TEXT: sample.second_text}
    blank = [name for name, text in texts.items() if name in model.modalities and not text.strip()]
    return blank + [name for name in model.modalities if name not in texts and name not in sample.features]


def _read(
    model: TrainedModel, store: FeatureStore, indices: Sequence[int] | npt.NDArray[np.int64], asked: Predicting
) -> tuple[list[Sample], list[int], list[dict[str, Any]]]:
    """Samples, their indices, and a line for each bad one. Errors: DataError for the first of these, if none are skipped."""
    columns = [name for name in TEXTS if name in model.modalities and store.has_column(name)]
    features = [name for name in model.signature.modalities if name in store.schema.modalities and name in model.modalities]
    samples, kept, bad = [], [], []
    for index in map(int, indices):
        values: dict[str, Any] = {name: store.text(index, name) for name in columns}
        values |= {name: store.stored_rows(name, index) for name in features}
        name = store.sample_id(index)
        try:
            samples.append(model.read(values, like=asked.like, name=name))
        except DataError as error:
            if not asked.skip_bad:
                raise DataError(f"{store.path}, {error}. Leave such samples out with --skip-bad") from None
            bad.append({"id": name, "reason": str(error)})
        else:
            kept.append(index)
    return samples, kept, bad


def _finish(folder: Path, count: int, out: Path) -> int:
    bad = [line for number in range(count) for line in _bad(folder, number).read_text(encoding="utf-8").splitlines()]
    join_parts([_part(folder, number) for number in range(count)], out)
    listed = out.with_name(out.name + ".bad.jsonl")
    if bad:
        write_whole(listed, "\n".join([*bad, ""]))
    else:
        listed.unlink(missing_ok=True)
    shutil.rmtree(folder)
    return len(bad)
