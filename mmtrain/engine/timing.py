"""What timing.jsonl says of a window and of an epoch: clock readings, throughput, peak memory."""

from mmtrain.engine.memory import forget_peak, largest_peak
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.engine.throughput import Throughput


def log_window(run: Run, state: RunState, window: Throughput) -> None:
    """The steps of a window that this process took part in, as all of them do here."""
    window.reduce(run.accelerator)
    run.throughput.join(window)
    if run.logs is not None:
        run.logs.timing.write({"kind": "window", "step": state.step, **window.record()})


def log_epoch(run: Run, state: RunState) -> None:
    """The windows of an epoch (evaluations take none of these seconds), since the last resume, and the peak memory of all.

    Every process takes part.
    """
    if not run.throughput.samples:
        return
    peak = largest_peak(run.accelerator) / 2**20
    record = {"kind": "epoch", "epoch": run.settings.epoch_of(state.step), "step": state.step, **run.throughput.record()}
    if run.logs is not None:
        run.logs.timing.write(record | {"peak_memory_mib": round(peak, 1)})
    whose = f" (the largest of {run.accelerator.num_processes} processes)" if run.accelerator.num_processes > 1 else ""
    run.say(f"epoch {record['epoch']}: {record['samples_per_second']:.1f} samples/s, peak memory {peak:,.0f} MiB{whose}")
    run.throughput.clear()
    forget_peak(run.accelerator.device)
