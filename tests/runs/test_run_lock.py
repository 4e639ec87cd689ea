"""Two trainings of one run folder: the second is refused and told by whom; a killed one is in nobody's way."""

import os
import signal
import time
from pathlib import Path

from lives import alive, live, weights


def wait_at_last_step() -> None:
    """Stop in the fourth step, when a checkpoint has been made; say so by a file."""
    from mmtrain.engine import loop

    train_step = loop.train_step

    def waiting(run: object, inputs: object) -> object:
        if inputs.step == 3:  # type: ignore[attr-defined]
            Path("here").touch()
            signal.pause()
        return train_step(run, inputs)  # type: ignore[arg-type]

    loop.train_step = waiting  # type: ignore[assignment]


def test_a_folder_in_use_is_refused_may_be_read_and_is_free_after_a_kill(fields: Path, tmp_path: Path) -> None:
    arguments = ["train", "--config", str(fields)]
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "runs" / "run"
    elsewhere.mkdir()
    with alive(arguments, cwd=tmp_path, patch=wait_at_last_step) as holder:
        end = time.monotonic() + 60
        while not (tmp_path / "here").exists():
            assert holder.is_alive()
            assert time.monotonic() < end
            time.sleep(0.02)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        for flags in ([], ["--resume"], ["--overwrite"]):
            refused = live([*arguments, *flags], cwd=elsewhere)
            assert refused.code == 2
            assert refused.err.startswith(f"error: run folder {run} is in use: process {holder.pid} on "), refused.err
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
        scored = live(["evaluate", str(run), "--checkpoint", "last"], cwd=elsewhere)
        assert scored.code == 0, scored.err
        os.kill(holder.pid, signal.SIGKILL)
        holder.join(10)
    life = live([*arguments, "--resume"], cwd=elsewhere)
    assert life.code == 0, life.err
    assert not (run / "training.lock").exists()
    assert live([*arguments, "name=whole"], cwd=elsewhere).code == 0
    assert weights(fields, "run") == weights(fields, "whole")
