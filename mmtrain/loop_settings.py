"""What the loop is told of steps, batches and reading: an experiment's keys as the engine counts them."""

from accelerate import Accelerator

from mmtrain.config import Experiment
from mmtrain.data.augment.augmentation import Augmentation
from mmtrain.engine.loading import Loader
from mmtrain.engine.run import LoopSettings
from mmtrain.errors import ConfigError
from mmtrain.parts import Parts, steps_of_epoch


def loop_settings(experiment: Experiment, parts: Parts, *, num_processes: int) -> LoopSettings:
    """Errors: ConfigError where the batch cannot be shared by the processes, or leaves nothing to compare."""
    _check_batch(experiment, num_processes)
    training = experiment.training
    per_epoch = steps_of_epoch(experiment, parts.train_streams)
    return LoopSettings(
        batch_size=experiment.batch.size,
        total_steps=training.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        window=experiment.curriculum.window,
        eval_every=training.eval_every,
        checkpoint_every=training.checkpoint_every,
        keep_checkpoints=training.keep_checkpoints,
        on_save_error=training.on_save_error,
        eval_batch=experiment.batch.evaluation,
        on_nonfinite=training.on_nonfinite,
        skip_limit=training.skip_limit,
        metric=experiment.selection.metric,
        mode=experiment.selection.mode,
        patience=experiment.selection.patience,
        seed=experiment.seed,
        detect_anomaly=training.detect_anomaly,
        train_predictions=training.train_predictions,
    )


def _check_batch(experiment: Experiment, num_processes: int) -> None:
    size, micro = experiment.batch.size, experiment.batch.micro
    if size < num_processes:
        raise ConfigError(f"batch.size: {size} samples cannot be shared by {num_processes} processes")
    comparing = [name for name, row in experiment.pretext.items() if row.compares]
    if comparing and min((micro or size) * num_processes, size) < 2:
        key = "size" if size < 2 else "micro"
        raise ConfigError(
            f"batch.{key}: with 1, the pretext task '{comparing[0]}' has nothing in a forward pass to compare a sample "
            "with; write at least 2"
        )
    if experiment.pretext and micro == 1 and size % num_processes:
        raise ConfigError(
            f"batch.micro: with 1, the {num_processes} processes pass unequally often through {size} samples, "
            "and pretext tasks compare what is in one pass of all; write at least 2"
        )


def build_loader(experiment: Experiment, parts: Parts, accelerator: Accelerator) -> Loader:
    """What reads this process's slice of every batch, and augments it."""
    rows = {
        modality: {name: config.build() for name, config in configs.items()}
        for modality, configs in experiment.augmentation.items()
    }
    return Loader(
        streams=parts.train_streams,
        collate=parts.collate,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        micro=experiment.batch.micro,
        tokens=experiment.batch.tokens,
        prefetch=experiment.batch.prefetch,
        pin_memory=accelerator.device.type == "cuda",
        augment=Augmentation(rows, seed=experiment.seed) if rows else None,
        compares=bool(experiment.pretext),
    )
