"""What a trained model asks of its inputs and says of its outputs, so that it is used without the data it learned from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mmtrain.config import Experiment
from mmtrain.data.schema import FrameShape, Statistics, TaskKind
from mmtrain.data.store import FeatureStore
from mmtrain.errors import CheckpointError, DataError
from mmtrain.objectives.losses.regression import RegressionLoss
from mmtrain.objectives.objective import Objective
from mmtrain.section import Section

FILE = "signature.json"


class Source(Section):
    """How the rows of a modality were made in one dataset."""

    extractor: str
    extractor_version: str
    rows_per_second: float | None
    made: dict[str, Any] | None = Field(description="What its store's provenance says of the extractor; null: nothing.")
    statistics: Statistics | None = Field(
        description="By which its rows are normalized as they are read; null: they are not."
    )

    def differences(self, other: "Source") -> list[str]:
        """What tells the extractors of two sources apart, in words; options and weights where both say them."""
        names = ("extractor", "extractor_version", "rows_per_second")
        found = [
            f"{name} {getattr(other, name)!r} for {getattr(self, name)!r}" for name in names if _differ(self, other, name)
        ]
        if self.made is not None and other.made is not None:
            own, its = _settings(self.made), _settings(other.made)
            found += [f"{key} {its.get(key)!r} for {value!r}" for key, value in own.items() if its.get(key) != value]
        return found


def _settings(made: Mapping[str, Any]) -> dict[str, Any]:
    """What rows depend on, of what provenance says; files by their hash alone, wherever they lie."""
    options = {key: value for key, value in made.get("options", {}).items() if key not in ("device", "batch_size", "path")}
    weights = sorted(made.get("weights_sha256", {}).values())
    return {"weights": weights, "frames_per_second": made.get("frames_per_second"), "options": options}


def _differ(one: Source, other: Source, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


class ModalityInput(Section):
    """Rows that the model reads, [T, D] or pixels [T, 3, H, W]."""

    dim: int = Field(gt=0, description="D; 3 * H * W of pixels.")
    shape: FrameShape | None = Field(description="(3, H, W) of pixels; null of features.")
    sources: dict[str, Source] = Field(description="By dataset of the run.")

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(D,), or (3, H, W) of pixels."""
        return self.shape or (self.dim,)

    @property
    def rows_per_second(self) -> float | None:
        """Of all datasets; a model that needs times is not trained where they differ."""
        return next(iter(self.sources.values())).rows_per_second

    def statistics(self, modality: str, like: str | None) -> Statistics | None:
        """By which new rows are normalized: as those of the dataset `like`, or of all where these agree.

        Errors: DataError where they differ and none is named, or the run has no such dataset.
        """
        if like is not None:
            if like not in self.sources:
                raise DataError(f"the run read no {modality} of a dataset '{like}', only of {', '.join(self.sources)}")
            return self.sources[like].statistics
        first, *others = [source.statistics for source in self.sources.values()]
        if any(other != first for other in others):
            raise DataError(
                f"the run normalizes {modality} by the statistics of each dataset ({', '.join(self.sources)}), which "
                "differ; name the one that the new data are like"
            )
        return first


class TaskOutput(Section):
    """One question that the model answers."""

    kind: TaskKind
    classes: tuple[str, ...]
    unit: str
    mean: float = Field(default=0.0, description="A regression's value is logit * std + mean.")
    std: float = Field(default=1.0, gt=0)

    @property
    def num_outputs(self) -> int:
        """C."""
        return len(self.classes) if self.kind in ("multiclass", "multilabel") else 1

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of one sample's logits: () or (C,)."""
        return (len(self.classes),) if self.kind in ("multiclass", "multilabel") else ()


class Signature(Section):
    """The whole of signature.json."""

    schema_version: Literal[1] = 1
    modalities: dict[str, ModalityInput] = Field(description="Of features and pixels that the model reads, by name.")
    tasks: dict[str, TaskOutput] = Field(description="Those with labels, in the order of the model's heads.")

    @property
    def rates(self) -> dict[str, float]:
        """Rows per second of the modalities that have any."""
        found = {name: item.rows_per_second for name, item in self.modalities.items()}
        return {name: rate for name, rate in found.items() if rate is not None}

    def check_source(self, modality: str, source: Source, *, origin: str) -> None:
        """Errors: DataError where none of the run's datasets had its rows from this extractor."""
        known = self.modalities[modality].sources
        found = {name: own.differences(source) for name, own in known.items()}
        if all(found.values()):
            name, words = min(found.items(), key=lambda item: len(item[1]))
            raise DataError(
                f"{origin}: {modality} is not from the extractor that this model learned from: beside dataset '{name}' it "
                f"has {'; '.join(words)}. Extract it alike"
            )


def describe_model(experiment: Experiment, stores: Mapping[str, FeatureStore], objective: Objective) -> Signature:
    """The signature of a run's model."""
    used = {stream.dataset: stores[stream.dataset] for stream in experiment.streams.values()}
    modalities = {}
    for name in experiment.model.modalities:
        holding = {dataset: store for dataset, store in used.items() if name in store.schema.modalities}
        if holding:
            schema = next(iter(holding.values())).schema.modalities[name]
            read = {dataset: source_of(store, name) for dataset, store in holding.items()}
            modalities[name] = ModalityInput(dim=schema.dim, shape=schema.shape, sources=read)
    tasks = {}
    for task, loss in objective.losses.items():
        known = next(store.schema.tasks[task] for store in used.values() if task in store.schema.tasks)
        scale = {"mean": loss.mean, "std": loss.std} if isinstance(loss, RegressionLoss) and loss.standardize else {}
        tasks[task] = TaskOutput(kind=known.kind, classes=known.classes, unit=known.unit, **scale)
    return Signature(modalities=modalities, tasks=tasks)


def source_of(store: FeatureStore, modality: str) -> Source:
    """How a store's rows of a modality were made."""
    schema = store.schema.modalities[modality]
    statistics = schema.statistics
    return Source(
        extractor=schema.extractor,
        extractor_version=schema.extractor_version,
        rows_per_second=schema.rows_per_second,
        made=_made(store.schema.provenance, modality),
        statistics=statistics if statistics is not None and statistics.normalize else None,
    )


def _made(provenance: Mapping[str, Any], modality: str) -> dict[str, Any] | None:
    """What the extraction said, also where other commands made new stores of its store; null where two say two things."""
    extractors = provenance.get("extractors")
    if isinstance(extractors, dict):
        made = extractors.get(modality)
        return made if isinstance(made, dict) else None
    above = [source["provenance"] for source in provenance.get("sources", ()) if isinstance(source.get("provenance"), dict)]
    found = [_made(item, modality) for item in above]
    return found[0] if found and all(item == found[0] for item in found) else None


def read_signature(folder: Path) -> Signature:
    """Errors: CheckpointError where it is missing or damaged."""
    file = folder / FILE
    try:
        return Signature.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} has no {FILE}, which a run writes when it begins: it cannot be used for new data"
        ) from None
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{file} is damaged ({error})") from None
