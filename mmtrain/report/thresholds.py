"""The probability above which a task says yes: as it was fitted on the validation split, or one half."""

from mmtrain.report.run_record import RunRecord


def threshold_of(record: RunRecord, task: str) -> tuple[float, str]:
    """The threshold of a task, and a sentence that says where it comes from."""
    values = record.values("calibration.json")
    fitted = (values or {}).get("tasks", {}).get(task, {})
    rule = fitted.get("rule", "half")
    threshold = (fitted.get("thresholds") or {}).get(rule, 0.5)
    if rule == "half" or threshold is None:
        return 0.5, "Yes: a probability above 0.5."
    return float(threshold), f"Yes: a probability above {threshold:.3g} ({rule.replace('_', ' ')} on the validation split)."
