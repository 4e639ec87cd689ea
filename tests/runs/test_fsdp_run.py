"""Weights in parts (FSDP): two processes that hold half of every weight train as one that holds them whole."""

import os
from typing import Any

from lives import Write
from test_processes_equal import PLAIN, assert_alike, double, float64, run_of


def in_parts() -> None:
    """As `accelerate launch --use_fsdp --fsdp_version 2`; the layers of tiny models are units too."""
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    from mmtrain.engine import sharding

    sharding.SMALLEST_UNIT = 1


def double_in_parts() -> None:
    double()
    in_parts()


def test_two_processes_with_weights_in_parts_equal_one_process(write_experiment: Write) -> None:
    """Slices of 4 and 3 in two passes and clipping throughout; evaluation is of 3 passes by 2 processes."""
    write = float64(write_experiment)
    changes: dict[str, Any] = {"batch": {"micro": 2}, "training": {**PLAIN["training"], "clipping": {"max_norm": 0.05}}}
    one = run_of(write, "one", patch=double, **changes)
    parts = run_of(write, "parts", world=2, patch=double_in_parts, **changes)
    assert_alike(one, parts, tolerance=1e-12)


def test_with_text(write_experiment: Write) -> None:
    assert_alike(run_of(write_experiment, "one"), run_of(write_experiment, "parts", world=2, patch=in_parts), tolerance=1e-5)
