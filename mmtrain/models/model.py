"""The assembled model: encoders, fusion and heads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmtrain.data.batch import Keys, MaskedSequence
from mmtrain.data.schema import TEXT
from mmtrain.models.masks import blank
from mmtrain.models.modality_dropout import ModalityDropout
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused, Outputs
from mmtrain.models.placeholder import Placeholders
from mmtrain.models.time import TimePositions
from mmtrain.models.views import ModelViews


class MultimodalModel(nn.Module):
    """Encoders, fusion and heads. Every head runs on every batch, so that every process's graph holds every parameter.

    `text` reads the token ids of all modalities in `texts`, None where no text is read; `scalar_tasks`: those whose logits
    are [B], not [B, C]; `modality_dropout`: probabilities by modality; `placeholders`: modalities with a learned row where a
    sample lacks them; `time_positions`: marks on encoded rows; `pretext`: modules of pretext tasks, called with a ModelViews
    and the samples that the task speaks for.
    """

    def __init__(
        self,
        *,
        text: nn.Module | None,
        sequences: Mapping[str, nn.Module],
        fusion: nn.Module,
        heads: Mapping[str, nn.Module],
        scalar_tasks: Collection[str],
        texts: Sequence[str] = (TEXT,),
        images: Mapping[str, nn.Module] | None = None,
        modality_dropout: Mapping[str, float] | None = None,
        placeholders: Placeholders | None = None,
        time_positions: TimePositions | None = None,
        pretext: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        pretext, images = pretext or {}, images or {}
        self.placeholders, self.time_positions = placeholders, time_positions
        self.modality_dropout = ModalityDropout(modality_dropout or {})
        self.text, self.fusion = text, fusion
        self.sequences, self.heads = module_dict("encoder", sequences), module_dict("head", {**heads, **pretext})
        self.images = module_dict("encoder", images)
        self._read = (*(texts if text is not None else ()), *sequences, *images)
        self._texts, self._tasks, self._scalar_tasks = frozenset(texts), tuple(heads), frozenset(scalar_tasks)
        self._images, self._pretext = frozenset(images), tuple(pretext)

    def head(self, task: str) -> nn.Module:
        """The part of the model that is this task's alone."""
        return self.heads[module_key(task, "head")]

    def encode(self, inputs: Mapping[str, MaskedSequence]) -> dict[str, MaskedSequence]:
        """The modalities given through their encoders: [B, T, d] and its mask each."""
        encoded = {}
        for name in self._read:
            if name in inputs:
                rows = self._encoder(name)(inputs[name])
                encoded[name] = rows if self.time_positions is None else self.time_positions(name, rows)
        return encoded

    def _encoder(self, name: str) -> nn.Module:
        if name in self._texts:
            assert self.text is not None
            return self.text
        return (self.images if name in self._images else self.sequences)[module_key(name, "encoder")]

    def fuse(self, encoded: Mapping[str, MaskedSequence]) -> Fused:
        """Encoded rows of every modality through the fusion, placeholders in the place of what is missing."""
        if self.placeholders is None:
            fused: Fused = self.fusion(encoded)
            return fused
        fused = self.fusion({name: self.placeholders(name, rows) for name, rows in encoded.items()})
        own = {name: blank(vector, encoded[name].present) for name, vector in fused.per_modality.items()}
        return replace(fused, per_modality=own)  # what a sample lacks contributes no vector

    def forward(
        self,
        inputs: Mapping[str, MaskedSequence],
        labelled: Mapping[str, Tensor] | None = None,
        keys: Keys | None = None,
    ) -> Outputs:
        """`inputs`: token ids [B, T], rows [B, T, D] or pixels [B, T, 3, H, W] of every modality the model reads;
        `labelled`: [B] bool by task; `keys`: of the samples, for pretext tasks.
        """
        inputs = {name: inputs[name] for name in self._read}
        if self.training:
            inputs = self.modality_dropout(inputs)
        encoded = self.encode(inputs)
        fused = self.fuse(encoded)
        logits = {}
        for task in self._tasks:
            rows = labelled.get(task) if labelled is not None else None
            output = self.head(task)(fused.joint, rows)  # [B, C]
            output = _full_precision(output)
            logits[task] = output[:, 0] if task in self._scalar_tasks else output
        views = ModelViews(inputs=inputs, encoded=encoded, fused=fused, keys=keys, encoder=self.encode, fusion=self.fuse)
        pretext = {}
        for task in self._pretext:
            rows = labelled.get(task) if labelled is not None else None
            found = self.head(task)(views, rows)
            pretext[task] = {name: _full_precision(value) for name, value in found.items()}
        return Outputs(logits=logits, joint=fused.joint, per_modality=fused.per_modality, aux=fused.aux, pretext=pretext)


def _full_precision(values: Tensor) -> Tensor:
    """Floating values at least float32, also under autocast: losses need it."""
    return values.to(torch.promote_types(values.dtype, torch.float32)) if values.is_floating_point() else values
