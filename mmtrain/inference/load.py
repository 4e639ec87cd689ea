"""A run, or a package made of one, as a model that predicts: no store is opened, nothing is unpickled."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError

from mmtrain.config import Experiment, load_experiment
from mmtrain.data.collate import Collator
from mmtrain.data.schema import TaskSchema
from mmtrain.engine.checkpoint import Tensors
from mmtrain.engine.model_state import load_model_state
from mmtrain.engine.named_checkpoint import read_named, saved_weights
from mmtrain.engine.run_folder import RunFolder, scored_name
from mmtrain.engine.state import require_version
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.evaluation.calibration_file import CalibrationFile
from mmtrain.inference.compression import method_named
from mmtrain.inference.compression.protocol import Method, Precision
from mmtrain.inference.compression.record import read_compression
from mmtrain.inference.decision import decisions_of
from mmtrain.inference.trained_model import TrainedModel
from mmtrain.models.building import build_model
from mmtrain.models.model import MultimodalModel
from mmtrain.models.naming import module_key
from mmtrain.parts import without_pretrained
from mmtrain.signature import Signature, read_signature

WEIGHTS = "model.safetensors"
TEXT_FOLDER = "text"
CALIBRATION = "calibration.json"
METRICS = "metrics.json"
PACKED = "package"  # the name of a package's one checkpoint
_AUTOCAST: Mapping[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def load(
    path: str | Path,
    *,
    checkpoint: str = "best",
    weights: str = "trained",
    device: str | torch.device | None = None,
    precision: Precision | None = None,
) -> TrainedModel:
    """The model of a run folder, or of a folder that `mmtrain pack` or `mmtrain compress` wrote.

    `checkpoint`: best, last or a step's; `weights`: trained, or average (of a run; a package holds one). `device`: a GPU
    where there is one, else the CPU. `precision`: that of the compression, or the run's own; fp16 on a CPU as fp32.
    Errors: ConfigError where there is no such run, package or checkpoint; CheckpointError where it is damaged.
    """
    folder = Path(path).expanduser()
    is_package = (folder / WEIGHTS).is_file()
    if not is_package and not RunFolder(folder).is_run():
        raise ConfigError(f"{RunFolder(folder).refusal()}, and no {WEIGHTS} of a package (`mmtrain pack RUN --out FOLDER`)")
    experiment = load_experiment(RunFolder(folder).config)
    signature = read_signature(folder)
    compression = read_compression(folder) if is_package else None
    method = None if compression is None else method_named(compression.method)
    chosen = _precision(precision, method, experiment)
    if is_package:
        experiment = _with_own_text(experiment, folder)
    saved = (_read_package if is_package else _read_run)(folder, checkpoint=checkpoint, weights=weights)
    target = torch.device(device) if device is not None else _usual_device()
    model = build_architecture(experiment, signature)
    tensors = without_pretext(saved.tensors, experiment)
    if compression is None or method is None:
        load_model_state(model, tensors, origin=saved.origin)
    else:
        method.restore(model, tensors, compression.layers, origin=saved.origin)
    return TrainedModel(
        model=model.to(target),
        experiment=experiment,
        signature=signature,
        collate=_collator(experiment, signature),
        decisions=decisions_of(saved.calibration, {task: experiment.task(task).threshold for task in signature.tasks}),
        source=folder,
        identity=identity_of(tensors),
        measured=saved.measured,
        autocast=autocast_of(chosen, target),
        compression=compression,
    )


class _Saved(NamedTuple):
    """What a folder has of one model, beside its config and signature."""

    tensors: Tensors
    origin: str  # where they are from
    measured: dict[str, Any]  # by split, their metrics
    calibration: CalibrationFile


def _read_package(folder: Path, *, checkpoint: str, weights: str) -> _Saved:
    """Errors: ConfigError where a choice is made that there is not in a package."""
    if (checkpoint, weights) != ("best", "trained"):
        raise ConfigError(
            f"{folder} is a package, which holds the weights of one checkpoint; leave --checkpoint and --weights out"
        )
    calibration = CalibrationFile(path=folder / CALIBRATION, checkpoint=PACKED, weights=weights)
    return _Saved(_read_weights(folder / WEIGHTS), str(folder), _read_json(folder / METRICS) or {}, calibration)


def _read_run(folder: Path, *, checkpoint: str, weights: str) -> _Saved:
    """Errors: ConfigError where there is no such checkpoint, or it has no such weights."""
    run = RunFolder(folder)
    found, saved = read_named(run, checkpoint)
    require_version(saved, origin=str(found))
    try:
        tensors = saved_weights(saved, weights, origin=checkpoint)
    except ConfigError as error:
        raise ConfigError(f"--weights: {error}") from None
    measured = _measured(folder, step=int(saved.state["step"]), weights=weights)
    calibration = CalibrationFile(path=run.calibration(weights), checkpoint=found.name, weights=weights)
    return _Saved(tensors, str(found), measured, calibration)


def _precision(asked: Precision | None, method: Method | None, experiment: Experiment) -> Precision:
    """Errors: ConfigError where products of integers are asked to be others."""
    own = method.precision if method is not None else None
    if asked is not None and method is not None and method.is_integer and asked != own:
        raise ConfigError(f"precision {asked}: products of {method.name} weights are of integers; leave it out")
    return asked or own or experiment.training.precision


def autocast_of(precision: Precision, device: torch.device) -> torch.dtype | None:
    """To what factors of products are rounded; None: they are not."""
    return None if precision == "fp16" and device.type == "cpu" else _AUTOCAST[precision]


def _measured(run: Path, *, step: int, weights: str) -> dict[str, Any]:
    """By split, what `mmtrain evaluate` found of these very weights."""
    found = {}
    for split in ("val", "test"):
        values = _read_json(run / "evaluation" / f"{scored_name(split, weights)}.json")
        if values is not None and values["step"] == step:
            found[split] = {"step": step, "rows": values["rows"]}
    return found


def _read_json(file: Path) -> dict[str, Any] | None:
    """None where there is none. Errors: CheckpointError where it is damaged."""
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return values
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error})") from None


def load_hub(name: str, **options: Any) -> TrainedModel:
    """A package from the Hugging Face hub; `options`: those of `snapshot_download`."""
    from huggingface_hub import snapshot_download

    return load(snapshot_download(name, **options))


def _usual_device() -> torch.device:
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None else found


def _with_own_text(experiment: Experiment, folder: Path) -> Experiment:
    """The text encoder's architecture and tokenizer from the package."""
    text = experiment.model.text
    if text is None:
        return experiment
    own = text.model_copy(update={"path": str(folder / TEXT_FOLDER)})
    return experiment.model_copy(update={"model": experiment.model.model_copy(update={"text": own})})


