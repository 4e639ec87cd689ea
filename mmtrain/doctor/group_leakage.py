"""Group leakage: groups, texts and feature rows that stand in training and in what it is measured on."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmtrain.data.keys import text_key
from mmtrain.data.store import FeatureStore
from mmtrain.doctor.case import Case, Deadline
from mmtrain.doctor.finding import Finding, Severity
from mmtrain.evaluation.standards import FEW_GROUPS

CHECK = "group_leakage"
_SHARE = 0.1  # of the time
_CHUNK = 64  # samples read at once
_TEXTS = 0.05  # share of repeated texts that short answers do not explain
_ROWS = 0.1  # share of repeated feature rows above which scores, not single samples, are wrong
Keys = list[tuple[str, str, str]]  # (key, split, sample) each


def check_group_leakage(case: Case) -> list[Finding]:
    """Groups of every store, texts and rows of all stores together."""
    findings, stores = [], case.stores
    for name, store in stores.items():
        findings += group_findings(
            name, store.column("group").to_pylist(), store.column("split").to_pylist(), path=str(store.path)
        )
    read = case.experiment.model.modalities
    if case.experiment.model.text is not None:
        keys = [key for store in stores.values() for key in _text_keys(store)]
        findings += duplicate_findings("texts", keys, most=_TEXTS, is_all=read == ("text",))
    modalities = list(dict.fromkeys(name for stream in case.run.train_streams for name in stream.modalities))
    deadline = case.deadline(_SHARE)
    for modality in modalities:
        keys, is_whole = _row_keys(
            [store for store in stores.values() if modality in store.schema.modalities], modality, deadline
        )
        findings += duplicate_findings(f"{modality} rows", keys, most=_ROWS, is_all=True, is_whole=is_whole)
    return findings


def group_findings(dataset: str, groups: Sequence[str | None], splits: Sequence[str], *, path: str) -> list[Finding]:
    """Groups on two sides of a split; few of them where it is measured; groups of one sample each."""
    sides: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        if group:
            sides.setdefault(group, set()).add(split)
    divide = f"python -m data_prep split {path} --out NEW"
    if shared := [group for group, found in sides.items() if len(found) > 1]:
        found = (
            f"{dataset}: {len(shared)} of {len(sides)} groups stand in more than one split, such as '{shared[0]}': "
            "validation and test see what training saw, and scores are too good"
        )
        return [Finding(CHECK, "problem", found, f"divide by groups: {divide}")]
    findings = []
    counts = {split: sum(split in found for found in sides.values()) for split in ("val", "test")}
    if few := [f"{split} {count}" for split, count in counts.items() if 0 < count < FEW_GROUPS]:
        found = f"{dataset}: groups in {', in '.join(few)}: intervals, which resample groups, are wide and unsure"
        fix = f"more sources, a larger share ({divide} --ratios ...), or mmtrain crossval"
        findings.append(Finding(CHECK, "note", found, fix))
    if sides and len(sides) == len(groups) > 1:
        found = f"{dataset}: every sample is a group of its own: where clips share a source, nobody can see a leak"
        findings.append(Finding(CHECK, "note", found, "name the source (film, speaker) in the column `group` of the table"))
    words = f"{dataset}: {len(sides)} groups, each on one side of the split"
    return findings or [Finding(CHECK, "ok", words)]


def duplicate_findings(what: str, keys: Keys, *, most: float, is_all: bool, is_whole: bool = True) -> list[Finding]:
    """Samples of val and test whose key a training sample has too.

    `most`: the share of them that is a problem where `is_all`, so where nothing else is read of a sample or chance makes no
    such match; else a warning. `is_whole`: all samples were looked at.
    """
    train = {key: name for key, split, name in keys if split == "train"}
    measured = [(key, name) for key, split, name in keys if split in ("val", "test")]
    if not measured:
        return []
    rest = "" if is_whole else f" (time was up after {len(keys)} samples)"
    again = [(name, train[key]) for key, name in measured if key in train]
    if not again:
        return [Finding(CHECK, "ok", f"{what}: none of {len(measured)} in val and test stands in train too{rest}")]
    share = len(again) / len(measured)
    found = (
        f"{what}: {len(again)} of {len(measured)} samples of val and test ({share:.1%}) have the {what} of a training "
        f"sample, such as '{again[0][0]}' those of '{again[0][1]}'{rest}"
    )
    is_much = share >= most
    severity: Severity = ("problem" if is_much else "warning") if is_all else ("warning" if is_much else "note")
    return [
        Finding(
            CHECK,
            severity,
            found,
            "give copies one group in the table and divide by it, or leave them out (data_prep filter)",
        )
    ]


def _text_keys(store: FeatureStore) -> Keys:
    columns = (store.column(name).to_pylist() for name in ("id", "text", "split"))
    return [
        (str(text_key(store.name, name, text)), split, name)
        for name, text, split in zip(*columns, strict=True)
        if text and text.strip()
    ]


def _row_keys(stores: Sequence[FeatureStore], modality: str, deadline: Deadline) -> tuple[Keys, bool]:
    """Hashes of the rows of samples that have any and are more than one number repeated; val and test first."""
    keys: Keys = []
    for split in ("val", "test", "train"):
        for store in stores:
            indices = store.split(split)
            for begin in range(0, len(indices), _CHUNK):
                if deadline.passed:
                    return keys, False
                chosen = indices[begin : begin + _CHUNK]
                found = zip(store.read([modality], chosen)[modality].split(), chosen.tolist(), strict=True)
                keys += [
                    (_hash(own), split, store.sample_id(index)) for own, index in found if own.size and np.ptp(own) != 0
                ]
    return keys, True


def _hash(rows: npt.NDArray[np.number]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=16).hexdigest()
