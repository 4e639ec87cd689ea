"""`--profile`: some steps behind a warm-up are measured, a few more are traced, and a table says what they cost."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import record_function

from mmtrain.engine.memory import peak_memory
from mmtrain.engine.profiling.costs import PHASES, Cost, Costs
from mmtrain.engine.profiling.trace import Trace
from mmtrain.engine.run_folder import write_whole

Item = TypeVar("Item")
WARM_UP = 5  # steps that are not measured


class Profile:
    """Takes the marks of the loop, in the one process that has it. It draws no random number and talks to no other process.

    `steps`: how many are measured; `folder`: for table.md, table.json and trace.json.gz; `say`: prints. At a mark that is
    measured the device is waited for, so that work counts where it was asked for. What is traced is not measured: tracing
    takes time itself.
    """

    def __init__(self, folder: Path, *, steps: int, device: torch.device, say: Callable[[str], None]) -> None:
        self._folder, self._wanted, self._device, self._say = folder, steps, device, say
        self._costs = Costs(self._now)
        self._trace = Trace(folder / "trace.json.gz", device)
        self._finished, self._is_shown = 0, False

    def span(self, phase: str, *, covers: int = 0) -> AbstractContextManager[Any]:
        """What happens inside is `phase` (of `PHASES`), but for what spans in it claim.

        `covers`: of what is not done in every step, the steps that it is done once for; it is measured whenever it comes.
        """
        if phase == "evaluation":
            self._trace.end()  # else it would be most of a trace that is of steps
        return record_function(phase) if self._trace.is_under_way else self._costs.span(phase, covers=covers)

    def waits(self, phase: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the wait for each is `phase`."""
        while True:
            with self.span(phase):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def finish_step(self) -> None:
        """A step is over, and no span is open."""
        self._finished += 1
        if self._trace.is_under_way:
            self._trace.finish_step()
        elif WARM_UP < self._finished <= WARM_UP + self._wanted:
            self._costs.finish_step()
        if self._finished == WARM_UP:
            self._costs.begin_steps()
        if self._finished >= WARM_UP + self._wanted:
            self._costs.end_steps()
            if not self._trace.said and not self._trace.is_under_way:
                self._trace.begin()
            if self._trace.said and not self._is_shown:
                self._show()

    def close(self) -> None:
        """The run is over, however it ended: write the table once more, with what came since."""
        self._trace.end()
        if not self._costs.steps:
            self._say(
                f"profile: nothing was measured. {self._finished} steps were trained, and the first {WARM_UP} only warm up; "
                "train more"
            )
        elif self._is_shown:
            self._write()
        else:
            self._show()

    def _show(self) -> None:
        self._is_shown = True
        self._write()
        said = self._trace.said or "there is no trace: the run ended before it"
        self._say(f"{profile_table(self._summary())}\nprofile: {said}")

    def _write(self) -> None:
        summary = self._summary()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / "table.json", json.dumps(summary, indent=1) + "\n")
            write_whole(self._folder / "table.md", profile_table(summary) + "\n")
        except OSError as error:
            self._say(f"profile: {error.filename or self._folder} cannot be written ({error.strerror})")

    def _summary(self) -> dict[str, Any]:
        return summarize(self._costs.found()) | {
            "device": str(self._device),
            "warm_up_steps": WARM_UP,
            "measured_steps": self._costs.steps,
            "peak_memory_mib": round(peak_memory(self._device) / 2**20, 1),
        }

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return time.perf_counter()


def summarize(costs: Mapping[str, Cost]) -> dict[str, Any]:
    """Milliseconds a step of each phase, and its share of their sum."""
    total = sum(cost.seconds_per_step for cost in costs.values())
    phases = {
        phase: {
            "ms_per_step": round(1e3 * cost.seconds_per_step, 4),
            "share": round(cost.seconds_per_step / total, 4),
            "times": cost.times,
            "steps": cost.steps,
        }
        for phase, cost in costs.items()
    }
    return {"ms_per_step": round(1e3 * total, 4), "phases": phases}


def profile_table(summary: Mapping[str, Any]) -> str:
    """The summary as markdown, readable as it stands."""
    head = ("phase", "ms a step", "share", "measured", "what")
    rows = [
        (phase, f"{entry['ms_per_step']:.2f}", f"{entry['share']:.1%}", _measured(entry), PHASES[phase])
        for phase, entry in summary["phases"].items()
    ]
    missing = [phase for phase in PHASES if phase not in summary["phases"]]
    rows += [(phase, "-", "-", "not yet", PHASES[phase]) for phase in missing]
    rows.append(("sum", f"{summary['ms_per_step']:.2f}", "100.0%", "", ""))
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    right = (False, True, True, False, False)
    lines = [
        "| "
        + " | ".join(
            f"{cell:>{width}}" if flush else f"{cell:<{width}}"
            for cell, width, flush in zip(row, widths, right, strict=True)
        )
        + " |"
        for row in (head, *rows)
    ]
    rule = (
        "| "
        + " | ".join("-" * (width - 1) + ":" if flush else "-" * width for width, flush in zip(widths, right, strict=True))
        + " |"
    )
    first = (
        f"Where a step's time goes on {summary['device']}: {summary['measured_steps']} steps behind "
        f"{summary['warm_up_steps']} of warm-up; peak memory {summary['peak_memory_mib']:,.0f} MiB"
    )
    return "\n".join([first, "", lines[0], rule, *lines[1:]])


def _measured(entry: Mapping[str, Any]) -> str:
    if entry["times"] == entry["steps"]:
        return f"{entry['steps']} steps"
    return f"{entry['times']} in {entry['steps']} steps"
