"""The store that an import is to write, and what became of the samples."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from data_prep.failures import Failure, report_of
from mmtrain.errors import DataError


@dataclass(frozen=True)
class Target:
    """The store to be, and what is said while it is written."""

    out: Path
    console: Console
    name: str = ""
    licence: str = ""
    allow_failures: int = 0
    overwrite: bool = False

    def check(self) -> None:
        """Errors: DataError where the store exists already, before anything is read."""
        if self.out.exists() and not self.overwrite:
            raise DataError(f"{self.out} exists already; choose another folder or pass --overwrite")

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @property
    def report(self) -> Path:
        """The file that lists what failed."""
        return report_of(self.out)


@dataclass
class Outcome:
    """What became of the samples."""

    samples: int = 0
    failures: list[Failure] = field(default_factory=list)  # samples left out
    flaws: list[Failure] = field(default_factory=list)  # modalities left out of samples that were kept
    missing: Counter[str] = field(default_factory=Counter)  # modality -> samples without it
    sides: dict[str, str] = field(default_factory=dict)  # group -> its split
    torn: set[str] = field(default_factory=set)  # groups in more than one split
