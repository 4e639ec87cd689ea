"""Times in a config that are optimizer steps or a share of the run."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _whole_or_share(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"{value} is neither a share below 1 nor a whole number of steps")
    return value


StepsOrShare = Annotated[float, Field(ge=0), AfterValidator(_whole_or_share)]


def steps_of(value: float, *, total: int) -> int:
    """Steps where it is 1 or more, else that share of `total`, rounded."""
    return int(value) if value >= 1 else round(value * total)
