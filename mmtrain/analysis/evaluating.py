"""What `mmtrain evaluate` does: the table of a split, or one of the looks that take more than one evaluation."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from mmtrain.analysis.groups import break_down_run
from mmtrain.analysis.importance import measure_importance
from mmtrain.analysis.linear_probe import probe_run
from mmtrain.analysis.robustness import measure_robustness
from mmtrain.engine.console import stdout_console
from mmtrain.engine.run_folder import scored_name
from mmtrain.errors import UserError
from mmtrain.scoring import score_run


def evaluate_run(
    folder: Path,
    *,
    split: str,
    checkpoint: str,
    weights: str,
    robustness: bool = False,
    importance: bool = False,
    probe: bool = False,
    groups: bool = False,
    levels: Sequence[str] = (),
    repeats: int | None = None,
) -> None:
    """Errors: UserError for options that belong to what was not asked for, and those of what was."""
    if levels and not robustness:
        raise UserError("--levels: they are those of --robustness; write both")
    if repeats is not None and not robustness and not importance:
        raise UserError("--repeats: nothing is repeated without --robustness or --importance; write one of them, too")
    chosen = {"split": split, "checkpoint": checkpoint, "weights": weights}
    if robustness:
        measure_robustness(folder, **chosen, levels=levels, repeats=repeats or 1)
    if importance:
        measure_importance(folder, **chosen, repeats=repeats or 5)
    if probe:
        probe_run(folder, **chosen)
    if groups or not (robustness or importance or probe):
        score_run(folder, **chosen)
        if PartialState().is_main_process:
            break_down_run(folder, scored_name(split, weights), console=stdout_console() if groups else None)
