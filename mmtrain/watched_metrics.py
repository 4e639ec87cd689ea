"""The metrics that a run reads of its own evaluations, and the refusal of those that none will give."""

from collections.abc import Mapping, Sequence

from mmtrain.config import Experiment
from mmtrain.config_errors import nearest
from mmtrain.config_fit import watched_by
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.errors import ConfigError
from mmtrain.evaluation.split_metrics import known_metrics
from mmtrain.objectives.objective import Objective


def watched_metrics(experiment: Experiment, tasks: Sequence[str]) -> list[tuple[str, str]]:
    """(key, metric) of all that reads the evaluations."""
    return watched_by(experiment.selection, experiment.training, experiment.curriculum, tasks)


def check_metric(
    where: str,
    metric: str,
    tasks: Mapping[str, TaskSchema],
    objective: Objective,
    val_streams: Sequence[Stream],
) -> None:
    """Errors: ConfigError where no evaluation will give the metric that `where` in the config names."""
    if metric == "val/loss":
        return
    pretext = objective.pretext
    labelled = {
        task: [s.name for s in val_streams if task in s.task_names and s.labelled(task).any()] for task in (*tasks, *pretext)
    }
    shared = {task: owners for task, owners in labelled.items() if len(owners) > 1}
    names = known_metrics(tasks, pretext, objective.conventions)
    parts = [name.partition("/") for name in names]
    names += [f"{task}@{stream}/{rest}" for task, _, rest in parts for stream in shared.get(task, ())]
    known = [f"val/{name}" for name in names]
    if metric not in known:
        raise ConfigError(f"{where}: no metric '{metric}'{nearest(metric, known)}")
    task = metric.split("/")[1].partition("@")[0]
    if not labelled[task]:
        lack = (
            "pretext task '{}' speaks for no validation sample"
            if task in pretext
            else "no validation sample carries a label of '{}'"
        )
        raise ConfigError(f"{where}: {metric}, but {lack.format(task)}")
