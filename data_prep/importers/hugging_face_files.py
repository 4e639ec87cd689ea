"""The files of a Hugging Face data set: which belong to which split, their rows in order, and the names of their classes."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.data.schema import SPLITS
from mmtrain.errors import ConfigError, DataError

_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ROWS = 1000
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """The files of one split, and the split of the store that they go to."""

    split: str
    files: tuple[Path, ...]

    def schema(self) -> pa.Schema:
        """The columns of the first file."""
        file = self.files[0]
        try:
            if file.suffix == ".parquet":
                return pq.read_schema(file)
            with pa.memory_map(str(file)) as source:
                return _open_arrow(source).schema
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} is not a readable {file.suffix[1:]} file ({error})") from None

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[Path, int, Row]]:
        """File, number in it, and the values of some columns, of each row; a thousand rows at a time are in memory."""
        for file in self.files:
            number = 0
            try:
                for batch in _batches(file, columns):
                    for row in batch.to_pylist():
                        yield file, number, row
                        number += 1
            except KeyError as error:
                raise DataError(f"{file} has no column {error}; the first file of its split has") from None
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{file} is not a readable {file.suffix[1:]} file (after row {number}: {error})") from None


def find_parts(source: str, splits: Mapping[str, str], *, revision: str | None) -> list[Part]:
    """The splits of a folder (`save_to_disk`, or Parquet or Arrow files), or of a data set on the hub.

    `splits`: split of the store -> split of the data set; where empty, the usual names are known and all are taken.

    Errors: ConfigError for a split that is not there or whose name says nothing, DataError where there is no data.
    """
    folder = Path(source) if Path(source).exists() else _download(source, revision)
    named = _by_split(folder)
    if not named:
        raise DataError(f"{source} has no .arrow and no .parquet file")
    for split, theirs in splits.items():
        if split not in SPLITS:
            raise ConfigError(f"--split {split}={theirs}: write {', '.join(f'{name}=...' for name in SPLITS)}")
        if theirs not in named:
            raise ConfigError(f"--split {split}={theirs}: {source} has the splits {', '.join(named)}")
    if not splits:
        unknown = [name for name in named if name not in _ALIASES]
        if unknown:
            raise ConfigError(
                f"{source} has the splits {', '.join(named)}; say which is which, such as --split train={unknown[0]}"
            )
        return [Part(split, tuple(files)) for name, files in named.items() for split in (_ALIASES[name],)]
    return [Part(split, tuple(named[theirs])) for split, theirs in splits.items()]


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """What the data set calls the classes of a column of numbers; empty where it does not say."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[column]
        feature = feature[0] if isinstance(feature, list) else feature
        feature = feature.get("feature", feature)
        names = feature["names"] if feature.get("_type") == "ClassLabel" else ()
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return ()
    return tuple(map(str, names))


def _by_split(folder: Path) -> dict[str, list[Path]]:
    """The files of each split, in the order of their names; those of Arrow where there are any, else those of Parquet."""
    if folder.is_file():
        return {_split_of(folder)[0]: [folder]} if folder.suffix in (".arrow", ".parquet") else {}
    found: dict[str, list[Path]] = {}
    homes: dict[str, Path] = {}
    for file in _data_files(folder, "arrow") or _data_files(folder, "parquet"):
        split, home = _split_of(file)
        found.setdefault(split, []).append(file)
        if homes.setdefault(split, home) != home:
            some = f"{homes[split].relative_to(folder)}, {home.relative_to(folder)}"
            raise ConfigError(
                f"{folder} has split '{split}' in several folders ({some}); name one, with / behind the source"
            )
    return found


def _data_files(folder: Path, kind: str) -> list[Path]:
    """Without what `datasets` caches of its transforms beside the files that save_to_disk wrote."""
    files = [file for file in sorted(folder.rglob(f"*.{kind}")) if not file.name.startswith("cache-")]
    listed = {parent: _listed(parent) for parent in {file.parent for file in files}}
    return [file for file in files if file.name in (listed[file.parent] or [file.name])]


def _listed(folder: Path) -> list[str] | None:
    """The files that `save_to_disk` wrote, in state.json."""
    state = folder / "state.json"
    if not state.is_file():
        return None
    try:
        content = json.loads(state.read_bytes())
        files = [str(entry["filename"]) for entry in content["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{state} is not what save_to_disk writes") from None
    if content.get("_indices_data_files"):
        raise DataError(f"{folder} keeps a selection of its rows apart; call flatten_indices() before save_to_disk")
    return files


def _split_of(file: Path) -> tuple[str, Path]:
    """The split by the file's name (`train-00000-of-00002`) or its folder's (`train/0000`), and the folder it lies in."""
    stem = re.sub(r"(^|[-_.])\d{4,}(-of-\d+)?(-[0-9a-f]{8,})?$", "", file.stem)
    if stem in ("", "data") and file.parent.name not in ("", "data"):
        return file.parent.name, file.parent.parent
    return stem, file.parent


def _batches(file: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as table:
            missing = [name for name in columns if name not in table.schema_arrow.names]
            if missing:
                raise KeyError(missing[0])
            yield from table.iter_batches(batch_size=_ROWS, columns=list(columns))
        return
    with pa.memory_map(str(file)) as source:
        for batch in _arrow_batches(_open_arrow(source)):
            for begin in range(0, len(batch), _ROWS):
                yield batch.slice(begin, _ROWS).select(list(columns))


def _open_arrow(source: Any) -> Any:
    """A stream, as `datasets` writes, or a file of Arrow."""
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source)


def _arrow_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from reader


def _download(name: str, revision: str | None) -> Path:
    """The Parquet and Arrow files of a data set on the hub; nothing of it is run."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w.-]+)?", name) or ".." in name:
        raise DataError(f"{name} is neither a folder nor the name of a data set on the hub (owner/name, owner/name/folder)")
    owner, repository, *folder = name.split("/")
    from huggingface_hub import snapshot_download

    try:
        kinds = ["*.parquet", "*.arrow", "*state.json"]
        patterns = ["/".join([*folder, kind]) for kind in kinds]
        whole = snapshot_download(f"{owner}/{repository}", repo_type="dataset", revision=revision, allow_patterns=patterns)
        return Path(whole, *folder)
    except Exception as error:  # of the network, of the hub, of the disk
        reason = str(error).partition("\n")[0][:200]
        raise DataError(f"{name} is not a folder, and could not be fetched from the hub ({reason})") from None
