"""The parent of config sections, and tables of them."""

from typing import Annotated, Literal

from pydantic import Field

from mmtrain.section import Section, rows_of


class One(Section):
    name: Literal["one"] = "one"


class Two(Section):
    name: Literal["two"] = "two"


def test_the_rows_of_a_table_are_those_of_its_union_in_order() -> None:
    assert rows_of(Annotated[Two | One, Field(discriminator="name")]) == (Two, One)
    assert rows_of(Two | One) == (Two, One)
    assert rows_of(Annotated[One, Field()]) == (One,)
    assert rows_of(One) == (One,)
