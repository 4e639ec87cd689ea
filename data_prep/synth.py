"""A synthetic feature store whose labels can be learned from every modality, as strongly as asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.data.sample_row import Label
from mmtrain.data.schema import SPLITS, FeatureSpec, FrameShape, TaskKind, TaskSchema
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

_FILLERS = ("the", "a", "fish", "clip", "is", "was", "very", "who", "what", "you", "i", "we", "here", "there")
_CARRIERS = (
    *("funny", "sad", "good", "bad", "red", "blue", "big", "small", "laugh", "cry", "dance", "sing"),
    *("go", "stop", "never", "always", "water", "sea", "king", "ship", "gold", "look", "not"),
)
_ROW_STRENGTH = 0.5  # length of the planted mean at signal 1, where a row's noise is 1: a few rows together tell nearly all
_CONTRAST = 24.0  # of 255: what a row's 1 is in pixels
_WORD_STRENGTH = 0.8  # how often a carrying word tells the truth at signal 1; else it is drawn blindly
_CLASSES = ("first", "second", "third")


@dataclass(frozen=True)
class _Planted:
    """One task's hidden answers: labels, their code in the feature rows [N, K] and whose words the text holds [N, W]."""

    schema: TaskSchema
    labels: list[Label]
    codes: npt.NDArray[np.float64]
    bins: npt.NDArray[np.bool_]


