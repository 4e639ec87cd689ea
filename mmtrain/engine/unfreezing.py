"""Gradual unfreezing: which layers of the pretrained text encoder learn, from one time of the run to the next."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator
from torch import nn

from mmtrain.engine.schedules.warmup import Unit
from mmtrain.engine.text_layers import TextLayers
from mmtrain.errors import ConfigError
from mmtrain.section import Section


class StageConfig(Section):
    """From when on how much of the encoder learns."""

    at: float = Field(ge=0, description="When it begins, in `unit`; the first stage at 0.")
    layers: int | None = Field(
        ge=0, description="The top n layers learn, all else stands still. null: all of it learns. 0: none, dropout off."
    )


class UnfreezeConfig(Section):
    """Stages of the text encoder (ULMFiT, Howard and Ruder, 2018, section 3.3)."""

    stages: tuple[StageConfig, ...] = Field(description="Each begins later than the one before.")
    unit: Unit = Field(default="epochs", description="What `at` counts: finished epochs or optimizer steps.")

    @model_validator(mode="after")
    def _begin_at_the_start_and_rise(self) -> Self:
        if not self.stages or self.stages[0].at != 0:
            found = f"the first begins at {self.stages[0].at:g}" if self.stages else "there is none"
            raise ValueError(f"stages: {found}; write a stage for the run's start, at: 0")
        for earlier, later in pairwise(self.stages):
            if later.at <= earlier.at:
                raise ValueError(f"stages: {later.at:g} stands behind {earlier.at:g}; write them in rising order")
        return self

    def build(self, text: TextLayers, *, steps_per_epoch: int) -> "Unfreezing":
        """Errors: ConfigError where the encoder has not so many layers, or no separate ones."""
        scale = steps_per_epoch if self.unit == "epochs" else 1
        starts = [round(stage.at * scale) for stage in self.stages]
        return Unfreezing(text, starts=starts, layers=[stage.layers for stage in self.stages])


class Unfreezing:
    """From step `starts[i]` on the top `layers[i]` of the encoder's layers learn; None: all of it, 0: nothing.

    What stands still has its gradient dropped between backward pass and clipping: an optimizer passes over a parameter
    without one, so neither its value nor its moments change, nor does it decay. To DDP, which wants the same parameters in
    every backward pass, nothing changes; so a layer that stands still costs its backward pass nevertheless. A pure function
    of the step: a resumed run needs no state of it.
    """

    def __init__(self, text: TextLayers, *, starts: Sequence[int], layers: Sequence[int | None]) -> None:
        self.starts, self.layers = list(starts), list(layers)
        self._encoder = text.encoder
        self._still = [_below(text, number) for number in layers]

    def begin(self, step: int) -> None:
        """Before the forward passes of the step after `step` finished ones: an encoder that stands still has no dropout."""
        self._encoder.train(self.layers[self._stage(step)] != 0)

    def drop_gradients(self, step: int) -> None:
        """Behind its backward passes."""
        for parameter in self.still(step):
            parameter.grad = None

    def still(self, step: int) -> list[nn.Parameter]:
        """What does not learn in the step after `step` finished ones."""
        return self._still[self._stage(step)]

    def note(self) -> str:
        """What learns from which step on."""
        words = {None: "all of it", 0: "nothing"}
        parts = [
            f"{words.get(number, f'its top {number}')} from step {start + 1}"
            for start, number in zip(self.starts, self.layers, strict=True)
        ]
        return f"of the text encoder learns {', '.join(parts)}"

    def _stage(self, step: int) -> int:
        return bisect_right(self.starts, step) - 1


def _below(text: TextLayers, number: int | None) -> list[nn.Parameter]:
    """What stands still where the top `number` layers learn."""
    if number is None:
        return []
    if number and text.layers is None:
        raise ConfigError(f"training.unfreeze: {text.kind} encoders have no separate layers; write layers: null or 0")
    if text.layers is not None and number > len(text.layers):
        raise ConfigError(f"training.unfreeze: layers: {number}, but this {text.kind} encoder has {len(text.layers)}")
    learns = {id(value) for layer in list(text.layers or ())[-number:] for value in layer.parameters()} if number else set()
    return [value for value in text.encoder.parameters() if id(value) not in learns]
