"""How embeddings lie on the sphere: alignment of the pairs of a sample, and uniformity of each modality."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Pairs = Sequence[tuple[str, str]]


def pair_distances(embeddings: Mapping[str, Floats], pairs: Pairs) -> dict[str, Floats]:
    """`first_second` -> [N] the squared distance of a sample's two vectors, NaN where it lacks one."""
    return {
        f"{first}_{second}": np.square(embeddings[first].astype(np.float64) - embeddings[second]).sum(axis=1)
        for first, second in pairs
    }


def potentials(embeddings: Mapping[str, Floats], *, chunk: int = 256) -> dict[str, Floats]:
    """Modality -> [N] the mean over all other samples of exp(-2 squared distance); NaN where a sample has none.

    `chunk` samples are compared at a time: memory grows with N, not with its square.
    """
    found = {}
    for modality, vectors in embeddings.items():
        own = np.flatnonzero(~np.isnan(vectors[:, 0]))
        rows = vectors[own].astype(np.float64)
        found[modality] = np.full(len(vectors), np.nan)
        for start in range(0, len(own) if len(own) > 1 else 0, chunk):
            part = rows[start : start + chunk]
            squares = np.square(part).sum(axis=1)[:, None] + np.square(rows).sum(axis=1) - 2 * part @ rows.T
            kernel = np.exp(-2 * np.maximum(squares, 0))  # [n, N]
            kernel[np.arange(len(part)), start + np.arange(len(part))] = 0
            found[modality][own[start : start + chunk]] = kernel.sum(axis=1) / (len(own) - 1)
    return found


def geometry_names(pairs: Sequence[str], modalities: Sequence[str]) -> list[str]:
    """The metrics of a task with embeddings, means first; none without a pair."""
    own = [*(f"{name}_alignment" for name in pairs), *(f"{name}_uniformity" for name in modalities)]
    return ["alignment", "uniformity", *own] if pairs else []


def geometry_statistic(
    metric: str, distances: Mapping[str, Floats], kernels: Mapping[str, Floats]
) -> Callable[[npt.NDArray[np.int64]], float]:
    """A metric of the samples at an index, whose potentials stay those among all; NaN where none has any.

    Alignment and uniformity of Wang and Isola 2020, "Understanding Contrastive Representation Learning", equations of
    section 4.1 with alpha 2 and t 2. Of no pair or modality: the mean over them.
    """
    name, _, kind = f"_{metric}".rpartition("_")
    columns, name = (distances if kind == "alignment" else kernels), name.removeprefix("_")
    chosen = [columns[name]] if name else list(columns.values())

    def statistic(index: npt.NDArray[np.int64]) -> float:
        found = [values[index] for values in chosen]
        means = [float(np.nanmean(values)) for values in found if not np.isnan(values).all()]
        if kind == "uniformity":
            means = [float(np.log(mean)) for mean in means if mean > 0]
        return float(np.mean(means)) if means else float("nan")

    return statistic
