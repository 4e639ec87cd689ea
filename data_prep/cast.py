"""The features of a store in another floating-point type, with what that costs them."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_prep.rewriting import add_sample, open_source, read_cells, spec_of, statistics_note, stored_features, writer_like
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError

Dtype = Literal["float16", "float32"]

_SHOWN = 3


@dataclass
class CastError:
    """How far the new numbers of a modality are from the old: largest, root mean square, and largest relative distance.

    `vanished`: numbers that were not 0 and are now. The relative distance is that of the numbers that did not vanish.
    """

    values: int = 0
    largest: float = 0.0
    largest_relative: float = 0.0
    vanished: int = 0
    squares: float = 0.0

    @property
    def root_mean_square(self) -> float:
        return math.sqrt(self.squares / self.values) if self.values else 0.0

    def see(self, old: npt.NDArray[np.number], new: npt.NDArray[np.number]) -> None:
        """Count the numbers of one sample."""
        before, after = old.astype(np.float64), new.astype(np.float64)
        distance = np.abs(after - before)
        kept = after != 0
        self.values += before.size
        self.largest = max(self.largest, float(distance.max(initial=0)))
        self.largest_relative = max(self.largest_relative, float((distance[kept] / np.abs(before[kept])).max(initial=0)))
        self.vanished += int(np.count_nonzero((before != 0) & ~kept))
        self.squares += float(np.square(distance).sum())


def cast_store(path: Path, *, out: Path, dtype: Dtype, overwrite: bool = False) -> tuple[dict[str, CastError], list[str]]:
    """Write the store with every modality of features in `dtype`; returns their errors and what else should be known.

    Pixels stay as they are. Errors: DataError where all is in that type already, or a number lies beyond its range.
    """
    store = open_source(path, out=out, overwrite=overwrite)
    own = {name: spec_of(modality) for name, modality in store.schema.modalities.items()}
    changed = [name for name, spec in own.items() if spec.shape is None and spec.dtype != dtype]
    if not changed:
        raise DataError(f"cast: store '{store.name}' ({path}) has no features that are not {dtype} already; nothing to do")
    _refuse_beyond(store, changed, dtype)
    specs = {name: spec.model_copy(update={"dtype": dtype}) if name in changed else spec for name, spec in own.items()}
    errors = {name: CastError() for name in changed}
    details: dict[str, object] = {"dtype": dtype, "modalities": changed}
    with writer_like(store, out, command="cast", details=details, modalities=specs, overwrite=overwrite) as writer:
        for index, cells in read_cells(store):
            features = stored_features(store, index)
            for name in features.keys() & errors.keys():
                old = features[name]
                features[name] = old.astype(dtype)
                errors[name].see(old, features[name])
            add_sample(writer, cells, features)
        for name, error in errors.items():
            values = asdict(error) | {"root_mean_square": error.root_mean_square}
            writer.provenance.setdefault("errors", {})[name] = {k: v for k, v in values.items() if k != "squares"}
    return errors, statistics_note(store)


def _refuse_beyond(store: FeatureStore, modalities: list[str], dtype: Dtype) -> None:
    """Errors: DataError naming the first samples with a number that the type cannot hold."""
    found = list(_beyond(store, modalities, dtype))
    if found:
        named = "; ".join(f"sample '{store.sample_id(index)}', {name}: {value:g}" for index, name, value in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataError(
            f"cast: numbers beyond the range of {dtype} (up to {np.finfo(dtype).max:g}) in {store.path}: {named}{more}. "
            "Keep the store as it is, scale such features before, or leave the samples out by `filter`"
        )


def _beyond(store: FeatureStore, modalities: list[str], dtype: Dtype) -> Iterator[tuple[int, str, float]]:
    """Index, modality and largest number of each sample that does not fit; what is not finite already does not either."""
    for name in modalities:
        for index in np.flatnonzero(store.lengths(name)):
            rows = store.stored_rows(name, int(index))
            with np.errstate(over="ignore"):
                bad = ~np.isfinite(rows.astype(dtype))
            if bad.any():
                yield int(index), name, float(rows[bad][np.abs(rows[bad]).argmax()])
