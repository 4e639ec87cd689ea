"""A model's answers as flat columns, and these as Parquet, CSV or JSON lines."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.errors import ConfigError, DataError
from mmtrain.inference.decision import Decisions
from mmtrain.signature import Signature, TaskOutput

SUFFIXES = (".parquet", ".csv", ".jsonl")
EMBEDDING = "embedding"


def answer_columns(
    signature: Signature, decisions: Decisions, logits: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, pa.Array]:
    """`task` (the label; of a multilabel task a column `task.class` for each, 0 or 1), and the probabilities as
    `task.probability`, or `task.probability.class`, float32.

    Errors: DataError where two columns would have one name.
    """
    columns: dict[str, pa.Array] = {}
    for task, output in signature.tasks.items():
        decision = decisions[task]
        probabilities = decision.probabilities(output, logits[task])
        for name, values in _columns_of(task, output, decision.labels(output, probabilities), probabilities):
            if name in columns:
                raise DataError(f"the answers to the tasks would have two columns '{name}'; the Python API gives them apart")
            columns[name] = values
    return columns


def _columns_of(
    task: str, output: TaskOutput, labels: npt.NDArray[Any], probabilities: npt.NDArray[np.float64]
) -> Iterator[tuple[str, pa.Array]]:
    if output.kind == "multilabel":
        for number, name in enumerate(output.classes):
            yield f"{task}.{name}", pa.array(labels[:, number].astype(np.int64))
    else:
        yield task, pa.array(labels.tolist(), pa.string()) if labels.dtype.kind == "U" else pa.array(labels)
    if output.kind == "binary":
        yield f"{task}.probability", pa.array(probabilities.astype(np.float32))
    elif output.kind in ("multiclass", "multilabel"):
        for number, name in enumerate(output.classes):
            yield f"{task}.probability.{name}", pa.array(probabilities[:, number].astype(np.float32))


def check_suffix(out: Path, *, embeddings: bool) -> None:
    """Errors: ConfigError for a format that there is not, or that has no lists."""
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: write a name that ends in {', '.join(SUFFIXES)}")
    if embeddings and out.suffix == ".csv":
        raise ConfigError("--embeddings: a CSV has no lists; write --out with .parquet or .jsonl")


def join_parts(parts: Sequence[Path], out: Path) -> None:
    """The tables in `parts`, one after the other, as one file of the kind that its name says; whole or not at all."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        {".parquet": _to_parquet, ".csv": _to_csv, ".jsonl": _to_jsonl}[out.suffix](parts, partial)
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(out)) from None


def _to_parquet(parts: Sequence[Path], file: Path) -> None:
    with pq.ParquetWriter(file, pq.read_schema(parts[0]), compression="zstd") as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))


def _to_csv(parts: Sequence[Path], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(pq.read_schema(parts[0]).names)
        for part in parts:
            writer.writerows(zip(*(column.to_pylist() for column in pq.read_table(part).columns), strict=True))


def _to_jsonl(parts: Sequence[Path], file: Path) -> None:
    with file.open("w", encoding="utf-8") as handle:
        for part in parts:
            for row in pq.read_table(part).to_pylist():
                handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
