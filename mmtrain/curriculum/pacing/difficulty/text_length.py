"""Difficulty by the length of the text."""

from typing import Literal

from mmtrain.section import Section


class TextLengthConfig(Section):
    """Characters of the sample's text: longer is harder, no text is easiest."""

    name: Literal["text_length"] = "text_length"
