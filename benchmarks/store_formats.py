"""The formats that bench_store compares: how each is written, how each is read, and the clips that all of them hold."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import datasets
import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors import safe_open

from mmtrain.data.schema import FeatureSpec
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter

DIMS = {"words": 300, "audio": 128, "video": 35}
MOST_ROWS, PIECE = 6, 1000
Rows = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Format(Protocol):
    """An opened one; `files`: what a batch is read from."""

    def read(self, indices: Indices) -> Mapping[str, Sequence[Rows]]: ...

    def files(self, indices: Indices) -> Sequence[Path]: ...


def clip(number: int) -> dict[str, Rows]:
    random = np.random.default_rng(number)
    counts = random.integers(1, MOST_ROWS + 1, len(DIMS)).tolist()
    shapes = zip(DIMS, counts, DIMS.values(), strict=True)
    return {key: random.standard_normal((count, dim), np.float32) for key, count, dim in shapes}


def pieces(count: int) -> Iterator[dict[str, list[Rows]]]:
    """All clips, some at a time: the rows of each by modality."""
    for first in range(0, count, PIECE):
        found = [clip(number) for number in range(first, min(first + PIECE, count))]
        yield {key: [features[key] for features in found] for key in DIMS}


def write_store(folder: Path, count: int) -> None:
    modalities = {key: FeatureSpec(dim=dim) for key, dim in DIMS.items()}
    with StoreWriter(folder / "store", name="clips", modalities=modalities) as writer:
        for number in range(count):
            writer.add(id=f"c{number}", split="train", group=f"g{number}", features=clip(number))


def write_npy(folder: Path, count: int) -> None:
    for key in DIMS:
        (folder / key).mkdir()
    for number in range(count):
        for key, rows in clip(number).items():
            np.save(folder / key / f"c{number}.npy", rows)


def write_hdf5(folder: Path, count: int) -> None:
    with h5py.File(folder / "clips.h5", "w") as file:
        lengths: dict[str, list[int]] = {key: [] for key in DIMS}
        for part in pieces(count):
            for key, rows in part.items():
                lengths[key] += map(len, rows)
        for key, dim in DIMS.items():
            file[f"{key}/offsets"] = np.cumsum([0, *lengths[key]])
            file.create_dataset(f"{key}/values", (sum(lengths[key]), dim), "f4")
        done = dict.fromkeys(DIMS, 0)
        for part in pieces(count):
            for key, rows in part.items():
                joined = np.concatenate(rows)
                file[f"{key}/values"][done[key] : done[key] + len(joined)] = joined
                done[key] += len(joined)


def write_arrow(folder: Path, count: int) -> None:
    schema = pa.schema([(key, pa.list_(pa.list_(pa.float32(), dim))) for key, dim in DIMS.items()])
    with pa.OSFile(str(folder / "clips.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for part in pieces(count):
            columns = []
            for key, rows in part.items():
                flat = pa.array(np.concatenate(rows).ravel())
                offsets = pa.array(np.cumsum([0, *map(len, rows)]), pa.int32())
                columns.append(pa.ListArray.from_arrays(offsets, pa.FixedSizeListArray.from_arrays(flat, DIMS[key])))
            writer.write_batch(pa.record_batch(columns, schema=schema))


class Store:
    def __init__(self, folder: Path) -> None:
        self.store = FeatureStore(folder / "store")
        for key in DIMS:
            self.store.lengths(key)  # as a run does; other formats below have read their offsets too

    def read(self, indices: Indices) -> Mapping[str, Sequence[Rows]]:
        return {key: rows.split() for key, rows in self.store.read(list(DIMS), indices).items()}

    def files(self, indices: Indices) -> Sequence[Path]:  # noqa: ARG002
        return [self.store.path / f"{key}.safetensors" for key in DIMS]


class Npy:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, indices: Indices) -> Mapping[str, Sequence[Rows]]:
        return {key: [np.load(self.folder / key / f"c{number}.npy") for number in indices.tolist()] for key in DIMS}

    def files(self, indices: Indices) -> Sequence[Path]:
        return [self.folder / key / f"c{number}.npy" for key in DIMS for number in indices.tolist()]


class Hdf5:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "clips.h5"
        self.file = h5py.File(self.path)
        self.values = {key: self.file[f"{key}/values"] for key in DIMS}
        self.offsets = {key: self.file[f"{key}/offsets"][:].tolist() for key in DIMS}

    def read(self, indices: Indices) -> Mapping[str, Sequence[Rows]]:
        return {key: cut(self.values[key], self.offsets[key], indices) for key in DIMS}

    def files(self, indices: Indices) -> Sequence[Path]:  # noqa: ARG002
        return [self.path]


def cut(values: Any, offsets: Any, indices: Indices) -> Sequence[Rows]:
    return [values[offsets[number] : offsets[number + 1]] for number in indices.tolist()]


class Arrow:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "clips.arrow"
        table = pa.ipc.open_stream(pa.memory_map(str(self.path))).read_all()
        self.columns = {key: table[key] for key in DIMS}

    def read(self, indices: Indices) -> Mapping[str, Sequence[Rows]]:
        return {key: [to_rows(key, column[number]) for number in indices.tolist()] for key, column in self.columns.items()}

    def files(self, indices: Indices) -> Sequence[Path]:  # noqa: ARG002
        return [self.path]


def to_rows(modality: str, cell: Any) -> Rows:
    rows: Rows = cell.values.flatten().to_numpy().reshape(-1, DIMS[modality])
    return rows


class HuggingFace:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "clips.arrow"
        self.dataset = datasets.Dataset.from_file(str(self.path)).with_format("arrow")

    def read(self, indices: Indices) -> Mapping[str, Sequence[Rows]]:
        table = self.dataset[indices.tolist()]
        return {key: [to_rows(key, cell) for cell in table[key]] for key in DIMS}

    def files(self, indices: Indices) -> Sequence[Path]:  # noqa: ARG002
        return [self.path]


class SafeOpen:
    def __init__(self, folder: Path) -> None:
        self.paths = {key: folder / "store" / f"{key}.safetensors" for key in DIMS}
        opened = {key: safe_open(path, "numpy") for key, path in self.paths.items()}
        self.offsets = {key: file.get_tensor("offsets").tolist() for key, file in opened.items()}
        self.values = {key: file.get_slice("values") for key, file in opened.items()}

    def read(self, indices: Indices) -> Mapping[str, Sequence[Rows]]:
        return {key: cut(self.values[key], self.offsets[key], indices) for key in DIMS}

    def files(self, indices: Indices) -> Sequence[Path]:  # noqa: ARG002
        return list(self.paths.values())


class Mapped(SafeOpen):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for key, dim in DIMS.items():
            with self.paths[key].open("rb") as file:
                header = 8 + int.from_bytes(file.read(8), "little")
            self.values[key] = np.memmap(self.paths[key], "<f4", "r", header, (self.offsets[key][-1], dim))


FORMATS: dict[str, type[Format]] = {
    "store": Store,
    ".npy": Npy,
    "HDF5": Hdf5,
    "Hugging Face": HuggingFace,
    "Arrow": Arrow,
    "mapping": Mapped,
    "safe_open": SafeOpen,
}
