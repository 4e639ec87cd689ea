"""The test split of chosen variants: read once for each of their runs, and every reading written down before it is made."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mmtrain.ablation.plan import Plan, PlannedRun, Variant
from mmtrain.ablation.processes import Job
from mmtrain.ablation.rows import best_row, variant_rows
from mmtrain.ablation.status import Status
from mmtrain.config_errors import nearest
from mmtrain.engine.checkpoint import MANIFEST
from mmtrain.engine.jsonl import append, read_jsonl
from mmtrain.errors import ConfigError

BEST = "best"


@dataclass(frozen=True)
class Readings:
    """runs/<matrix>/test_reads.jsonl."""

    plan: Plan

    def note(self, run: PlannedRun) -> None:
        """Written down before the reading: one that is cut off has been one too."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        when = datetime.now().astimezone().isoformat(timespec="seconds")
        append(self.plan.folder / "test_reads.jsonl", {"time": when, "run": run.label, "checkpoint": _checkpoint(run)})

    def records(self) -> list[dict[str, Any]]:
        file = self.plan.folder / "test_reads.jsonl"
        return list(read_jsonl(file)) if file.is_file() else []

    def is_read(self, run: PlannedRun) -> bool:
        """Whether the test metrics of this very checkpoint are there."""
        noted = any(record["run"] == run.label and record["checkpoint"] == _checkpoint(run) for record in self.records())
        file = run.folder.path / "evaluation" / "test.json"
        return noted and file.is_file() and json.loads(file.read_text(encoding="utf-8"))["step"] == _step(run)


def _checkpoint(run: PlannedRun) -> str:
    """The hash of the best checkpoint's manifest, which holds those of its files."""
    manifest = run.folder.checkpoints / "best" / MANIFEST
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""


def _step(run: PlannedRun) -> int:
    return int((run.folder.checkpoints / "best").resolve().name.rpartition("-")[2])


def chosen_variants(plan: Plan, statuses: Sequence[Status], names: Sequence[str]) -> list[Variant]:
    """Variants by name or id; `best`: that with the best mean of the metric in validation.

    Errors: ConfigError for a name that no variant has, and where a run is missing of those that are chosen or chosen from.
    """
    chosen = []
    for name in names:
        found = [variant for variant in plan.variants if name in (variant.name, variant.id)]
        if name == BEST:
            _refuse_unfinished(statuses, plan.variants, "the best is known")
            rows, _ = variant_rows(plan, [status.run for status in statuses])
            best = best_row(rows, plan.matrix.metric)
            found = [best.variant] if best is not None else []
        if not found:
            known = [variant.name for variant in plan.variants]
            raise ConfigError(f"--final: no variant '{name}'{nearest(name, [*known, BEST])}")
        chosen += found
    _refuse_unfinished(statuses, chosen, "their test split is read")
    return list(dict.fromkeys(chosen))


def _refuse_unfinished(statuses: Sequence[Status], variants: Sequence[Variant], end: str) -> None:
    lacking = [status for status in statuses if status.run.variant in variants and not status.is_finished]
    if lacking:
        first = f"{lacking[0].run.label} is {lacking[0].state.value}"
        more = f", and {len(lacking) - 1} more are not finished" if len(lacking) > 1 else ""
        raise ConfigError(f"--final: {first}{more}; the same command without --final trains what is out, before {end}")


def reading_job(plan: Plan, run: PlannedRun) -> Job:
    """The command that reads the test split for a run."""
    command = (sys.executable, "-m", "mmtrain.cli", "evaluate", str(run.folder.path), "--split", "test")
    return Job(run.label, command, run.folder.path, plan.folder / "logs" / f"{run.label}.test.log")
