"""The one parent of every config section: frozen, and closed to keys it does not know."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A checked, immutable piece of configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