def synthesize(  # noqa: PLR0913 - one keyword per knob, each with a default
    path: str | Path,
    *,
    name: str = "synth",
    samples: int = 600,
    modalities: Mapping[str, int | FrameShape] | None = None,
    tasks: Mapping[str, TaskKind] | None = None,
    seed: int = 0,
    signal: float = 1.0,
    missing: float = 0.1,
    unlabelled: float = 0.1,
    imbalance: Mapping[str, float] | None = None,
    groups: int | None = None,
    max_rows: int = 12,
    ratios: tuple[float, float, float] = (0.7, 0.15, 0.15),
    dtype: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Write a store with a planted signal in its text and in every feature modality; the same arguments give the same bytes.

    `modalities`: name -> width, or (3, H, W) of pixels (default audio 16, video 24); `tasks`: name -> kind (default `funny`,
    binary); `signal`: 0 = nothing to learn, 1 = nearly everything; `missing`: rate at which each modality (text too) is left
    out, never all of a sample; `unlabelled`: rate of missing labels per task; `imbalance`: task -> share of positives
    (binary, multilabel); `groups`: number of groups (default one in 8 samples), each on one side of `ratios`.
    Errors: DataError.
    """
    modalities = {"audio": 16, "video": 24} if modalities is None else dict(modalities)
    tasks = {"funny": "binary"} if tasks is None else dict(tasks)
    groups = min(samples, max(10, samples // 8)) if groups is None else groups
    _check(samples, {"missing": missing, "unlabelled": unlabelled, **(imbalance or {})}, groups, max_rows)
    sides = np.array(_split_groups(groups, ratios))[np.arange(samples) % groups]
    random = np.random.default_rng(seed)
    planted = {task: _plant(random, kind, sides, (imbalance or {}).get(task, 0.5)) for task, kind in tasks.items()}
    kept = _keep(random, samples, len(modalities) + 1, missing)
    pictures = {key: rows for key, rows in modalities.items() if not isinstance(rows, int)}
    widths = {key: rows if isinstance(rows, int) else 3 for key, rows in modalities.items()}
    rows = _rows(random, widths, planted, signal)
    writer = StoreWriter(
        path,
        name=name,
        modalities={key: _spec(rows, dtype) for key, rows in modalities.items()},
        tasks={task: item.schema for task, item in planted.items()},
        licence="CC0-1.0",
        provenance={"made_by": "python -m data_prep synth", "seed": seed, "signal": signal, "missing": missing},
        overwrite=overwrite,
    )
    with writer:
        for index in range(samples):
            text = _text(random, [item.bins[index] for item in planted.values()], signal)
            drawn = rows(index, int(random.integers(1, max_rows + 1)))
            writer.add(
                id=f"{name}-{index:06d}",
                split=str(sides[index]),
                group=f"group-{index % groups:05d}",
                text=text if kept[index, 0] else "",
                features={
                    key: _paint(random, drawn[key], pictures[key]) if key in pictures else drawn[key]
                    for key, keep in zip(drawn, kept[index, 1:], strict=True)
                    if keep
                },
                labels={task: item.labels[index] for task, item in planted.items() if random.random() >= unlabelled},
            )
    return Path(path)


def _rows(
    random: np.random.Generator, modalities: Mapping[str, int], planted: Mapping[str, _Planted], signal: float
) -> Callable[[int, int], dict[str, npt.NDArray[np.float64]]]:
    """A function of a sample's index and number of rows that draws its rows [T, D] in every modality."""
    codes = [item.codes for item in planted.values()]
    directions = {
        modality: [_directions(random, code.shape[1], dim) for code in codes] for modality, dim in modalities.items()
    }

    def draw(index: int, num_rows: int) -> dict[str, npt.NDArray[np.float64]]:
        features = {}
        for modality, dim in modalities.items():
            told = [code[index] @ weight for code, weight in zip(codes, directions[modality], strict=True)]
            mean = signal * _ROW_STRENGTH * np.sum(told, axis=0)
            features[modality] = mean + random.standard_normal((num_rows, dim))
        return features

    return draw


def _check(samples: int, rates: Mapping[str, float], groups: int, max_rows: int) -> None:
    if samples < 1 or max_rows < 1 or not 1 <= groups <= samples:
        raise DataError(f"synth: {samples} samples in {groups} groups with up to {max_rows} rows; write 1 or more of each")
    for key, rate in rates.items():
        if not 0 <= rate <= 1:
            raise DataError(f"synth: the rate of '{key}' is {rate}; write a number from 0 to 1")


def _spec(rows: int | FrameShape, dtype: str) -> FeatureSpec:
    made: dict[str, Any] = {"rows_per_second": 10.0, "extractor": "synth", "extractor_version": "1"}
    if isinstance(rows, int):
        return FeatureSpec.model_validate({"dim": rows, "dtype": dtype, **made})
    return FeatureSpec.pixels(*rows[1:], **made)


def _paint(random: np.random.Generator, rows: npt.NDArray[np.float64], shape: FrameShape) -> npt.NDArray[np.uint8]:
    """A picture [3, H, W] for each row [3]: what the row says is the tint, under noise in every pixel."""
    noise = random.standard_normal((len(rows), *shape))
    return (128 + _CONTRAST * (rows[:, :, None, None] + noise)).round().clip(0, 255).astype(np.uint8)


def _split_groups(groups: int, ratios: Sequence[float]) -> list[str]:
    """The split of each group; a split whose ratio is not 0 has at least one."""
    if abs(sum(ratios) - 1) > 1e-6 or min(ratios) < 0:
        raise DataError(f"synth: split ratios {tuple(ratios)} do not sum to 1; write three shares, such as 0.7,0.15,0.15")
    counts = [max(1, round(ratio * groups)) if ratio else 0 for ratio in ratios]
    largest = max(range(len(counts)), key=counts.__getitem__)
    counts[largest] += groups - sum(counts)
    if counts[largest] < 1:
        raise DataError(f"synth: {groups} groups cannot fill the splits {tuple(ratios)}; write more groups")
    return [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]


def _plant(random: np.random.Generator, kind: TaskKind, sides: npt.NDArray[np.str_], positive: float) -> _Planted:
    """Draw the answers of one task, as evenly as its rates allow within each split."""
    if kind == "regression":
        scores = np.array([round(NormalDist().inv_cdf(value), 6) for value in _even(random, sides)], dtype=np.float64)
        thirds = np.digitize(scores, [-0.43, 0.43])
        return _Planted(TaskSchema(kind=kind), scores.tolist(), scores[:, None], np.eye(3, dtype=bool)[thirds])
    if kind == "multiclass":
        classes = (_even(random, sides) * 3).astype(int)
        one_hot = np.eye(3, dtype=bool)[classes]
        return _Planted(TaskSchema(kind=kind, classes=_CLASSES), classes.tolist(), 2.0 * one_hot.astype(np.float64), one_hot)
    if kind == "multilabel":
        flags = np.stack([_even(random, sides) < positive for _ in _CLASSES], axis=1)
        return _Planted(
            TaskSchema(kind=kind, classes=_CLASSES), flags.astype(int).tolist(), 2.0 * flags.astype(np.float64) - 1, flags
        )
    if kind != "binary":
        raise DataError(f"synth: task kind '{kind}' is unknown; write binary, multiclass, multilabel or regression")
    answers = (_even(random, sides) < positive)[:, None]
    codes = 2.0 * answers.astype(np.float64) - 1
    return _Planted(TaskSchema(kind=kind), answers[:, 0].astype(int).tolist(), codes, np.hstack([~answers, answers]))


def _even(random: np.random.Generator, sides: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Numbers in (0, 1), [N], evenly spaced within each split, in random order."""
    values = np.empty(len(sides))
    for side in dict.fromkeys(sides.tolist()):
        members = np.flatnonzero(sides == side)
        values[members] = (random.permutation(len(members)) + 0.5) / len(members)
    return values


def _directions(random: np.random.Generator, codes: int, dim: int) -> npt.NDArray[np.float64]:
    weights = random.standard_normal((codes, dim))
    unit: npt.NDArray[np.float64] = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return unit


def _keep(random: np.random.Generator, samples: int, modalities: int, missing: float) -> npt.NDArray[np.bool_]:
    """Which modalities a sample has, [N, M]; at least one of them."""
    kept = random.random((samples, modalities)) >= missing
    spared = random.integers(0, modalities, samples)
    bare = ~kept.any(axis=1)
    kept[bare, spared[bare]] = True
    return kept


def _text(random: np.random.Generator, bins: Sequence[npt.NDArray[np.bool_]], signal: float) -> str:
    """Filler words with one word for each true bin of each task, each task owning its own words."""
    words = [str(word) for word in random.choice(_FILLERS, size=int(random.integers(3, 9)))]
    first = 0
    for flags in bins:
        truthful = random.random() < _WORD_STRENGTH * signal
        shown = flags if truthful else random.permutation(flags)
        words += [_CARRIERS[(first + int(place)) % len(_CARRIERS)] for place in np.flatnonzero(shown)]
        first += len(flags)
    return " ".join(str(word) for word in random.permutation(words))
