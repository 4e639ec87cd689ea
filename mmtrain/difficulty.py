"""How hard each training sample is, where that is known before the training: what pacings by difficulty are given."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmtrain.curriculum.pacing import PacingConfig
from mmtrain.curriculum.pacing.difficulty.column import ColumnConfig
from mmtrain.curriculum.pacing.difficulty.data_map import DataMapConfig
from mmtrain.curriculum.pacing.difficulty.predictions import PredictionsConfig
from mmtrain.curriculum.pacing.difficulty.text_length import TextLengthConfig
from mmtrain.curriculum.pacing.protocol import Graded
from mmtrain.data.dataset import Stream
from mmtrain.errors import DataError
from mmtrain.evaluation.data_map_file import read_data_map
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.predictions import with_losses

Floats = npt.NDArray[np.float32]
_KEY = "curriculum.pacing.difficulty"


def read_difficulties(pacing: PacingConfig, streams: Sequence[Stream]) -> dict[str, Floats]:
    """Stream -> the difficulty of its samples by position, [N]; empty where the pacing needs none before the training.

    Errors: DataError where a sample has no such number.
    """
    source = pacing.difficulty if isinstance(pacing, Graded) else None
    if isinstance(source, ColumnConfig):
        return {stream.name: _column(stream, source.column) for stream in streams}
    if isinstance(source, TextLengthConfig):
        return {stream.name: _text_length(stream) for stream in streams}
    if isinstance(source, PredictionsConfig):
        losses = _mean_losses(Path(source.file))
        return {stream.name: _predicted(stream, losses, source.file) for stream in streams}
    if isinstance(source, DataMapConfig):
        mapped = _mean_hardness(Path(source.file), source.column)
        return {stream.name: _mapped(stream, mapped, source) for stream in streams}
    return {}


def _column(stream: Stream, name: str) -> Floats:
    store = stream.store
    try:
        column = store.column(name)
    except DataError as error:
        raise DataError(f"{_KEY}.column: {error}") from None
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(
            f"{_KEY}.column: '{name}' of store '{store.name}' ({store.path}) is {column.type}, not a number; name a numeric "
            "column"
        )
    values: npt.NDArray[np.float64] = column.to_numpy()[stream.indices].astype(np.float64)  # null becomes NaN
    _refuse_missing(stream, values, f"column '{name}' of store '{store.name}' has no finite number", "Fill them in")
    return values.astype(np.float32)


def _text_length(stream: Stream) -> Floats:
    lengths = stream.store.text_lengths[stream.indices]
    if not lengths.any():
        raise DataError(
            f"{_KEY}: text_length, but no training sample of stream '{stream.name}' (store '{stream.store.name}') has a "
            "text. Use another difficulty"
        )
    return lengths.astype(np.float32)


def _mean_losses(file: Path) -> dict[str, dict[str, float]]:
    """Stream -> id -> mean loss over the tasks of a predictions file."""
    return _means(
        row
        for item in map(with_losses, read_predictions(file).values())
        for row in zip(item.streams.tolist(), item.ids.tolist(), item.losses.tolist(), strict=True)
    )


def _predicted(stream: Stream, losses: Mapping[str, Mapping[str, float]], file: str) -> Floats:
    if stream.name not in losses:
        raise DataError(
            f"{_KEY}.file: {file} has no stream '{stream.name}'; its streams are {', '.join(sorted(losses)) or 'none'}. "
            "Give the predictions of a run with this stream: `mmtrain evaluate RUN --split train` writes them"
        )
    known = losses[stream.name]
    ids = stream.store.column("id").take(stream.indices).to_pylist()
    values = np.array([known.get(name, np.nan) for name in ids])
    remedy = "Give the predictions of a run on the same training samples: `mmtrain evaluate RUN --split train` writes them"
    _refuse_missing(stream, values, f"{file} has no finite loss", remedy)
    return values.astype(np.float32)


def _mean_hardness(file: Path, column: str) -> dict[str, dict[str, float]]:
    """Stream -> id -> how hard, the mean over the tasks of a data map."""
    table = read_data_map(file)
    values = table[column].to_numpy().astype(np.float64)
    if column == "confidence":
        values = 1 - values
    elif column == "forgetting_events":
        values = np.where(table["first_learned"].is_null().to_numpy(), table["epochs"].to_numpy(), values)
    return _means(zip(table["stream"].to_pylist(), table["id"].to_pylist(), values.tolist(), strict=True))


def _mapped(stream: Stream, mapped: Mapping[str, Mapping[str, float]], source: DataMapConfig) -> Floats:
    """Of a stream whose samples are all in the data map."""
    known = mapped.get(stream.name, {})
    ids = stream.store.column("id").take(stream.indices).to_pylist()
    values = np.array([known.get(name, np.nan) for name in ids])
    remedy = (
        "Give the map of a run on the same training samples (`mmtrain datamap RUN` writes it; regression and pretext tasks "
        "are not in it)"
    )
    _refuse_missing(stream, values, f"{source.file} has no {source.column}", remedy)
    return values.astype(np.float32)


def _means(rows: Iterable[tuple[str, str, float]]) -> dict[str, dict[str, float]]:
    """(stream, id, value) -> the mean value by stream and id."""
    sums: dict[str, dict[str, list[float]]] = {}
    for stream, name, value in rows:
        total = sums.setdefault(stream, {}).setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += 1
    return {stream: {name: total / n for name, (total, n) in ids.items()} for stream, ids in sums.items()}


def _refuse_missing(stream: Stream, values: npt.NDArray[np.float64], what: str, remedy: str) -> None:
    """Errors: DataError naming the first sample of the stream whose value [N] is none that float32 can hold."""
    missing = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(missing):
        first = stream.store.sample_id(int(stream.indices[missing[0]]))
        raise DataError(
            f"{_KEY}: {what} for {len(missing)} of the {len(values)} training samples of stream '{stream.name}', such as "
            f"'{first}'. {remedy}, or use another difficulty"
        )
