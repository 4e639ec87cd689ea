"""How well each sample's own match is found among a whole split, from one modality to another, and what that sums up to.

Every query ranks the candidates by cosine similarity; the rank of its own match is 1 + the number of others that are as
similar or more so: ties count against it, so that embeddings that are all alike find nothing. A candidate that is not its
own but bears the same text is left out of its ranking (it would be just as right); samples of one group are different
clips, and stay. Ranks are those among all samples of the split that have both modalities; a metric of one stream looks at
that stream's queries.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Pairs = Sequence[tuple[str, str]]
_TIE = 1e-9  # what rounding of a float64 product may make of equal similarities
_METRICS = ("recall@1", "recall@5", "recall@10", "median_rank")


def directions(pairs: Pairs) -> Iterator[tuple[str, str, str]]:
    """(name, modality of the queries, modality of the candidates)."""
    for first, second in pairs:
        yield f"{first}_to_{second}", first, second
        yield f"{second}_to_{first}", second, first


def retrieval_ranks(
    embeddings: Mapping[str, npt.NDArray[np.floating]],
    text_keys: npt.NDArray[np.int64],
    pairs: Pairs,
    *,
    chunk: int = 256,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Direction -> the rank of each sample's own match, and among how many candidates, [N] each; NaN without the pair.

    `embeddings`: [N, D] by modality, NaN rows where it is missing; `text_keys` [N]: alike where the text is. `chunk` queries
    are compared at a time: memory grows with N, not with its square.
    """
    ranks, candidates = {}, {}
    for name, source, target in directions(pairs):
        both = np.flatnonzero(~np.isnan(embeddings[source][:, 0]) & ~np.isnan(embeddings[target][:, 0]))
        queries, matches = (embeddings[modality][both].astype(np.float64) for modality in (source, target))
        ranks[name], candidates[name] = (np.full(len(text_keys), np.nan) for _ in range(2))
        for start in range(0, len(both), chunk):
            part = slice(start, start + chunk)
            similarity = queries[part] @ matches.T  # [n, N]
            place = np.arange(len(similarity)), start + np.arange(len(similarity))
            others = text_keys[both[part]][:, None] != text_keys[both]
            is_ahead = ~(similarity < similarity[place][:, None] - _TIE)  # NaN is ahead of everything
            ranks[name][both[part]] = 1 + (is_ahead & others).sum(axis=1)
            candidates[name][both[part]] = 1 + others.sum(axis=1)
    return ranks, candidates


def retrieval_names(names: Sequence[str]) -> list[str]:
    """The metrics of a task with directions of these `names`, the means over them first; none without a direction."""
    return [*_METRICS, *(f"{name}_{metric}" for name in names for metric in _METRICS)] if names else []


def retrieval_statistic(metric: str, ranks: Mapping[str, Floats]) -> Callable[[npt.NDArray[np.int64]], float]:
    """A metric of the samples at an index; NaN where none has a pair. Of no direction: the mean over those with samples."""
    chosen = _chosen(metric, ranks)

    def statistic(index: npt.NDArray[np.int64]) -> float:
        found = [values[index] for values in chosen]
        means = [_of(metric, values[~np.isnan(values)]) for values in found if not np.isnan(values).all()]
        return float(np.mean(means)) if means else float("nan")

    return statistic


def retrieval_chance(metric: str, candidates: Mapping[str, Floats]) -> float:
    """The expected metric of rankings at random; a median rank: the median over queries of (candidates + 1) / 2."""
    is_rank = metric.endswith("median_rank")
    defined = [values[~np.isnan(values)] for values in _chosen(metric, candidates)]
    means = [
        float(np.median((values + 1) / 2) if is_rank else np.minimum(_depth(metric) / values, 1).mean())
        for values in defined
        if len(values)
    ]
    return float(np.mean(means)) if means else float("nan")


def _chosen(metric: str, by_direction: Mapping[str, Floats]) -> list[Floats]:
    """Those of the direction that a metric is of, or of all."""
    own = [values for name, values in by_direction.items() if metric in [f"{name}_{kind}" for kind in _METRICS]]
    return own or list(by_direction.values())


def _of(metric: str, ranks: Floats) -> float:
    return float(np.median(ranks)) if metric.endswith("median_rank") else float((ranks <= _depth(metric)).mean())


def _depth(metric: str) -> int:
    return int(metric.rpartition("@")[2])
