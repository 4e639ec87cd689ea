"""A trained model as a Python object: numpy in, numpy out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from mmtrain.config import Experiment
from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Sample
from mmtrain.data.normalize import Normalizer
from mmtrain.data.schema import SECOND_TEXT, TEXT, TEXTS
from mmtrain.errors import DataError
from mmtrain.inference.compression import method_named
from mmtrain.inference.compression.protocol import Tensors
from mmtrain.inference.compression.record import Compression
from mmtrain.inference.decision import Decisions
from mmtrain.models.model import MultimodalModel
from mmtrain.models.outputs import Outputs
from mmtrain.signature import Signature

Value = str | npt.NDArray[np.number] | None


@dataclass(frozen=True)
class Answer:
    """What the model says of one task: of a single sample scalars (and [C]), of B samples arrays of length B.

    `label`: the class's name, 0 or 1 for a binary task without names, bool [C] of a multilabel one, a regression's value in
    the labels' units. `probability`: of the positive class, or of every class [C]; None for a regression. `logits`: the
    head's own output, before calibration.
    """

    label: Any
    probability: Any
    logits: Any


class TrainedModel(nn.Module, PyTorchModelHubMixin):  # type: ignore[misc, unused-ignore]
    """Model, tokenizer, calibration and signature of one run, in evaluation mode."""

    def __init__(
        self,
        *,
        model: MultimodalModel,
        experiment: Experiment,
        signature: Signature,
        collate: Collator,
        decisions: Decisions,
        source: Path,
        identity: str,
        measured: Mapping[str, Any] | None = None,
        autocast: torch.dtype | None = None,
        compression: Compression | None = None,
    ) -> None:
        """`source`: the run or package it was loaded from; `identity`: the hash of its weights; `measured`: by split,
        the table of `mmtrain evaluate` of these weights (before their compression); `autocast`: to what factors of its
        products are rounded; `compression`: what was made of the weights that were trained.
        """
        super().__init__()
        self.model = model.eval()
        self.experiment, self.signature, self.collate, self.decisions = experiment, signature, collate, decisions
        self.source, self.identity, self.autocast, self.measured = source, identity, autocast, dict(measured or {})
        self.compression = compression

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def modalities(self) -> tuple[str, ...]:
        """What `predict` takes."""
        return self.experiment.model.fused_modalities

    @property
    def products(self) -> str:
        """What matrix products are computed in."""
        if self.compression is not None and method_named(self.compression.method).is_integer:
            return self.compression.method
        return str(self.autocast or torch.float32).removeprefix("torch.")

    def stored(self) -> dict[str, torch.Tensor]:
        """The weights as the file of a package holds them, on the CPU."""
        tensors: Tensors = self.model.state_dict()
        if self.compression is not None:
            tensors = method_named(self.compression.method).stored(self.model, self.compression.layers)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Outputs:
        """Logits and embeddings of a collated batch, wherever that lies."""
        return self.answer(batch.to(self.device).inputs)

    def answer(self, inputs: Mapping[str, MaskedSequence]) -> Outputs:
        """The same of the batch's inputs on the model's device."""
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            outputs: Outputs = self.model(inputs)
        return outputs

    def predict(
        self, *, like: str | None = None, batch_size: int = 32, **inputs: Value | Sequence[Value]
    ) -> dict[str, Answer]:
        """Answers by task. A modality is given by its name: a str for `text`, rows [T, D] (pixels [T, 3, H, W] uint8) for
        others; a list of B of them, None where a sample lacks it, for B samples. A modality may be left out.

        `like`: the dataset whose statistics normalize the rows, where those of the run's datasets differ.
        Errors: DataError where a value is not what the model reads, naming sample and modality.
        """
        unknown = sorted(set(inputs) - set(self.modalities))
        if unknown:
            raise DataError(f"predict: this model reads no '{unknown[0]}'; it reads {', '.join(self.modalities)}")
        is_batch = any(isinstance(value, list | tuple) for value in inputs.values())
        samples = _samples(inputs, is_batch=is_batch)
        for number, sample in enumerate(samples):
            if all(_is_empty(value) for value in sample.values()):
                raise DataError(f"predict: sample {number} has none of what the model reads ({', '.join(self.modalities)})")
        read = [self.read(sample, like=like, name=str(number)) for number, sample in enumerate(samples)]
        logits, _ = self.logits(read, batch_size=batch_size)
        answers = {}
        for task, output in self.signature.tasks.items():
            decision = self.decisions[task]
            probability = decision.probabilities(output, logits[task])
            label = decision.labels(output, probability)
            shown = None if output.kind == "regression" else probability
            answer = Answer(label, shown, logits[task])
            answers[task] = answer if is_batch else _first(answer)
        return answers

    def read(self, values: Mapping[str, Value], *, like: str | None = None, name: str = "0") -> Sample:
        """One sample as the model's batches take it: checked, and normalized as those it learned from.

        Errors: DataError where rows have another shape, or hold NaN or Inf.
        """
        features = {}
        for modality, item in self.signature.modalities.items():
            value = values.get(modality)
            if _is_empty(value):
                continue
            rows = np.asarray(value)
            where = f"sample '{name}': {modality}"
            wanted = "pixels [T, 3, H, W] as uint8" if item.shape else "rows [T, D]"
            if rows.ndim != 1 + len(item.row_shape) or rows.shape[1:] != item.row_shape:
                raise DataError(f"{where} has the shape {rows.shape}; {wanted} of {item.row_shape} each were expected")
            if (rows.dtype == np.uint8) != (item.shape is not None) or rows.dtype.kind not in "fiu":
                raise DataError(f"{where} holds {rows.dtype}; {wanted} were expected")
            statistics = item.statistics(modality, like)
            rows = rows if statistics is None else Normalizer(statistics)(rows)
            if rows.dtype != np.uint8 and not np.isfinite(rows).all():
                raise DataError(f"{where} holds NaN or Inf")
            features[modality] = rows
        texts = {column: values.get(column) or "" for column in TEXTS if column in self.modalities}
        for column, text in texts.items():
            if not isinstance(text, str):
                raise DataError(f"sample '{name}': {column} is {type(text).__name__}, not a str")
        return Sample(
            id=name,
            index=0,
            text=str(texts.get(TEXT, "")),
            second_text=str(texts.get(SECOND_TEXT, "")),
            features=features,
            labels={},
        )

    def logits(
        self, samples: Sequence[Sample], *, batch_size: int
    ) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
        """Logits by task, [N] or [N, C], and joint embeddings [N, J], in the order given; like lengths pass together."""
        if not samples:
            none = {task: np.zeros((0, *output.row_shape), np.float32) for task, output in self.signature.tasks.items()}
            width = self.model.fusion.joint_dim
            assert isinstance(width, int)
            return none, np.zeros((0, width), np.float32)
        order = np.argsort([-_cost(sample) for sample in samples], kind="stable")
        parts: dict[str, list[npt.NDArray[np.float32]]] = {task: [] for task in self.signature.tasks}
        joint = []
        for chosen in np.array_split(order, max(-(-len(order) // batch_size), 1)):
            outputs = self(self.collate([samples[number] for number in chosen], [0] * len(chosen)))
            for task, found in parts.items():
                found.append(outputs.logits[task].float().cpu().numpy())
            joint.append(outputs.joint.float().cpu().numpy())
        back = np.argsort(order, kind="stable")
        return {task: np.concatenate(found)[back] for task, found in parts.items()}, np.concatenate(joint)[back]

    def _save_pretrained(self, save_directory: Path) -> None:
        from mmtrain.inference.pack import write_package

        write_package(self, Path(save_directory))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "TrainedModel":
        from mmtrain.inference.load import load, load_hub

        if Path(model_id).is_dir():
            return load(model_id)
        return load_hub(
            model_id, **{key: options.get(key) for key in ("revision", "cache_dir", "token", "local_files_only")}
        )


def _samples(inputs: Mapping[str, Value | Sequence[Value]], *, is_batch: bool) -> list[dict[str, Value]]:
    if not inputs:
        raise DataError("predict: nothing was given; write model.predict(text=...), or another modality")
    if not is_batch:
        return [dict(inputs)]  # type: ignore[arg-type]
    lengths = {name: len(value) for name, value in inputs.items() if isinstance(value, list | tuple)}
    single = [name for name, value in inputs.items() if value is not None and name not in lengths]
    if single:
        raise DataError(f"predict: {single[0]} is one value, where others are lists; give a list of each, or of none")
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"{count} of {name}" for name, count in lengths.items())
        raise DataError(f"predict: the lists are of different lengths ({words}); write None where a sample lacks something")
    count = next(iter(lengths.values()))
    if count == 0:
        raise DataError("predict: the lists are empty")
    return [{name: inputs[name][number] for name in lengths} for number in range(count)]  # type: ignore[index]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | np.ndarray) and not len(value))


def _first(answer: Answer) -> Answer:
    def take(values: Any) -> Any:
        if values is None:
            return None
        value = values[0]
        return value.item() if np.ndim(value) == 0 else value

    return Answer(take(answer.label), take(answer.probability), take(answer.logits))


def _cost(sample: Sample) -> int:
    return max(len(sample.text) + len(sample.second_text), *(len(rows) for rows in sample.features.values()), 0)
