"""What can be known of a run from its folder and its stores before it trains: whether anything of it is left to do."""

from mmtrain.compatibility import common_tasks, open_stores
from mmtrain.config import Experiment
from mmtrain.engine.checkpoint import newest_valid, read_checkpoint
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.saving import require_identity, stray_links
from mmtrain.engine.state import RunState
from mmtrain.parts import build_streams, steps_of_epoch, stream_specs
from mmtrain.references import with_references
from mmtrain.run_files import identity, recorded_source
from mmtrain.run_objective import build_objective


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
