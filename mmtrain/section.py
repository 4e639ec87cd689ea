"""The one parent of every config section: frozen, and closed to keys it does not know; and what a name is."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints

# names become folders, columns and parts of metric names
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=100)]


class Section(BaseModel):
    """A checked, immutable piece of configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def rows_of(table: Any) -> tuple[Any, ...]:
    """The configs of a folder's table, which is their union, with or without its discriminator; in its order."""
    union = get_args(table)[0] if hasattr(table, "__metadata__") else table
    return get_args(union) or (union,)  # of a table with one row
