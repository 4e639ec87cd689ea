"""Numbers that tell which samples are of one source or say the same, whatever process, stream or batch they come in."""

import hashlib
import unicodedata


def group_key(store: str, group: str) -> int:
    """Of a group of a store: 63 bits, the same in every run."""
    return _hash("group", store, group)


def text_key(store: str, sample: str, text: str) -> int:
    """Of a text, whatever its case, white space and Unicode form; a sample without text shares its key with no other."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return _hash("text", " ".join(words)) if words else _hash("no text", store, sample)


def _hash(*parts: str) -> int:
    data = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)  # no two lists join to one
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1
