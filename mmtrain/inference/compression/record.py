"""What a compressed package says of itself: compression.json."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from mmtrain.errors import CheckpointError
from mmtrain.inference.compression import METHODS
from mmtrain.inference.compression.protocol import Layers
from mmtrain.section import Section

FILE = "compression.json"


class Pace(Section):
    """Predictions per second, the model as it was and as it is taking turns."""

    device: str
    threads: int
    batch_size: int
    samples: int
    rounds: int
    before: float = Field(description="Median over rounds.")
    after: float
    ratio: float = Field(description="Median over rounds of after / before.")
    low: float = Field(description="Its lower quartile.")
    high: float = Field(description="Its upper quartile.")


class Comparison(Section):
    """The model before and after."""

    split: str
    bytes_before: int = Field(description="Of weights in a package's file.")
    bytes_after: int
    products_before: str = Field(description="What products are computed in.")
    products_after: str
    pace: Pace
    metrics_before: dict[str, float | None] = Field(
        description="By `split/task/metric`; null: not defined on these samples."
    )
    metrics_after: dict[str, float | None]
    largest_difference: float = Field(description="Of any logit of any sample of the split.")


class Compression(Section):
    """The whole of compression.json."""

    schema_version: Literal[1] = 1
    method: str
    layers: Layers = Field(description="Names that loading needs: layer and norm of a fold, layers that are int8.")
    notes: tuple[str, ...]
    compared: Comparison | None = None


def read_compression(folder: Path) -> Compression | None:
    """None where the folder's weights are as they were trained. Errors: CheckpointError where it is damaged, or unknown."""
    file = folder / FILE
    try:
        found = Compression.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{file} is damaged ({error})") from None
    known = [method.name for method in METHODS]
    if found.method not in known:
        raise CheckpointError(f"{file}: this mmtrain knows no compression '{found.method}', only {', '.join(known)}")
    return found
