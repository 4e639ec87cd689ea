"""What cannot train on weights in parts (FSDP), each refused by the key that asks for it."""

from torch import nn

from mmtrain.config import Experiment
from mmtrain.curriculum.weighting.protocol import ByGradients, Weighting
from mmtrain.engine.optimizers.adafactor import AdafactorConfig
from mmtrain.errors import ConfigError
from mmtrain.sharded import is_sharded


def refuse_unshardable(experiment: Experiment, model: nn.Module, weighting: Weighting, *, num_processes: int) -> None:
    """Errors: ConfigError, where the model is in parts, that names the first key that asks for something whole."""
    if not is_sharded(model):
        return
    training, batch = experiment.training, experiment.batch
    if training.precision == "fp16":
        raise _error("training.precision", "fp16 scales losses by what a whole gradient holds", "bf16, or fp32")
    if training.compile:
        raise _error("training.compile", "a compiled model gathers no weights", "false")
    if isinstance(training.optimizer, AdafactorConfig):
        raise _error("training.optimizer", "adafactor takes means over rows and columns of whole weights", "another one")
    if isinstance(weighting, ByGradients):
        found = "it compares the tasks' gradients, of which each process would hold parts"
        raise _error("curriculum.weighting", found, "a weighting of losses")
    if experiment.model.text is not None and experiment.model.text.cache:
        raise _error("model.text.cache", "the first process reads texts with the encoder alone", "false")
    if batch.size % num_processes and (batch.tokens is not None or batch.micro == 1):
        found = (
            f"{num_processes} processes pass unequally often through {batch.size} samples where they are cut as finely as "
        )
        found += "batch.tokens or batch.micro: 1 cut them"
        raise _error("batch.size", found, f"a multiple of {num_processes}")


def _error(key: str, found: str, advice: str) -> ConfigError:
    return ConfigError(f"{key}: with weights in parts (FSDP), {found}; write {advice}, or launch with `--multi_gpu`")
