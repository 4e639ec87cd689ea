"""The probability above which a task says yes: as validation chose it, or one half."""

from mmtrain.report.run_record import RunRecord


def threshold_of(record: RunRecord, task: str) -> tuple[float, str]:
    """The threshold of a task as a probability of the model's own, and a sentence that says where it comes from.

    What calibration.json holds is a threshold of probabilities after temperature scaling.
    """
    fitted = (record.values("calibration.json") or {}).get("tasks", {}).get(task, {})
    rule = fitted.get("rule", "half")
    threshold = (fitted.get("thresholds") or {}).get(rule, 0.5)
    if rule == "half" or not 0 < threshold < 1:
        return 0.5, "Yes: a probability above 0.5."
    odds = threshold / (1 - threshold)
    own = 1 / (1 + odds ** -(fitted.get("temperature") or 1.0))
    return own, f"Yes: a probability above {own:.3g} ({rule.replace('_', ' ')} on the validation split)."
