"""A keyed shuffle of 0 .. size - 1, evaluated at the positions asked for and nowhere else (G6).

Small sizes sort keyed hashes. Larger ones run a Feistel network on a grid a x b that barely covers the size (Black and
Rogaway 2002, "Ciphers with Arbitrary Finite Domains", generalized Feistel and cycle walking). The integer mixing is our
own, so that a shuffle never depends on a library's version.
"""

import hashlib
from math import isqrt

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.streams import Integers

Words = npt.NDArray[np.uint64]

SORTED_UP_TO = 4096
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the increment of SplitMix64
_ROUNDS = 4  # each changes both halves: eight Feistel rounds
_MUL_1, _MUL_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = (np.uint64(bits) for bits in (27, 30, 31, 32))


def derive_key(*parts: str | int) -> int:
    """A 64-bit key of a list of words and numbers; different lists give unrelated keys."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def hash_words(values: Words, key: int) -> Words:
    """64-bit hashes of 64-bit words under a key, elementwise; one to one for each key."""
    return _mix(values * np.uint64(_GOLDEN) + np.uint64(key & _MASK))


def permute(positions: Integers, passes: Integers, *, size: int, key: int) -> Integers:
    """Where each position of 0 .. size - 1 goes in the shuffle of its pass.

    `positions` [n] and `passes` [n] int64 give [n] int64: for one pass, a bijection of range(size), unrelated to that of
    any other pass or key. Memory grows with n (and with `SORTED_UP_TO`), never with size. Size < 2^62.
    """
    if size == 1:
        return np.zeros(len(positions), np.int64)
    keys = _mix(hash_words(passes.astype(np.uint64), key))
    if size <= SORTED_UP_TO:
        return _permute_by_sorting(positions, keys, size)
    rows = isqrt(size - 1) + 1
    columns = -(-size // rows)
    found = _feistel(positions.astype(np.uint64), keys, rows, columns)
    outside = np.flatnonzero(found >= size)
    while len(outside):  # fewer than one in `rows` leave the grid's covered part; they walk on until they are back
        found[outside] = _feistel(found[outside], keys[outside], rows, columns)
        outside = outside[found[outside] >= size]
    return found.astype(np.int64)


def _permute_by_sorting(positions: Integers, keys: Words, size: int) -> Integers:
    unique, row = np.unique(keys, return_inverse=True)
    hashes = hash_words(np.arange(size, dtype=np.uint64), 0) + unique[:, None]  # [passes, size]
    order = np.argsort(_mix(hashes), axis=1, kind="stable")
    return order[row, positions].astype(np.int64, copy=False)


def _feistel(values: Words, keys: Words, rows: int, columns: int) -> Words:
    wide = np.uint64(columns)
    left, right = np.divmod(values, wide)
    for number in range(_ROUNDS):
        left = _add_below(left, keys + right, 2 * number, rows)
        right = _add_below(right, keys + left, 2 * number + 1, columns)
    return left * wide + right


def _add_below(half: Words, words: Words, number: int, limit: int) -> Words:
    bound = np.uint64(limit)
    words += np.uint64((number + 1) * 0xD1342543DE82EF95 & _MASK)
    shift = (_mix(words) >> _S32) * bound >> _S32  # uniform over 0 .. limit - 1
    shift += half
    below: Words = np.minimum(shift, shift - bound)
    return below  # modulo limit: below zero wraps to a huge number


def _mix(words: Words) -> Words:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014), in place."""
    words ^= words >> _S30
    words *= _MUL_1
    words ^= words >> _S27
    words *= _MUL_2
    words ^= words >> _S31
    return words
