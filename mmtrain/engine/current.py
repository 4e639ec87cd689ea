"""What the model of this very moment says of training samples that no batch brings it."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mmtrain.engine.processes import share_buffers
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import sample_means
from mmtrain.evaluation.evaluate import evaluate_samples


def current_losses(run: Run, positions: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, npt.NDArray[np.float32]]:
    """Losses without dropout or gradient: stream -> [n], in the order of its positions, which ascend.

    The processes share the work, and all get the whole answer.
    """
    share_buffers(run.accelerator, run.model)
    numbers = {stream.name: number for number, stream in enumerate(run.train_streams)}
    arrays = evaluate_samples(
        run.accelerator.unwrap_model(run.model),
        run.train_streams,
        {numbers[name]: chosen for name, chosen in positions.items()},
        objective=run.objective,
        collate=run.loader.collate,
        accelerator=run.accelerator,
        batch_size=run.settings.eval_batch,
    )
    losses = sample_means(arrays)
    return {name: losses[arrays["stream"] == numbers[name]] for name in positions}
