"""The hunt for a NaN: torch's anomaly mode, which names the operation whose backward pass made it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmtrain.engine.loading import StepInput
from mmtrain.engine.nonfinite import keep_batch
from mmtrain.engine.run import Run
from mmtrain.errors import NonFiniteError

_FOUND = re.compile(r"Function '(\w+)' returned nan values in its (\d+)th output")


@contextmanager
def detecting_anomaly(run: Run, inputs: StepInput) -> Iterator[None]:
    """Round the passes of a step. With `detect_anomaly` every operation is checked, which is slow, and a NaN of one ends the
    run whatever `on_nonfinite` says; torch warns with the traceback of its forward call. Inf goes on to the gradient.

    Errors: NonFiniteError naming the operation, in the process where it is; another one ends for having lost this one.
    """
    with torch.autograd.set_detect_anomaly(run.settings.detect_anomaly):
        try:
            yield
        except RuntimeError as error:
            found = _FOUND.search(str(error))
            if found is None:
                raise
            kept = keep_batch(run, inputs, {"origin": f"the backward pass of {found[1]}", "samples": []})
            raise NonFiniteError(
                f"step {inputs.step + 1}: the backward pass of {found[1]} gave NaN (its output {found[2]}; "
                f"training.detect_anomaly). No weight was changed. The warning above shows where the forward pass called "
                f"it. {kept}"
            ) from error
