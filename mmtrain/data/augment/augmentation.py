"""Training samples on their way from the store to a batch, changed anew in every pass."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmtrain.data.augment.protocol import Augment, keyed_generator
from mmtrain.data.dataset import Sample
from mmtrain.data.schema import SECOND_TEXT, TEXT

Rows = Mapping[str, Augment[Any]]  # by the names that the config gives them, applied in this order


class Augmentation:
    """Applies every row of a modality, one after the other, to the samples that have the modality.

    Each row's random numbers are keyed by (seed, stream, sample id, pass, modality, name of the row): a sample is the same
    whoever reads it and whenever, in every pass another, and a row that is added or left out changes no draw of the others.
    The stream is in the key since ids are unique in one store only; a clip that two streams share differs between them.
    """

    def __init__(self, rows: Mapping[str, Rows], *, seed: int) -> None:
        self.rows, self.seed = {modality: dict(own) for modality, own in rows.items()}, seed

    def __call__(self, sample: Sample, *, stream: str, pass_number: int) -> Sample:
        """The sample in a pass of its stream, counted from 0. Nothing of `sample` is written to."""
        features = dict(sample.features)
        texts = {TEXT: sample.text, SECOND_TEXT: sample.second_text}
        for modality, rows in self.rows.items():
            key = (stream, sample.id, pass_number, modality)
            if modality in texts:
                text = texts[modality]
                texts[modality] = self._apply(rows, text, key) if text.strip() else text
            elif modality in features:
                features[modality] = self._apply(rows, features[modality], key)
        return replace(sample, text=texts[TEXT], second_text=texts[SECOND_TEXT], features=features)

    def _apply(self, rows: Rows, value: Any, key: tuple[str | int, ...]) -> Any:
        for name, row in rows.items():
            value = row(value, keyed_generator(self.seed, *key, name))
        return value
