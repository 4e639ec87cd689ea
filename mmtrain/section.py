"""The one parent of every config section: frozen, and closed to keys it does not know; and what a name is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

# names become folders, columns and parts of metric names
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=100)]


class Section(BaseModel):
    """A checked, immutable piece of configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
