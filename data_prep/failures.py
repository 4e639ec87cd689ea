"""Samples that could not be read, or with flaws: what is said of each, their file, and the error of exit code 3."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.fetch.record import write_text
from mmtrain.errors import DataError


@dataclass(frozen=True)
class Failure:
    """A sample or a modality of it, and what is wrong with it."""

    id: str
    modality: str
    file: str
    reason: str


class MediaError(DataError):
    """Samples could not be read, more of them than were allowed."""

    def __init__(self, failures: Sequence[Failure], message: str, *, total: int) -> None:
        super().__init__(message)
        self.failures, self.total = failures, total


def report_of(out: Path) -> Path:
    """The file that lists what failed of the store to be at `out`."""
    return out.with_name(out.name + ".failures.jsonl")


def write_report(out: Path, failures: Sequence[Failure], *, flaws: Sequence[Failure] = ()) -> None:
    """Write `<out>.failures.jsonl`, or remove an earlier one; `flaws`: of samples that are kept ("kept": true)."""
    report = report_of(out)
    if not failures and not flaws:
        report.unlink(missing_ok=True)
        return
    report.parent.mkdir(parents=True, exist_ok=True)
    told = [vars(failure) | {"kept": False} for failure in failures] + [vars(flaw) | {"kept": True} for flaw in flaws]
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in told)
    write_text(report, lines.encode("utf-8", "backslashreplace").decode())  # a name that is no Unicode, as JSON escapes it


def describe_report(report: Path, failures: Sequence[Failure], flaws: Sequence[Failure]) -> str:
    """What a command says of the samples in the report, and where it is; "" where there are none."""
    counts = {"left out": len(failures), "kept with flaws in the text": len({flaw.id for flaw in flaws})}
    told = [f"{count} sample{'s' if count != 1 else ''} {what}" for what, count in counts.items() if count]
    return f"{', '.join(told)}, see {report}" if told else ""


def check_allowed(out: Path, failures: Sequence[Failure], *, allowed: int, total: int, what: str) -> None:
    """Errors: MediaError where there are more failures than allowed. `what`: what there are `total` of, and fails."""
    if len(failures) <= allowed:
        return
    first = failures[0]
    place = f", {first.modality} {first.file}" if first.modality else ""
    raise MediaError(
        failures,
        f"{len(failures)} of {total} {what} ({allowed} allowed): no store was written. The first: sample '{first.id}'"
        f"{place}: {first.reason}. All: {report_of(out)}. Mend the data, or leave these samples out with "
        f"--allow-failures {len(failures)}",
        total=total,
    )
