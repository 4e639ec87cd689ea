"""Mean and standard deviation of every feature dimension over train, kept in dataset.json and applied when rows are read."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.rewriting import open_source, origin, read_cells
from mmtrain.data.moments import train_moments
from mmtrain.data.normalize import is_constant
from mmtrain.data.schema import Statistics, StoreSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import check_target, publish
from mmtrain.errors import ConfigError, DataError


def measure_store(path: Path, *, out: Path | None = None, normalize: bool = False, overwrite: bool = False) -> list[str]:
    """Measure a store, and with `out` write it with its statistics; returns a line for each modality.

    The data files of `out` are hard links to those that were read where the file system allows it, else copies.
    `normalize`: rows of the new store are read as (row - mean) / deviation. Pixels are left out.
    Errors: ConfigError for `normalize` without `out`, DataError where there is nothing to measure, or NaN or Inf.
    """
    if normalize and out is None:
        raise ConfigError("--normalize: the store itself stays as it is; name the folder of a new one by --out")
    store = open_source(path, out=out, overwrite=overwrite)
    found = statistics_of(store, normalize=normalize)
    if not found:
        raise DataError(f"stats: store '{store.name}' ({path}) has no features in train to measure")
    lines = [_line(name, statistics) for name, statistics in found.items()]
    lines += [f"{name}: {reason}" for name, reason in _left_out(store, found)]
    if out is not None:
        modalities = {
            name: modality.model_copy(update={"statistics": found.get(name)})
            for name, modality in store.schema.modalities.items()
        }
        provenance = {"made_by": "python -m data_prep stats", "normalize": normalize, "sources": [origin(store)]}
        _link(store, out, store.schema.model_copy(update={"modalities": modalities, "provenance": provenance}), overwrite)
    return lines


def statistics_of(store: FeatureStore, *, normalize: bool) -> dict[str, Statistics]:
    """Of every modality of features that has rows in train."""
    is_train = np.fromiter((cells["split"] == "train" for _, cells in read_cells(store, ["split"])), bool, len(store))
    found = {}
    for name, modality in store.schema.modalities.items():
        if modality.shape is None:
            moments = train_moments(store.path, name, modality, is_train)
            if moments.rows:
                found[name] = moments.statistics(normalize=normalize)
    return found


def _line(name: str, statistics: Statistics) -> str:
    mean, deviation, constant = np.array(statistics.mean), np.array(statistics.deviation), is_constant(statistics)
    return (
        f"{name}: {statistics.rows} rows of train, {len(mean)} dimensions, mean {mean.min():.4g} to {mean.max():.4g}, "
        f"deviation {deviation.min():.4g} to {deviation.max():.4g}"
        + (f", {constant.sum()} that do not vary (centered, not scaled)" if constant.any() else "")
    )


def _left_out(store: FeatureStore, found: dict[str, Statistics]) -> Iterator[tuple[str, str]]:
    for name, modality in store.schema.modalities.items():
        if name not in found:
            yield name, "no rows in train, left as it is" if modality.shape is None else "pixels, left as they are"


def _link(store: FeatureStore, out: Path, schema: StoreSchema, overwrite: bool) -> None:
    """The same data files under another dataset.json; whole or not at all."""
    check_target(out, overwrite=overwrite)
    folder = out.with_name(out.name + ".partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for name in schema.files:
            if Path(name).name != name or (store.path / name).is_symlink():
                raise DataError(f"{store.path / name} is not a plain file inside the store")
            try:
                os.link(store.path / name, folder / name)
            except OSError:
                shutil.copyfile(store.path / name, folder / name)
        publish(folder, out, schema)
    except FileNotFoundError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"{error.filename} is missing, though dataset.json names it") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
