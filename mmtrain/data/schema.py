"""What dataset.json says of a store: modalities, tasks, files with their hashes, licence, provenance."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mmtrain.section import Section

TEXT = "text"
SECOND_TEXT = "second_text"  # a further column: what a pair of texts has beside the first
TEXTS = (TEXT, SECOND_TEXT)
# Columns of samples.parquet that are the store's own; a task or an extra column may not take their names.
OWN_COLUMNS = ("id", "split", "group", "text", "text_characters")
SPLITS = ("train", "val", "test")

TaskKind = Literal["binary", "multiclass", "multilabel", "regression"]
FrameShape = tuple[int, int, int]  # 3, H, W


class TaskSchema(Section):
    """One question asked of a sample, as the store records its answers."""

    kind: TaskKind = Field(description="What an answer is: 0 or 1, one class, any of the classes, or a number.")
    classes: tuple[str, ...] = Field(default=(), description="Names of the classes; empty for regression.")
    unit: str = Field(default="", description="Unit of a regression label, for reports.")

    @model_validator(mode="after")
    def _classes_fit_kind(self) -> "TaskSchema":
        needed = {"binary": (0, 2), "multiclass": None, "multilabel": None, "regression": (0,)}[self.kind]
        if needed is not None and len(self.classes) not in needed:
            raise ValueError(f"a {self.kind} task has {' or '.join(map(str, needed))} classes, not {len(self.classes)}")
        if self.kind == "multiclass" and len(self.classes) < 2:
            raise ValueError("a multiclass task names at least 2 classes")
        if self.kind == "multilabel" and not self.classes:
            raise ValueError("a multilabel task names its classes")
        return self

    @property
    def num_outputs(self) -> int:
        """C: logits that a head gives for this task (1 for binary and regression)."""
        return len(self.classes) if self.kind in ("multiclass", "multilabel") else 1


class FeatureSpec(Section):
    """What a modality's rows are, whoever made them: D numbers each, or one picture each."""

    dim: int = Field(gt=0, description="D: width of a row; 3 * H * W of pixels.")
    dtype: Literal["float32", "float16", "uint8"] = Field(default="float32", description="uint8: pixels, 0 to 255.")
    shape: FrameShape | None = Field(default=None, description="(3, H, W) of pixels: red, green, blue; null of features.")
    rows_per_second: float | None = Field(default=None, gt=0, description="Rate of the rows; null if they have none.")
    extractor: str = Field(default="unknown", description="Name of what made the rows.")
    extractor_version: str = Field(default="", description="Version of what made the rows.")

    @classmethod
    def pixels(cls, height: int, width: int, **fields: Any) -> Self:
        """Pictures of one size, one a row; `fields`: rows_per_second, extractor, extractor_version."""
        return cls(dim=3 * height * width, dtype="uint8", shape=(3, height, width), **fields)

    @model_validator(mode="after")
    def _shape_fits(self) -> Self:
        if (self.dtype == "uint8") != (self.shape is not None):
            raise ValueError("pixels have both dtype uint8 and a shape (3, H, W), features neither")
        if self.shape is not None and (self.shape[0] != 3 or min(self.shape) < 1 or math.prod(self.shape) != self.dim):
            raise ValueError(f"shape {self.shape} with dim {self.dim}: (3, H, W) and 3 * H * W were expected")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Stores of features are written, and fingerprinted, as they were before there were pixels and statistics."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if key not in ("shape", "statistics") or value is not None}

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(D,), or (3, H, W) of pixels."""
        return self.shape or (self.dim,)


class Shard(Section):
    """One file of a modality: the rows of samples first .. first + samples - 1."""

    # no separator, and more than dots
    file: str = Field(pattern=r"^[^/\\\x00]*[^/\\\x00.][^/\\\x00]*$", description="Name inside the store's folder.")
    first: int = Field(ge=0, description="Position of its first sample in the store.")
    samples: int = Field(ge=0, description="Samples in it.")
    rows: int = Field(ge=0, description="Rows of all of them.")


class Statistics(Section):
    """Mean and standard deviation of every dimension of a modality, over the rows of the samples of train."""

    rows: int = Field(gt=0, description="Rows they were measured over.")
    mean: tuple[float, ...] = Field(description="Of every dimension, in the rows' own units.")
    deviation: tuple[Annotated[float, Field(ge=0)], ...] = Field(description="Of the population: divided by the rows.")
    normalize: bool = Field(description="Whether rows are read as (row - mean) / deviation.")


class ModalitySchema(FeatureSpec):
    """A modality as it lies on disk."""

    shards: tuple[Shard, ...] = Field(description="Its files, in the order of samples.")
    statistics: Statistics | None = Field(default=None, description="Of features; pixels have none.")

    @model_validator(mode="after")
    def _statistics_fit(self) -> Self:
        if self.statistics is not None:
            widths = len(self.statistics.mean), len(self.statistics.deviation)
            if self.shape is not None or widths != (self.dim, self.dim):
                raise ValueError(
                    f"statistics of {widths[0]} means and {widths[1]} deviations; {self.dim} of each were expected, "
                    "of pixels none"
                )
        return self


class FileRecord(Section):
    """Size and hash of one data file."""

    bytes: int = Field(ge=0, description="Size in bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of its bytes.")


class StoreSchema(Section):
    """The whole of dataset.json."""

    schema_version: Literal[1] = Field(default=1, description="Of this format.")
    name: str = Field(description="Of the data set.")
    samples: int = Field(ge=0, description="N: number of samples.")
    modalities: dict[str, ModalitySchema] = Field(default_factory=dict, description="Sequences of rows; text is a column.")
    tasks: dict[str, TaskSchema] = Field(default_factory=dict, description="By task, what its labels are.")
    files: dict[str, FileRecord] = Field(description="Every data file, by name.")
    licence: str = Field(default="", description="Of the data; any words.")
    provenance: dict[str, Any] = Field(default_factory=dict, description="What made the store, from what.")

    @model_validator(mode="after")
    def _shards_cover_samples(self) -> "StoreSchema":
        for name, modality in self.modalities.items():
            first = 0
            for shard in modality.shards:
                if shard.first != first:
                    raise ValueError(f"modality '{name}': {shard.file} begins at sample {shard.first}, {first} was expected")
                first += shard.samples
            if first != self.samples:
                raise ValueError(f"modality '{name}': its shards hold {first} samples, the store has {self.samples}")
        return self
