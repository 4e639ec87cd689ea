"""The pretrained text encoder inside the model, seen as levels from its embeddings up."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Level:
    """Where a parameter stands: `below` counts the layers from the top one down, the embeddings stand below all."""

    name: str
    below: int


@dataclass(frozen=True)
class TextLayers:
    """`layers` from bottom to top; None where the encoder has no separate ones (ALBERT shares one)."""

    encoder: nn.Module
    layers: nn.ModuleList | None
    kind: str  # bert, albert, ...

    def levels(self) -> dict[int, Level]:
        """The level of every parameter by its id, `layers` being known.

        Layer l of 1 .. L is L - l below the top. What stands in no layer is on the level of the embeddings, L, unless it
        is behind the layers and no embedding (a last norm): that is on the level of the top one, 0.
        """
        assert self.layers is not None
        inside = {id(value): number for number, layer in enumerate(self.layers, 1) for value in layer.parameters()}
        embeddings = {id(module.weight) for module in self.encoder.modules() if isinstance(module, nn.Embedding)}
        levels: dict[int, Level] = {}
        is_behind = False
        for value in self.encoder.parameters():
            if id(value) in inside:
                number, is_behind = inside[id(value)], True
                levels[id(value)] = Level(f"layer_{number}", len(self.layers) - number)
            elif is_behind and id(value) not in embeddings:
                levels[id(value)] = Level("top", 0)
            else:
                levels[id(value)] = Level("embeddings", len(self.layers))
        return levels
