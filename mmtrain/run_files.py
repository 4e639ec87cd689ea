"""What a run writes besides its checkpoints, and what those belong to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from mmtrain.config import Experiment, dump_yaml
from mmtrain.data.bad_samples import bad_sample_records
from mmtrain.data.store import FeatureStore
from mmtrain.engine.code_version import code_change
from mmtrain.engine.environment import describe_environment
from mmtrain.engine.fitting import Fit
from mmtrain.engine.initial import InitialWeights
from mmtrain.engine.jsonl import JsonLines
from mmtrain.engine.run import Logs
from mmtrain.engine.run_folder import RunFolder, write_whole
from mmtrain.engine.tracking import Tracker
from mmtrain.errors import CheckpointError
from mmtrain.models.building import ParameterCount
from mmtrain.signature import FILE as SIGNATURE
from mmtrain.signature import Signature

# A resumed run may differ in these; nothing that is trained or logged depends on them, but where it would have stopped.
_FREE_KEYS = (
    ("runs",),
    ("cache",),
    ("tracking",),
    ("batch", "prefetch"),
    ("training", "checkpoint_every"),
    ("training", "keep_checkpoints"),
    ("training", "train_predictions"),
    ("training", "on_save_error"),
    ("training", "on_nonfinite"),
    ("training", "skip_limit"),
    ("training", "detect_anomaly"),
)


def begin_run(experiment: Experiment, accelerator: Accelerator, parameters: ParameterCount, *, continues: bool) -> None:
    """config.yaml, and in environment.json an entry for every start of the run; a run to be replaced is deleted here.

    `continues`: a run that was stopped before its first checkpoint, whose config may be another by now.
    """
    folder = RunFolder(experiment.folder)
    if continues:
        write_whole(folder.config, dump_yaml(experiment))
        note_start(experiment, accelerator, parameters)
    else:
        start = _start(experiment, accelerator, parameters)
        folder.begin(config=dump_yaml(experiment), environment=json.dumps([start], indent=1))


def note_start(experiment: Experiment, accelerator: Accelerator, parameters: ParameterCount) -> str:
    """Add an entry of environment.json for a run that goes on; gives how its code has changed, '' if it has not."""
    folder = RunFolder(experiment.folder)
    folder.preempted.unlink(missing_ok=True)
    starts = json.loads(folder.environment.read_text(encoding="utf-8"))
    start = _start(experiment, accelerator, parameters)
    write_whole(folder.environment, json.dumps([*starts, start], indent=1))
    return code_change(starts[-1:], start)


def _start(experiment: Experiment, accelerator: Accelerator, parameters: ParameterCount) -> dict[str, Any]:
    start = describe_environment(
        seed=experiment.seed,
        num_processes=accelerator.num_processes,
        device=str(accelerator.device),
        precision=experiment.training.precision,
    )
    return start | {"parameters": {"total": parameters.total, "trained": parameters.trainable}}


def name_bad_samples(folder: RunFolder, stores: Mapping[str, FeatureStore]) -> None:
    """bad_samples.jsonl: a line for each sample that is left out; no file where there is none.

    Where there is a checkpoint it stands already: with other samples the run is not resumed.
    """
    if folder.checkpoints.is_dir():
        return
    lines = [json.dumps(record, ensure_ascii=False) for record in bad_sample_records(stores)]
    if lines:
        write_whole(folder.bad_samples, "\n".join([*lines, ""]))
    else:
        folder.bad_samples.unlink(missing_ok=True)


def write_signature(folder: RunFolder, signature: Signature) -> None:
    """signature.json: what new data must be like, and what the answers mean."""
    write_whole(folder.path / SIGNATURE, signature.model_dump_json(indent=1))


def write_initial(folder: RunFolder, initial: InitialWeights, fit: Fit) -> None:
    """initial.json: whose weights the run begins with, and every name that was loaded or was not."""
    record = {"from": initial.origin, "source": dict(initial.source), "match": initial.match} | fit.record()
    write_whole(folder.initial, json.dumps(record, indent=1))


def recorded_source(folder: RunFolder) -> Mapping[str, Any] | None:
    """What identifies the weights that a run began with: the run needs them no more, and they may have changed since.

    Errors: CheckpointError where initial.json is damaged.
    """
    try:
        source: Mapping[str, Any] = json.loads(folder.initial.read_text(encoding="utf-8"))["source"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{folder.initial} is damaged, and says what weights the run began with; start anew with --overwrite"
        ) from None
    return source


def identity(
    experiment: Experiment, stores: Mapping[str, FeatureStore], initial: Mapping[str, Any] | None = None
) -> dict[str, object]:
    """What a checkpoint belongs to: the config without its free keys, the stores' fingerprints, and what identifies the
    initial weights.
    """
    config = experiment.resolved()
    for *above, key in _FREE_KEYS:
        section = config
        for name in above:
            section = section[name]
        section.pop(key, None)
    for dataset in config["datasets"].values():
        (dataset["fold"] or {}).pop("file", None)  # what it says is in the store's fingerprint
    source = config["initial"]
    if source is not None and source["run"] is not None and Path(source["run"]).is_relative_to(experiment.runs):
        source["run"] = str(Path(source["run"]).relative_to(experiment.runs))  # `runs` is free
    fingerprints = {name: store.fingerprint for name, store in stores.items()}
    return {"config": config, "stores": fingerprints, "initial": None if initial is None else dict(initial)}


def open_logs(folder: RunFolder) -> Logs:
    """The run's lines of JSON, to be written on; a line that was cut off is mended."""
    metrics, curriculum, timing = (JsonLines(file).mend() for file in (folder.metrics, folder.curriculum, folder.timing))
    return Logs(metrics=metrics, curriculum=curriculum, timing=timing)


