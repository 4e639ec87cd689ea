"""A Chrome trace of a few steps by torch.profiler; where it cannot be made it says so, and stops nothing."""

import os
from pathlib import Path

import torch
from torch.autograd import profiler
from torch.profiler import ProfilerActivity, kineto_available, profile, schedule

TRACED = 3  # steps, behind one that warms the tracer up


class Trace:
    """Begun between two steps, it ends by itself behind the last step that it shows. `said`: what came of it, then."""

    def __init__(self, file: Path, device: torch.device) -> None:
        self._file, self._finished = file, 0
        self._activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self._tracer: profile | None = None
        self.said = ""

    @property
    def is_under_way(self) -> bool:
        return self._tracer is not None

    def begin(self) -> None:
        """Between two steps, while none is under way."""
        if not kineto_available():
            self.said = "there is no trace: this build of torch has no Kineto"
        elif profiler._is_profiler_enabled:
            self.said = "there is no trace: another profiler is at work in this process"
        else:
            os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it writes its own remarks between ours
            steps = schedule(wait=0, warmup=1, active=TRACED, repeat=1)
            self._tracer = profile(activities=self._activities, schedule=steps, on_trace_ready=self._write)
            self._tracer.start()
            self._finished = 0

    def finish_step(self) -> None:
        """A step is over."""
        assert self._tracer is not None
        self._finished += 1
        self._tracer.step()
        if self._finished == 1 + TRACED:
            self._tracer = None

    def end(self) -> None:
        """Write what it shows so far, if one is under way. Where that is no step yet it may begin once more."""
        if self._tracer is not None:
            self._tracer.stop()
            self._tracer = None

    def _write(self, tracer: profile) -> None:
        steps = self._finished - 1
        if not steps:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            tracer.export_chrome_trace(str(self._file))
        except OSError as error:
            self.said = f"there is no trace: {self._file} cannot be written ({error.strerror})"
        else:
            self.said = f"trace of {steps} step{'s' * (steps > 1)} for https://ui.perfetto.dev: {self._file}"
