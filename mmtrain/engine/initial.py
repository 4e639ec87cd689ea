"""The weights that a run begins with, where they are an earlier run's or a file's."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

from mmtrain.engine.checkpoint import MANIFEST, Checkpoint, Tensors, read_checkpoint
from mmtrain.engine.fitting import Fit, compare, lost_adapters, under_names_of
from mmtrain.engine.initial_config import InitialConfig, Match
from mmtrain.engine.look_once import look_once
from mmtrain.engine.named_checkpoint import read_named, saved_weights
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.state import require_version
from mmtrain.errors import CheckpointError, ConfigError, UserError


@dataclass(frozen=True)
class InitialWeights:
    """Tensors for a model, and where they are from. `source`: what identifies them, as plain values."""

    tensors: Tensors
    origin: str
    source: Mapping[str, Any]
    match: Match

    def load(self, model: nn.Module) -> Fit:
        """Copy what fits into the model, parameters and buffers.

        A layer that gets an adapter here begins with its weights of there.
        Errors: ConfigError where nothing does, where `match` is strict and something does not, or where what an adapter
        learned would be lost.
        """
        state = model.state_dict()
        if lost := lost_adapters(state, self.tensors):
            raise ConfigError(
                f"initial: {self.origin} has LoRA adapters in {len(lost)} layers that have none here ({lost[0]}, ...); what "
                "they learned would be lost, and the file does not say by which factor it counts. Write text.lora as it was "
                "there, or begin with other weights"
            )
        tensors = under_names_of(state, self.tensors)
        fit = compare(state, tensors)
        if not fit.fitting:
            here, there = (", ".join(list(names)[:3]) or "none" for names in (state, self.tensors))
            raise ConfigError(
                f"initial: nothing of {self.origin} fits this model: {fit.num_there} tensors ({there}, ...) there, "
                f"{fit.num_here} ({here}, ...) here"
            )
        if self.match == "strict" and not fit.is_whole:
            raise ConfigError(
                f"initial: {self.origin} is of another model, which fits {fit.words()}. Write initial.match=shapes to begin "
                "with what fits"
            )
        model.load_state_dict({name: tensors[name] for name in fit.fitting}, strict=False)
        return fit


def _read_same(run: RunFolder, name: str, accelerator: Accelerator) -> tuple[Path, Checkpoint]:
    """What `name` leads to, on every process what it led to on the first one: it moves while a run goes on."""
    found: list[tuple[Path, Checkpoint]] = []

    def read() -> str:
        try:
            found.append(read_named(run, name))
        except UserError as error:
            raise ConfigError(f"initial.checkpoint: {error}") from None
        return str(found[0][0])

    folder = look_once(accelerator, read)
    return found[0] if found else (Path(folder), read_checkpoint(Path(folder)))


def read_initial(config: InitialConfig, *, own: Path, accelerator: Accelerator) -> InitialWeights:
    """The tensors, verified; all processes read what the first one finds. `own`: the folder of the run that begins.

    Errors: ConfigError where there is nothing of that name, CheckpointError where it is damaged.
    """
    if config.file is not None:
        return _read_file(Path(config.file), match=config.match)
    assert config.run is not None
    run = RunFolder(Path(config.run))
    if run.path.resolve() == own.resolve():
        raise ConfigError(f"initial.run: {run.path} is this run itself; name an earlier one")
    if not run.is_run():
        raise ConfigError(f"initial.run: {run.refusal()}; train it first, or name another")
    folder, checkpoint = _read_same(run, config.checkpoint, accelerator)
    require_version(checkpoint, origin=f"initial.run: {folder}")
    try:
        tensors = saved_weights(checkpoint, config.weights, origin=config.checkpoint)
    except ConfigError as error:
        raise ConfigError(f"initial.weights: {run.path}: {error}; write trained") from None
    step = int(checkpoint.state["step"])
    source = {"step": step, "weights": config.weights, "manifest": _sha256(folder / MANIFEST)}
    return InitialWeights(tensors, origin=f"{run.path}, step {step}", source=source, match=config.match)


def _read_file(file: Path, *, match: Match) -> InitialWeights:
    try:
        source = {"sha256": _sha256(file)}
        tensors = safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise ConfigError(f"initial.file: there is no file {file}") from None
    except OSError as error:
        raise ConfigError(f"initial.file: {file} cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise CheckpointError(f"initial.file: {file} is damaged, or no safetensors file ({error})") from None
    return InitialWeights(tensors, origin=str(file), source=source, match=match)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
