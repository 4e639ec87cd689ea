"""A synthetic feature store whose labels can be learned from every modality, as strongly as asked for."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.planting import Planted, plant, with_noise
from mmtrain.data.schema import SPLITS, FeatureSpec, FrameShape, TaskKind
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

Rate = float | Mapping[str, float]
DrawRows = Callable[[int, int], dict[str, npt.NDArray[np.float64]]]


@dataclass(frozen=True)
class _Knobs:
    """Every rate, by name; a text's modality is `text`."""

    signal: Mapping[str, float]  # by modality
    missing: Mapping[str, float]
    unlabelled: Mapping[str, float]  # by task
    difficulty: Mapping[str, float]
    noise: Mapping[str, float]


def synthesize(  # noqa: PLR0913 - one keyword per knob, each with a default
    path: str | Path,
    *,
    name: str = "synth",
    samples: int = 600,
    modalities: Mapping[str, int | FrameShape] | None = None,
    tasks: Mapping[str, TaskKind] | None = None,
    seed: int = 0,
    signal: Rate = 1.0,
    missing: Rate = 0.1,
    unlabelled: Rate = 0.1,
    difficulty: Rate = 0.0,
    noise: Rate = 0.0,
    imbalance: Mapping[str, float] | None = None,
    groups: int | None = None,
    max_rows: int = 12,
    ratios: tuple[float, float, float] = (0.7, 0.15, 0.15),
    dtype: str = "float32",
    overwrite: bool = False,
) -> Path:
    """Write a store with a planted signal in its text and in every feature modality; the same arguments give the same bytes.

    `modalities`: name -> width, or (3, H, W) of pixels (default audio 16, video 24); `tasks`: name -> kind (default `funny`,
    binary); `groups`: number of groups (default one in 8 samples), each on one side of `ratios`.

    By modality, text too, a number for all or a mapping of those that differ from the default: `signal`: 0 = nothing to
    learn, 1 = nearly everything; `missing`: rate at which it is left out, never all of a sample. By task, likewise:
    `unlabelled`: rate of missing labels; `difficulty`: 0 = as the signal is, 1 = nothing tells it; `noise`: rate of wrong
    labels. `imbalance`: task -> share of positives (binary, each class of multilabel) or of the first class (multiclass).
    Errors: DataError.
    """
    modalities = {"audio": 16, "video": 24} if modalities is None else dict(modalities)
    tasks = {"funny": "binary"} if tasks is None else dict(tasks)
    groups = min(samples, max(10, samples // 8)) if groups is None else groups
    _check(samples, groups, max_rows)
    sources = ("text", *modalities)
    knobs = _Knobs(
        signal=_by_name("signal", signal, 1.0, sources, most=math.inf),
        missing=_by_name("missing", missing, 0.1, sources),
        unlabelled=_by_name("unlabelled", unlabelled, 0.1, tasks),
        difficulty=_by_name("difficulty", difficulty, 0.0, tasks),
        noise=_by_name("noise", noise, 0.0, tasks),
    )
    shares = dict(imbalance or {})
    _check_rates("imbalance", shares, list(tasks))
    sides = np.array(_split_groups(groups, ratios))[np.arange(samples) % groups]
    random = np.random.default_rng(seed)
    planted = {
        task: with_noise(plant(random, kind, sides, shares.get(task)), knobs.noise[task], seed=seed, task=task)
        for task, kind in tasks.items()
    }
    kept = _keep(random, samples, [knobs.missing[source] for source in sources])
    content = _Content(random, planted, knobs, kept, modalities, _rows(random, modalities, planted, knobs), max_rows)
    writer = StoreWriter(
        path,
        name=name,
        modalities={key: _spec(rows, dtype) for key, rows in modalities.items()},
        tasks={task: item.schema for task, item in planted.items()},
        licence="CC0-1.0",
        provenance={"made_by": "python -m data_prep synth", "seed": seed, **vars(knobs), "imbalance": shares},
        overwrite=overwrite,
    )
    with writer:
        for index in range(samples):
            writer.add(
                id=f"{name}-{index:06d}",
                split=str(sides[index]),
                group=f"group-{index % groups:05d}",
                **content.of(index),
            )
    return Path(path)


@dataclass(frozen=True)
class _Content:
    """What the samples hold, drawn one after the other."""

    random: np.random.Generator
    planted: Mapping[str, Planted]  # by task
    knobs: _Knobs
    kept: npt.NDArray[np.bool_]  # [N, M], the text first
    modalities: Mapping[str, int | FrameShape]
    draw: DrawRows
    max_rows: int

    def of(self, index: int) -> dict[str, Any]:
        """Text, features and labels of the next sample, `index`."""
        text = _text(self.random, {task: item.bins[index] for task, item in self.planted.items()}, self.knobs)
        features: dict[str, npt.NDArray[Any]] = {}
        drawn = self.draw(index, int(self.random.integers(1, self.max_rows + 1)))
        for (name, rows), is_kept in zip(drawn.items(), self.kept[index, 1:], strict=True):
            shape = self.modalities[name]
            if is_kept:
                features[name] = rows if isinstance(shape, int) else _paint(self.random, rows, shape)
        labels = {
            task: item.labels[index]
            for task, item in self.planted.items()
            if self.random.random() >= self.knobs.unlabelled[task]
        }
        return {"text": text if self.kept[index, 0] else "", "features": features, "labels": labels}


def _by_name(knob: str, given: Rate, default: float, names: Iterable[str], *, most: float = 1.0) -> dict[str, float]:
    """A knob's number for each name. Errors: DataError, see `_check_rates`."""
    known = list(names)
    asked = given if isinstance(given, Mapping) else dict.fromkeys(known, given)
    _check_rates(knob, asked, known, most=most)
    return {name: float(asked.get(name, default)) for name in known}


def _check_rates(knob: str, asked: Mapping[str, float], known: Sequence[str], *, most: float = 1.0) -> None:
    """Errors: DataError for an unknown name, or a number out of range."""
    for name, rate in asked.items():
        if name not in known:
            raise DataError(f"synth: {knob} of '{name}', which there is not; there are {', '.join(known)}")
        if not 0 <= rate <= most or not math.isfinite(rate):
            wanted = "a number from 0 to 1" if most == 1 else "a number, 0 or more"
            raise DataError(f"synth: the {knob} of '{name}' is {rate}; write {wanted}")


def _rows(
    random: np.random.Generator, modalities: Mapping[str, int | FrameShape], planted: Mapping[str, Planted], knobs: _Knobs
) -> DrawRows:
    """A function of a sample's index and number of rows that draws its rows [T, D] in every modality; of pixels [T, 3]."""
    widths = {name: width if isinstance(width, int) else 3 for name, width in modalities.items()}
    codes = [(1 - knobs.difficulty[task]) * item.codes for task, item in planted.items()]
    directions = {modality: [_directions(random, code.shape[1], dim) for code in codes] for modality, dim in widths.items()}

    def draw(index: int, num_rows: int) -> dict[str, npt.NDArray[np.float64]]:
        features = {}
        for modality, dim in widths.items():
            told = [code[index] @ weight for code, weight in zip(codes, directions[modality], strict=True)]
            mean = knobs.signal[modality] * _ROW_STRENGTH * np.sum(told, axis=0)
            features[modality] = mean + random.standard_normal((num_rows, dim))
        return features

    return draw


def _check(samples: int, groups: int, max_rows: int) -> None:
    if samples < 1 or max_rows < 1 or not 1 <= groups <= samples:
        raise DataError(f"synth: {samples} samples in {groups} groups with up to {max_rows} rows; write 1 or more of each")


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


def _directions(random: np.random.Generator, codes: int, dim: int) -> npt.NDArray[np.float64]:
    weights = random.standard_normal((codes, dim))
    unit: npt.NDArray[np.float64] = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return unit


def _keep(random: np.random.Generator, samples: int, missing: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which modalities a sample has, [N, M]; at least one of them."""
    kept = random.random((samples, len(missing))) >= np.array(missing)
    spared = random.integers(0, len(missing), samples)
    bare = ~kept.any(axis=1)
    kept[bare, spared[bare]] = True
    return kept


def _text(random: np.random.Generator, bins: Mapping[str, npt.NDArray[np.bool_]], knobs: _Knobs) -> str:
    """Filler words with one word for each true bin of each task, each task owning its own words."""
    words = [str(word) for word in random.choice(_FILLERS, size=int(random.integers(3, 9)))]
    first = 0
    for task, flags in bins.items():
        truthful = random.random() < _WORD_STRENGTH * knobs.signal["text"] * (1 - knobs.difficulty[task])
        shown = flags if truthful else random.permutation(flags)
        words += [_CARRIERS[(first + int(place)) % len(_CARRIERS)] for place in np.flatnonzero(shown)]
        first += len(flags)
    return " ".join(str(word) for word in random.permutation(words))
