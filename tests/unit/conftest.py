"""Fixtures of the tests of parts."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A matrix whose runs take no time: an `ablation_bench.Bench`."""
    from ablation_bench import Bench, fake_reading, finished  # slow to import

    from mmtrain.ablation import ablate, processes, report, status

    made = Bench(tmp_path)
    monkeypatch.setattr(ablate, "command_of", made.command)
    monkeypatch.setattr(ablate, "check_plan", lambda *_: None)
    monkeypatch.setattr(ablate, "reading_job", fake_reading)
    monkeypatch.setattr(status, "is_finished", finished)
    monkeypatch.setattr(report, "has_report", lambda: False)  # it takes as long as the rest
    monkeypatch.setattr(processes, "_POLL", 0.005)
    return made
