"""A part of a manifest, so that machines can share an extraction; the parts' stores are merged to one."""

import re
from dataclasses import dataclass, replace

from data_prep.manifest import Manifest
from mmtrain.errors import ConfigError, DataError


@dataclass(frozen=True)
class Shard:
    """The `number`-th (from 1) of `count` parts: every `count`-th sample, so that long and short ones are spread."""

    number: int
    count: int

    def of(self, manifest: Manifest) -> Manifest:
        """Its samples; splits, classes and columns stay those of the whole. Errors: DataError where it has none."""
        entries = manifest.entries[self.number - 1 :: self.count]
        if not entries:
            raise DataError(f"{manifest.file} has {len(manifest.entries)} samples, too few for {self.count} shards")
        return replace(manifest, entries=entries)


def read_shard(words: str) -> Shard:
    """Errors: ConfigError where the words are not such as 3/8."""
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", words)
    if found is None or int(found[1]) > int(found[2]):
        raise ConfigError(f"--shard {words}: write which of how many, from 1/8 to 8/8")
    return Shard(int(found[1]), int(found[2]))
