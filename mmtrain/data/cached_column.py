"""A column of texts of a store, and the files of a cache that hold what was made of them."""

from dataclasses import dataclass
from pathlib import Path

from mmtrain.data.cached_block import CachedBlock, open_block
from mmtrain.data.partial_files import remove_strays
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError

# samples of a file; files of a column: each that is mapped keeps a descriptor open, of which a process has 1024 by default
_LEAST, _MOST_FILES = 256, 64


@dataclass(frozen=True)
class CachedColumn:
    """Each file is of so many samples that follow each other in the store: a pure function of its table.

    `name`: of the column; `folder`: of the files.
    """

    store: FeatureStore
    name: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        """Those of a whole cache, in order."""
        count = -(-len(self.store) // self._samples)
        return [self.folder / f"{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]

    def texts(self, number: int) -> list[str]:
        """Each text of a file (counted from 0) once; a blank one is none."""
        begin = number * self._samples
        written = (self.store.text(index, self.name) for index in range(begin, begin + self.size(number)))
        return [text for text in dict.fromkeys(written) if text.strip()]

    def size(self, number: int) -> int:
        """Samples of a file."""
        return min(self._samples, len(self.store) - number * self._samples)

    @property
    def _samples(self) -> int:
        return max(_LEAST, -(-len(self.store) // _MOST_FILES))

    def is_sound(self, number: int, *, verify: bool) -> bool:
        """Whether a file is there and whole; with `verify`, whether every text and row in it is what it should be."""
        try:
            block = open_block(self.files[number])
        except DataError:
            return False
        return not verify or block.holds(self.texts(number))

    def unsound(self, *, verify: bool) -> list[int]:
        """The numbers of the files that are to be made."""
        return [number for number in range(len(self.files)) if not self.is_sound(number, verify=verify)]

    def open(self, *, remedy: str) -> list[CachedBlock]:
        """All files. Errors: DataError, which ends with `remedy`, where one is missing or damaged."""
        try:
            return [open_block(file) for file in self.files]
        except DataError as error:
            raise DataError(f"{error}. {remedy}") from None

    def clear_up(self) -> None:
        """Remove what killed processes have left behind, once all files are whole."""
        remove_strays(self.folder)
