"""`mmtrain evaluate RUN --importance`: what a run's model loses where a modality is swapped between samples."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmtrain.analysis.output import write_analysis
from mmtrain.engine.progress import ProgressBar
from mmtrain.evaluation.importance import Importance, Swap, importance_of
from mmtrain.evaluation.predictions import Predictions
from mmtrain.evaluation.table import TextTable, digits
from mmtrain.trained import load_trained

_NOTE = (
    "drop: what the metric loses where the modality of each sample that has it is that of another one of its stream; the "
    "interval is a bootstrap over groups, for these swaps. Near 0: the model does without what the modality says."
)


def measure_importance(
    folder: Path, *, split: str, checkpoint: str = "best", weights: str = "trained", repeats: int = 5
) -> list[Importance]:
    """Write evaluation/<split>-importance.{json,md}, the most important first for each task.

    Errors: those of `load_trained`.
    """
    trained = load_trained(folder, split=split, checkpoint=checkpoint, weights=weights)
    modalities, seed = trained.experiment.model.fused_modalities, trained.experiment.seed
    total = 1 + repeats * len(modalities)
    found: list[Importance] = []
    with ProgressBar(trained.console, f"{split}, importance", total=total) as bar:
        done = 0

        def predict(swap: Swap | None) -> list[Predictions]:
            nonlocal done
            items = trained.predict(alter=swap, progress=lambda at, of: bar.count(done * of + at, total * of))
            done += 1
            return items

        clean = predict(None)
        for modality in modalities:
            swaps = [Swap(trained.streams, modality=modality, seed=seed, repeat=repeat) for repeat in range(repeats)]
            swapped = [{item.task: item for item in predict(swap)} for swap in swaps]
            for item in clean:
                own = [items[item.task] for items in swapped]
                found.append(importance_of(modality, item, own, num_swapped=swaps[0].num_swapped, seed=seed))
    tasks = [item.task for item in clean]
    found.sort(key=lambda row: (tasks.index(row.task), -row.drop))
    if trained.console is not None:
        values = {
            "split": split,
            "weights": weights,
            "checkpoint": trained.checkpoint,
            "step": trained.step,
            "rows": [asdict(row) for row in found],
        }
        name, tables = f"{trained.name}-importance", [_table(found)]
        write_analysis(folder, name, values, tables=tables, notes=[_NOTE], console=trained.console)
    return found


def _table(rows: Sequence[Importance]) -> TextTable:
    header = ("task", "modality", "metric", "value", "swapped", "drop", "95 % interval", "samples with it")
    drawn = tuple(
        (
            row.task,
            row.modality,
            row.metric,
            digits(row.value),
            digits(row.permuted),
            digits(row.drop),
            f"[{digits(row.low)}, {digits(row.high)}]",
            str(row.num_swapped),
        )
        for row in rows
    )
    return TextTable("Permutation importance of modalities", header, drawn, 3)
