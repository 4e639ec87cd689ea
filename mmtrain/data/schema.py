"""What dataset.json says of a store: modalities, tasks, files with their hashes, licence, provenance."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mmtrain.section import Section

TEXT = "text"
SECOND_TEXT = "second_text"  # a further column: what a pair of texts has beside the first
TEXTS = (TEXT, SECOND_TEXT)
# Columns of samples.parquet that are the store's own; a task or an extra column may not take their names.
OWN_COLUMNS = ("id", "split", "group", "text", "text_characters")
SPLITS = ("train", "val", "test")

TaskKind = Literal["binary", "multiclass", "multilabel", "regression"]


class TaskSchema(Section):
    """One question asked of a sample, as the store records its answers."""

    kind: TaskKind
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
    """What a modality's rows are, whoever made them."""

    dim: int = Field(gt=0, description="D: width of a row.")
    dtype: Literal["float32", "float16"] = "float32"
    rows_per_second: float | None = Field(default=None, gt=0, description="Rate of the rows; null if they have none.")
    extractor: str = Field(default="unknown", description="Name of what made the rows.")
    extractor_version: str = ""


class Shard(Section):
    """One file of a modality: the rows of samples first .. first + samples - 1."""

    # no separator, and more than dots
    file: str = Field(pattern=r"^[^/\\\x00]*[^/\\\x00.][^/\\\x00]*$", description="Name inside the store's folder.")
    first: int = Field(ge=0)
    samples: int = Field(ge=0)
    rows: int = Field(ge=0)


class ModalitySchema(FeatureSpec):
    """A modality as it lies on disk."""

    shards: tuple[Shard, ...]


class FileRecord(Section):
    """Size and hash of one data file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class StoreSchema(Section):
    """The whole of dataset.json."""

    schema_version: Literal[1] = 1
    name: str
    samples: int = Field(ge=0, description="N: number of samples.")
    modalities: dict[str, ModalitySchema] = Field(default_factory=dict, description="Feature sequences; text is a column.")
    tasks: dict[str, TaskSchema] = Field(default_factory=dict)
    files: dict[str, FileRecord]
    licence: str = ""
    provenance: dict[str, Any] = Field(default_factory=dict)

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
