"""What a check says: how bad it is, what was found in numbers, and what to write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "note", "warning", "problem"]
SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "problem")  # rising


@dataclass(frozen=True)
class Finding:
    """One sentence of one check. `warning`: results mislead or suffer; `problem`: the run is not worth its time so."""

    check: str
    severity: Severity
    found: str
    fix: str = ""  # what to write; empty where there is nothing to mend

    def lines(self) -> list[str]:
        """As it is printed."""
        return [f"{self.check}: {self.severity}: {self.found}", *([f"    fix: {self.fix}"] if self.fix else [])]


def worst(findings: Sequence[Finding]) -> Severity:
    """The greatest severity of all; `ok` where there is none."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default="ok")
