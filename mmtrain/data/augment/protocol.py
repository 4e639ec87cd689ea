"""What every augmentation offers, and the random numbers that it draws."""

import hashlib
import json
from typing import Literal, Protocol, TypeVar

import numpy as np

Value = TypeVar("Value")
# what a row reads, its config's class attribute `reads`: a str, floating rows [T, D], or pixels [T, 3, H, W] uint8
Kind = Literal["text", "features", "images"]


class Augment(Protocol[Value]):
    """One row, built: a sample's modality to another of the same meaning; a modality that is missing never comes here.

    A pure function of its two arguments, called in the loader's thread. The value is never written to (arrays are parts of a
    whole batch); what comes back has its type, dtype and shape (a text may be shorter), is finite, is not blank where
    the value was not, and is the value itself where the config asks for nothing (probability or size 0).
    """

    def __call__(self, value: Value, generator: np.random.Generator) -> Value:
        """All random numbers come from `generator`, which is this call's own."""


def keyed_generator(seed: int, *key: str | int) -> np.random.Generator:
    """Random numbers that depend on the seed and the key's words and numbers alone, not on what was drawn before.

    The bits come from SFC64, seeded by the 128 bits of a blake2b hash; how numpy makes numbers of bits may change between
    its versions. Takes about 8 microseconds.
    """
    digest = hashlib.blake2b(json.dumps([seed, *key]).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))
