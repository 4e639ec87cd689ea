"""A store to folders of .npy and a table that `import npy` reads again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from data_prep.fetch.record import write_json
from data_prep.importers.arrays import file_name
from data_prep.manifest_labels import parse_label
from data_prep.manifest_rows import NONE_OF_THEM
from data_prep.progress import track
from mmtrain.data.schema import OWN_COLUMNS, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError

_MAX_NAME = 255  # bytes of a file's name


def export_npy(store: FeatureStore, *, out: Path, console: Console) -> int:
    """Write `<modality>/<id>.npy` (no file where it is missing), table.jsonl, and table.json with the tasks; how many files.

    The folder becomes visible when it is whole. Errors: DataError where it exists already, or a label or an id cannot be
    written so that it can be read again.
    """
    if out.exists():
        raise DataError(f"{out} exists already; choose another folder")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for modality in store.schema.modalities:
            (partial / modality).mkdir(parents=True)
        partial.mkdir(parents=True, exist_ok=True)
        files = 0
        with (partial / "table.jsonl").open("w", encoding="utf-8") as table:
            steps = track(range(len(store)), f"exporting {store.name}", total=len(store), console=console)
            for index, row in zip(steps, _rows(store), strict=True):
                table.write(json.dumps(row, ensure_ascii=False) + "\n")
                files += _save_rows(store, partial, index, row["id"])
        tasks = {name: task.model_dump(exclude_defaults=True) for name, task in store.schema.tasks.items()}
        write_json(partial / "table.json", {"name": store.name, "licence": store.schema.licence, "tasks": tasks})
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files


def _save_rows(store: FeatureStore, folder: Path, index: int, sample: str) -> int:
    files = 0
    for modality in store.schema.modalities:
        rows = store.stored_rows(modality, index)  # as they lie, not normalized
        if len(rows):
            name = file_name(sample)
            if len(name.encode()) > _MAX_NAME:
                raise DataError(f"store '{store.name}', sample '{sample[:40]}...': its id is too long for a file's name")
            with (folder / modality / name).open("xb") as handle:
                np.lib.format.write_array(handle, np.asarray(rows), allow_pickle=False)
            files += 1
    return files


def _rows(store: FeatureStore) -> Iterator[dict[str, Any]]:
    """A row of the table for each sample, labels as the manifest has them."""
    further = [name for name in store.table.column_names if name not in {*OWN_COLUMNS, *store.schema.tasks}]
    columns = ["id", "split", "group", "text", *store.schema.tasks, *further]
    for batch in store.table.select(columns).to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            for name, task in store.schema.tasks.items():
                where = f"store '{store.name}', sample '{row['id']}', column '{name}'"
                row[name] = None if row[name] is None else _written(task, row[name], where)
            yield row


def _written(task: TaskSchema, label: Any, where: str) -> Any:
    """A label by the names of its classes. Errors: DataError where it would not be read as the same."""
    try:
        if task.kind == "multilabel":
            names = [name for name, is_given in zip(task.classes, label, strict=True) if is_given]
            cell, read = names, "|".join(names) or NONE_OF_THEM
        elif task.kind == "regression" or not task.classes:
            cell, read = label, str(label)
        else:
            cell = read = task.classes[label]
        is_same = parse_label(task, read.strip()) == label
    except (ValueError, IndexError, TypeError):
        is_same = False
    if not is_same:
        raise DataError(
            f"{where}: the label {label!r} cannot be written so that a table gives it back (classes {task.classes})"
        )
    return cell
