"""The samples with the highest losses, with what was said in them."""

from collections.abc import Mapping

import numpy as np

from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError
from mmtrain.evaluation.predictions import Predictions, TaskPredictions, with_losses
from mmtrain.report.parts import DataTable, Missing, Part, Section, Value
from mmtrain.report.run_record import RunRecord

_TITLE = "Worst samples"
_FORMATS = {"loss": ".4f", "label": ".3f", "prediction": ".3f", "p of the label": ".3f"}
_MOST_LABELS = 6


def worst_section(record: RunRecord) -> Section:
    """The samples with the highest losses, task by task."""
    if not record.predictions:
        return Section(_TITLE, [Missing("No predictions yet", record.command("evaluate --split val"))])
    texts = _Texts(record)
    parts: list[Part] = ["The samples with the highest losses, as the model that was evaluated sees them."]
    for split, tasks in record.predictions.items():
        for item in tasks.values():
            cut = item.cut if isinstance(item, TaskPredictions) else 0.5
            parts.append(_table(with_losses(item), split, texts, cut=cut))
    return Section(_TITLE, [*parts, *map(Missing, texts.complaints)])


class _Texts:
    """Texts of samples by stream, as the stores have them."""

    def __init__(self, record: RunRecord) -> None:
        self.limits, self.complaints = record.limits, list[str]()
        datasets = {name: entry["store"] for name, entry in record.config["datasets"].items()}
        self._stores = {stream: datasets[entry["dataset"]] for stream, entry in record.config["streams"].items()}
        self._found: dict[str, Mapping[str, str]] = {}

    def of(self, stream: str, ids: list[str]) -> Mapping[str, str]:
        """id -> text, of those that the stream's store has; a store that is not there is complained of once."""
        path = self._stores.get(stream, "")
        try:
            return _texts(path, ids)
        except (DataError, OSError) as error:
            if (words := f"The texts of stream {stream} are not shown: {error}") not in self.complaints:
                self.complaints.append(words)
            return {}

    def cut(self, text: str) -> str:
        return text if len(text) <= self.limits.texts else f"{text[: self.limits.texts]}\u2026"


def _texts(path: str, ids: list[str]) -> Mapping[str, str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = FeatureStore(path).table.select(["id", "text"])
    rows = table.filter(pc.is_in(table["id"], value_set=pa.array(ids, pa.string())))
    return {str(name): text or "" for name, text in zip(*(rows[key].to_pylist() for key in ("id", "text")), strict=True)}


def _table(item: Predictions, split: str, texts: _Texts, *, cut: float) -> DataTable:
    most = texts.limits.rows
    order = np.argsort(-item.losses, kind="stable")[:most]
    worst = item.subset(order)
    by_stream = {
        stream: texts.of(stream, worst.ids[worst.streams == stream].tolist())
        for stream in dict.fromkeys(worst.streams.tolist())
    }
    header = ("loss", *_answer_header(worst), "text", "id", "stream", "group")
    rows: list[list[Value]] = []
    for number, (name, stream) in enumerate(zip(worst.ids.tolist(), worst.streams.tolist(), strict=True)):
        text = texts.cut(by_stream[stream].get(name, ""))
        group = str(worst.groups[number])
        rows.append([float(worst.losses[number]), *_answers(worst, number, cut=cut), text, name, stream, group])
    note = f"The {len(rows):,} highest losses of {len(item):,} samples." if len(item) > len(rows) else ""
    return DataTable(title=f"{item.task}, {split}", header=header, rows=rows, formats=_FORMATS, note=note)


def _answer_header(item: Predictions) -> tuple[str, ...]:
    if not isinstance(item, TaskPredictions):
        return ()
    return ("label", "prediction") if item.kind == "regression" else ("label", "prediction", "p of the label")


def _answers(item: Predictions, number: int, *, cut: float) -> list[Value]:
    """Label and prediction in words or units, and the probability that the label was given."""
    if not isinstance(item, TaskPredictions):
        return []
    label, probability = item.labels[number], item.probabilities[number]
    if item.kind == "regression":
        return [float(label), float(probability)]
    if item.kind == "binary":
        given = float(probability if label else 1 - probability)
        return ["yes" if label else "no", "yes" if probability > cut else "no", given]
    if item.kind == "multiclass":
        return [item.classes[int(label)], item.classes[int(probability.argmax())], float(probability[int(label)])]
    given = float(np.where(label > 0, probability, 1 - probability).prod())
    return [_names(item, label > 0), _names(item, probability > cut), given]


def _names(item: TaskPredictions, chosen: np.ndarray) -> str:
    names = [name for name, is_chosen in zip(item.classes, chosen, strict=True) if is_chosen]
    more = f", +{len(names) - _MOST_LABELS}" if len(names) > _MOST_LABELS else ""
    return ", ".join(names[:_MOST_LABELS]) + more
