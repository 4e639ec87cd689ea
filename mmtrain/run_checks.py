"""What can be known of a run before it trains: what it would be refused for, and whether anything of it is left to do."""

from collections.abc import Mapping

from mmtrain.compatibility import common_tasks, open_stores
from mmtrain.config import Experiment
from mmtrain.data.dataset import Stream
from mmtrain.data.store import FeatureStore
from mmtrain.engine.checkpoint import newest_valid, read_checkpoint
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.saving import require_identity, stray_links
from mmtrain.engine.state import RunState
from mmtrain.objectives.objective import Objective
from mmtrain.parts import build_streams, check_needed, steps_of_epoch, stream_specs
from mmtrain.references import with_references
from mmtrain.run_files import identity, recorded_source
from mmtrain.run_objective import build_objective
from mmtrain.watched_metrics import check_metric, watched_metrics


def check_run(run: Experiment, stores: Mapping[str, FeatureStore]) -> tuple[list[Stream], list[Stream], Objective]:
    """The streams of both sides and what is minimized; all that a run refuses of its labels is refused."""
    tasks = common_tasks(run, stores)
    train, val = (build_streams(run, stores, split) for split in ("train", "val"))
    check_needed(run, train)
    objective = build_objective(run, tasks, train)
    for where, metric in watched_metrics(run, objective.task_names):
        check_metric(where, metric, tasks, objective, val)
    return train, val, objective


def is_finished(experiment: Experiment) -> bool:
    """Whether nothing of a run is left to do. Errors: CheckpointError where it was made with other settings."""
    run = RunFolder(experiment.folder)
    folder, _ = newest_valid(run.checkpoints)
    if folder is None:
        return False
    stores = open_stores(experiment)
    tasks, streams = common_tasks(experiment, stores), build_streams(experiment, stores, "train")
    specs = stream_specs(experiment, streams, build_objective(experiment, tasks, streams))
    checkpoint = read_checkpoint(folder)
    require_identity(checkpoint, identity(with_references(experiment, specs), stores, recorded_source(run)))
    saved = checkpoint.state
    state = RunState(step=saved["step"], evaluated=saved["evaluated"], stopped=saved["stopped"])
    if stray_links(folder, best_step=saved["selection"]["best_step"]):
        return False
    return state.finished(experiment.training.epochs * steps_of_epoch(experiment, streams))
