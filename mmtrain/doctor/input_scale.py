"""Input scale: features far from unit variance, columns that say nothing, rows of zeros, outliers."""

import numpy as np
import numpy.typing as npt

from mmtrain.data.normalize import is_constant
from mmtrain.data.schema import Statistics
from mmtrain.data.store import FeatureStore
from mmtrain.doctor.case import Case, Deadline
from mmtrain.doctor.finding import Finding, Severity

CHECK = "input_scale"
_SHARE = 0.1  # of the time
_SAMPLES, _CHUNK = 512, 32  # looked at, and read at once
_LARGE, _SMALL = 10.0, 0.05  # root mean square; layers begin with weights made for inputs around 1
_UNEVEN = 100.0  # the widest column over the median one
_NEAR_CONSTANT = 1e-3  # a column's deviation over the median one
_FAR = 10.0  # deviations
_FAR_SHARE = 1e-3  # of the values
_ZERO_SHARE = 0.05  # of the rows


def check_input_scale(case: Case) -> list[Finding]:
    """Every feature modality of every dataset, in samples of train that are spread evenly over it."""
    findings, deadline = [], case.deadline(_SHARE)
    for dataset, store in case.stores.items():
        own = [stream for stream in case.run.train_streams if stream.store is store]
        for modality in dict.fromkeys(name for stream in own for name in stream.modalities):
            spec = store.schema.modalities[modality]
            where = f"{dataset}/{modality}"
            if spec.shape is not None:
                findings.append(Finding(CHECK, "ok", f"{where}: pixels, which their encoder scales"))
                continue
            rows = _rows(store, modality, deadline)
            normalized = spec.statistics is not None and spec.statistics.normalize
            findings += scale_findings(where, rows, is_normalized=normalized, path=str(store.path))
    return findings


def _rows(store: FeatureStore, modality: str, deadline: Deadline) -> npt.NDArray[np.float64]:
    """[R, D] as the model reads them."""
    indices = store.split("train")
    chosen = indices[np.unique(np.linspace(0, len(indices) - 1, min(_SAMPLES, len(indices))).astype(np.int64))]
    parts: list[npt.NDArray[np.float64]] = []
    for begin in range(0, len(chosen), _CHUNK):
        if parts and deadline.passed:
            break
        parts.append(np.asarray(store.read([modality], chosen[begin : begin + _CHUNK])[modality].values, np.float64))
    return np.concatenate(parts)


def scale_findings(where: str, rows: npt.NDArray[np.float64], *, is_normalized: bool, path: str) -> list[Finding]:
    """What rows [R, D] are like, and a finding for each thing that hinders learning."""
    if not len(rows):
        words = f"{where}: no training sample that was looked at has a row of it"
        return [Finding(CHECK, "warning", words, f"mmtrain data info {path}")]
    if not np.isfinite(rows).all():
        count = int((~np.isfinite(rows)).any(axis=1).sum())
        words = f"{where}: {count} of {len(rows)} rows hold NaN or Inf"
        return [Finding(CHECK, "problem", words, "batch.on_bad_sample: skip, or extract again")]
    size, deviation = float(np.sqrt(np.mean(np.square(rows)))), rows.std(axis=0)
    zero = float(np.mean(~rows.any(axis=1)))
    state = "on" if is_normalized else "off"
    normalize = f"python -m data_prep stats {path} --out NEW --normalize, and datasets.<name>.store: NEW"
    found = (
        f"{where}: {len(rows)} rows, mean {rows.mean():.3g}, deviation {rows.std():.3g}, {zero:.1%} all zero, "
        f"normalization {state}"
    )
    findings = []
    if size > _LARGE or size < _SMALL:
        word = "large" if size > _LARGE else "small"
        wanted = f"root mean square {size:.3g}, where layers are made for about 1: too {word}"
        findings.append(Finding(CHECK, "warning", f"{found}; {wanted}", normalize))
    means, deviations = tuple(rows.mean(axis=0).tolist()), tuple(deviation.tolist())
    constant = is_constant(Statistics(rows=len(rows), mean=means, deviation=deviations, normalize=False))
    median = float(np.median(deviation[~constant])) if not constant.all() else 0.0
    if median > 0 and deviation.max() > _UNEVEN * median and not findings:
        number = int(deviation.argmax())
        wide = f"column {number} has a deviation of {deviation.max():.3g}, the median column of {median:.3g}"
        findings.append(Finding(CHECK, "warning", f"{found}; {wide}: it drowns the others", normalize))
    findings += _dead_columns(where, deviation, constant, median)
    if zero > _ZERO_SHARE:
        words = f"{where}: {zero:.1%} of the rows are all zero: padding that passes for data, unless zero means something"
        findings.append(Finding(CHECK, "warning", words, "import or extract again without padding rows"))
    findings = findings or [Finding(CHECK, "ok", found)]
    return findings + _outliers(where, rows, np.where(constant, np.inf, deviation), normalize)


def _dead_columns(
    where: str, deviation: npt.NDArray[np.float64], constant: npt.NDArray[np.bool_], median: float
) -> list[Finding]:
    near = ~constant & (deviation < _NEAR_CONSTANT * median)
    if not constant.any() and not near.any():
        return []
    share = float((constant | near).mean())
    severity: Severity = "warning" if share > 0.5 else "note"
    words = f"{where}: {int(constant.sum())} of {len(deviation)} columns are constant, {int(near.sum())} nearly so"
    return [Finding(CHECK, severity, words, "nothing, if the extractor makes such columns; else look at how it was called")]


def _outliers(
    where: str, rows: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64], normalize: str
) -> list[Finding]:
    far = np.abs(rows - rows.mean(axis=0)) > _FAR * deviation
    share = float(far.mean())
    if not share:
        return []
    words = f"{where}: {int(far.sum())} values ({share:.2%}) lie beyond {_FAR:g} deviations of their column"
    severity: Severity = "warning" if share > _FAR_SHARE else "note"
    return [
        Finding(
            CHECK, severity, words, f"look at these samples; training.clipping bounds what one of them does; {normalize}"
        )
    ]
