"""ROC and precision-recall curves, of binary tasks and of each class or label against the rest."""

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np

from mmtrain.evaluation.predictions import Floats, TaskPredictions
from mmtrain.evaluation.ranking import Ranking
from mmtrain.report.drawing import NEUTRAL, ROWS, color, dash, legend, vega_lite
from mmtrain.report.parts import Chart, Missing, Part, Section, Value
from mmtrain.report.run_record import RunRecord
from mmtrain.report.thinning import spread_out

_MOST_CURVES = 8
_TITLE = "ROC and PR"
Curve = tuple[str, Floats, Floats, float]  # class, x, y, area


def ranking_section(record: RunRecord) -> Section:
    """ROC and precision-recall curves of every task with classes."""
    parts: list[Part] = []
    for split, tasks in record.predictions.items():
        for item in tasks.values():
            if isinstance(item, TaskPredictions):
                parts += _of_task(item, split, most=max(record.limits.points // 10, 20))
    if not parts and record.predictions:
        return Section(_TITLE, ["No task of this run decides between classes that both occur."])
    return Section(_TITLE, parts or [Missing("No predictions yet", record.command("evaluate --split val"))])


def _of_task(item: TaskPredictions, split: str, *, most: int) -> Iterator[Part]:
    decisions = list(_decisions(item))
    if not decisions:
        return
    left_out = f" The {_MOST_CURVES} with most positives of {len(decisions)}." if len(decisions) > _MOST_CURVES else ""
    decisions = sorted(decisions, key=lambda decision: -decision[1].sum())[:_MOST_CURVES]
    rocs, precisions = [], []
    for name, labels, scores in decisions:
        ranking = Ranking(labels, scores)
        true, false = ranking.curve()
        start = np.zeros(1)
        roc = np.concatenate([start, false / false[-1]]), np.concatenate([start, true / true[-1]])
        rocs.append((name, *roc, ranking.auroc()))
        precisions.append((name, true / true[-1], true / (true + false), ranking.average_precision()))
    chance = "The diagonal is that of guessing."
    yield _chart(
        f"{item.task}, {split}: ROC", "AUROC", rocs, most=most, words=chance + left_out, axes=_ROC_AXES, guess=(0, 1)
    )
    shares = {float(labels.mean()) for _, labels, _ in decisions}
    share = shares.pop() if len(shares) == 1 else None
    words = f"Guessing: a precision of {share:.3g}." if share is not None else "Guessing: the share of the class."
    guess = None if share is None else (share, share)
    yield _chart(
        f"{item.task}, {split}: PR",
        "Average precision",
        precisions,
        most=most,
        words=words + left_out,
        axes=_PR_AXES,
        guess=guess,
    )


_ROC_AXES = ("false positive rate", "true positive rate")
_PR_AXES = ("recall", "precision")


def _decisions(item: TaskPredictions) -> Iterator[tuple[str, Floats, Floats]]:
    """(class, labels of 0 and 1 [N], scores [N]), where both labels occur."""
    if item.kind == "regression":
        return
    if item.kind == "binary":
        columns = [("yes", item.labels, item.logits)]
    else:
        is_multiclass = item.kind == "multiclass"
        labels = np.eye(len(item.classes))[item.labels.astype(np.int64)] if is_multiclass else item.labels
        scores = item.probabilities if is_multiclass else item.logits
        columns = list(zip(item.classes, labels.T, scores.T, strict=True))
    for name, truth, score in columns:
        if 0 < truth.sum() < len(truth):
            yield name, truth, np.asarray(score, np.float64)


def _chart(
    title: str,
    area: str,
    curves: Sequence[Curve],
    *,
    most: int,
    words: str,
    axes: tuple[str, str],
    guess: tuple[float, float] | None,
) -> Chart:
    columns: dict[str, list[Value]] = {name: [] for name in ("order", "class", *axes)}
    for name, x, y, _ in curves:
        chosen = spread_out(len(x), most=most)
        columns["order"] += list(range(len(chosen)))
        columns["class"] += [name] * len(chosen)
        columns[axes[0]] += x[chosen].tolist()
        columns[axes[1]] += y[chosen].tolist()
    names = [name for name, *_ in curves]
    symbols = legend(names)
    unit = alt.Scale(domain=[0, 1])
    lines = (
        alt.Chart(ROWS)
        .mark_line(interpolate="linear" if axes == _ROC_AXES else "step-before")
        .encode(
            x=alt.X(field=axes[0], type="quantitative", scale=unit),
            y=alt.Y(field=axes[1], type="quantitative", scale=unit),
            color=color("class", names, legend=symbols),
            strokeDash=dash("class", names, legend=symbols),
            order=alt.Order(field="order", type="quantitative"),
            tooltip=[
                alt.Tooltip(field="class", type="nominal"),
                *(alt.Tooltip(field=axis, type="quantitative", format=".3~f") for axis in axes),
            ],
        )
    )
    layers = [lines]
    if guess is not None:
        rule = alt.Chart(ROWS).mark_rule(color=NEUTRAL, strokeDash=[4, 3], strokeWidth=1)
        ends = {"x": alt.datum(0), "x2": alt.datum(1), "y": alt.datum(guess[0]), "y2": alt.datum(guess[1])}
        layers.insert(0, rule.encode(**ends))
    areas = ", ".join(f"{name} {value:.3f}" if len(curves) > 1 else f"{value:.3f}" for name, *_, value in curves)
    return Chart(
        title=title, summary=f"{area}: {areas}. {words}", columns=columns, drawing=vega_lite(alt.layer(*layers), height=260)
    )