def _read_weights(file: Path) -> Tensors:
    try:
        tensors: Tensors = safetensors.torch.load_file(file)
        return tensors
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged ({error})") from None


def build_architecture(experiment: Experiment, signature: Signature) -> MultimodalModel:
    """Random weights, in evaluation mode; without the modules of pretext tasks, which say nothing of new data."""
    tasks = signature.tasks
    return build_model(
        without_pretrained(experiment.model),
        dims={name: item.dim for name, item in signature.modalities.items()},
        outputs={name: task.num_outputs for name, task in tasks.items()},
        heads={name: experiment.task(name).head for name in tasks},
        scalar_tasks=[name for name, task in tasks.items() if task.kind in ("binary", "regression")],
        frames={name: item.shape for name, item in signature.modalities.items() if item.shape is not None},
        rates=signature.rates,
    ).eval()


def without_pretext(tensors: Tensors, experiment: Experiment) -> Tensors:
    """The weights that answer tasks with labels."""
    left_out = tuple(f"heads.{module_key(task, 'head')}." for task in experiment.pretext)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(left_out)} if left_out else dict(tensors)


def _collator(experiment: Experiment, signature: Signature) -> Collator:
    text = experiment.model.text
    tasks = {
        name: TaskSchema(kind=task.kind, classes=task.classes, unit=task.unit) for name, task in signature.tasks.items()
    }
    return Collator(
        dims={name: item.dim for name, item in signature.modalities.items() if item.shape is None},
        frames={name: item.shape for name, item in signature.modalities.items() if item.shape is not None},
        tasks=tasks,
        tokenizer=text.build_tokenizer() if text is not None else None,
        reads_pairs=experiment.model.second_text,
    )


def identity_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 of names, types and bytes, whatever folder they came from."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
