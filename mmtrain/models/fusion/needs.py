"""What a fusion's config says where it cannot do without some modality."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Needs(Protocol):
    """A row that gives every sample the same vector, or compares with nothing, where nobody has these."""

    def needed(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """Of the modalities that the model reads."""
