"""Dividing groups over train, val and test: no group on two sides, every count near its share, the same on every machine."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mmtrain.data.schema import SPLITS


def split_groups(
    groups: Mapping[str, Mapping[str, int]], *, ratios: tuple[float, float, float] = (0.7, 0.15, 0.15)
) -> dict[str, str]:
    """The split of each group, from its counts: samples, and whatever else should be spread in the same proportion.

    Groups are placed largest first (equal ones in the order of their hashes), each where the counts, relative to what the
    split should hold, grow least.
    """
    totals: Counter[str] = Counter()
    for counts in groups.values():
        totals.update(counts)
    filled: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    shares = dict(zip(SPLITS, ratios, strict=True))

    def growth(split: str, counts: Mapping[str, int]) -> float:
        parts = ((2 * filled[split][key] + count) * count / totals[key] ** 2 for key, count in counts.items() if count)
        return sum(parts) / shares[split]

    order = sorted(groups, key=lambda group: (-max(groups[group].values(), default=0), _hash(group)))
    sides = {}
    for group in order:
        side = min((split for split in SPLITS if shares[split] > 0), key=lambda split: growth(split, groups[group]))
        filled[side].update(groups[group])
        sides[group] = side
    return sides


def join_equal_texts(samples: Sequence[tuple[str, str]]) -> list[str]:
    """Groups of (group, text) samples, merged until no text stands in two of them; a merged group takes its first name."""
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.setdefault(group, group) != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for group, text in samples:
        known = root(first.setdefault(" ".join(text.casefold().split()), group))
        parent[root(group)] = known
    return [root(group) for group, _ in samples]


def count_by_group(samples: Iterable[tuple[str, Iterable[str]]]) -> dict[str, Counter[str]]:
    """Counts for `split_groups` from (group, names of what is to be spread); samples are counted by themselves."""
    counts: dict[str, Counter[str]] = {}
    for group, names in samples:
        counts.setdefault(group, Counter()).update(("samples", *names))
    return counts


def _hash(group: str) -> str:
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()
