"""What was fetched, with its hashes: fetched.json beside it, and whether it is all still there."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RECORD = "fetched.json"


def sha256(file: Path) -> str:
    """Hash of a file's bytes."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tree_sha256(folder: Path) -> str:
    """One hash over the names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def write_text(file: Path, content: str) -> None:
    """Write a text file whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_manifest(file: Path, rows: Iterable[Sequence[object]], *, columns: Sequence[str]) -> None:
    """Write a CSV manifest whole or not at all."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(file, table.getvalue())


def write_record(out: Path, *, source: str, downloads: Sequence[Mapping[str, str]], outputs: Sequence[str]) -> None:
    """Record the downloads (file, version, sha256) and the hashes of the files and folders made from them."""
    hashes = {name: _hash(out / name) for name in outputs}
    write_json(out / RECORD, {"source": source, "downloads": list(downloads), "outputs": hashes})


def is_complete(out: Path, outputs: Sequence[str]) -> bool:
    """Whether everything that was made is there with the hashes that fetched.json recorded."""
    try:
        recorded = json.loads((out / RECORD).read_text(encoding="utf-8"))["outputs"]
        return all(_hash(out / name) == recorded[name] for name in outputs)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _hash(path: Path) -> str:
    return tree_sha256(path) if path.is_dir() else sha256(path)