def check_trackers(experiment: Experiment) -> None:
    """Errors: ConfigError where a tracker that was asked for is not installed (W&B alone may be absent)."""
    if experiment.tracking.tensorboard:
        from mmtrain.engine.tracking.tensorboard import require_tensorboard

        require_tensorboard()
    if experiment.tracking.report:
        from mmtrain.report import require_report

        require_report("tracking.report")


def open_trackers(experiment: Experiment, folder: RunFolder, console: Console) -> list[Tracker]:
    """Those that the experiment asks for."""
    trackers: list[Tracker] = []
    tracking = experiment.tracking
    if tracking.wandb != "disabled":
        from mmtrain.engine.tracking.wandb import WandbTracker

        trackers.append(
            WandbTracker(
                mode=tracking.wandb,
                project=tracking.project,
                name=experiment.name,
                folder=folder.path,
                config=experiment.resolved(),
                console=console,
                group=tracking.group,
                tags=tracking.tags,
            )
        )
    if tracking.tensorboard:
        from mmtrain.engine.tracking.tensorboard import TensorBoardTracker

        metric = f"best/{experiment.selection.metric}"
        trackers.append(
            TensorBoardTracker(
                folder=folder.path / "tensorboard", console=console, settings=_settings(experiment), metric=metric
            )
        )
    if tracking.report:
        from mmtrain.report.tracker import ReportTracker

        trackers.append(ReportTracker(folder=folder.path, console=console))
    return trackers


def _settings(experiment: Experiment) -> dict[str, bool | float | str]:
    """What TensorBoard's HParams page compares runs by: tags `key=value` and the seed; without such tags, every setting."""
    pairs = dict(tag.split("=", 1) for tag in experiment.tracking.tags if "=" in tag)
    if pairs:
        return pairs | {"seed": experiment.seed}
    config = {key: value for key, value in experiment.resolved().items() if key not in ("runs", "tracking")}
    return _flat(config, "")


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, bool | float | str]:
    flat: dict[str, bool | float | str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return flat
