"""Media files that could not be read: what is said of each, and the error that ends an extraction with exit code 3."""

from dataclasses import dataclass

from mmtrain.errors import DataError


class MediaError(DataError):
    """Media files could not be read, more of them than were allowed."""


@dataclass(frozen=True)
class Failure:
    """A sample that is left out, and why."""

    id: str
    modality: str
    file: str
    reason: str
