"""The files of HICCAP: token lists and labels in JSON, I3D and VGGish rows in .npy, to a store for configs/hiccap."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.failures import Failure
from data_prep.fetch.record import sha256
from data_prep.importers.arrays import Rows, check_rows, file_name, read_rows
from data_prep.importers.target import Outcome, Target
from data_prep.importers.writing import Sample, write_store
from mmtrain.data.schema import SPLITS, FeatureSpec, TaskSchema
from mmtrain.errors import DataError

FILE = "{}_features_lrec_camera.json"
KINDS = ("mature", "gory", "slapstick", "sarcasm")
TASKS = ("binary", *KINDS)
SPECIAL = ("[CLS]", "[SEP]", "[PAD]")
# Ids of frequent words in bert-base-cased and bert-base-uncased.
_IDS = {
    **{"the": (1103, 1996), "of": (1104, 1997), "and": (1105, 1998), "to": (1106, 2000), "a": (170, 1037), "i": (178, 1045)},
    **{"you": (1128, 2017), "it": (1122, 2009), "is": (1110, 2003), "in": (1107, 1999), "that": (1115, 2008)},
    **{".": (119, 1012), ",": (117, 1010), "?": (136, 1029), "'": (112, 1005), "s": (188, 1055), "t": (189, 1056)},
}


@dataclass(frozen=True)
class Folders:
    """Where the features lie; None: the store is made without them."""

    i3d: Path | None
    vggish: Path | None

    @property
    def specs(self) -> dict[str, FeatureSpec]:
        specs = {
            "video": FeatureSpec(dim=1024, extractor="i3d rgb + flow"),
            "audio": FeatureSpec(dim=128, extractor="vggish"),
        }
        given = {"video": self.i3d, "audio": self.vggish}
        return {key: spec for key, spec in specs.items() if given[key] is not None}


def import_hiccap(folder: Path, *, folders: Folders, target: Target, paper_labels: bool = False) -> Outcome:
    """Write the store of `<split>_features_lrec_camera.json` in a folder, with the tasks `binary` and the four kinds.

    `paper_labels`: the four are missing where a clip has no mischief (the paper's code does not train on those).

    Errors: DataError where there is no file or one is not what it should be; MediaError as of `write_store`.
    """
    target.check()
    for features in (folders.i3d, folders.vggish):
        if features is not None and not features.is_dir():
            raise DataError(f"{features} is not a folder; write that with the .npy files")
    files = {split: folder / FILE.format(split) for split in SPLITS if (folder / FILE.format(split)).is_file()}
    if not files:
        raise DataError(f"{folder} has no {FILE.format('train')} (nor val_, nor test_)")
    for split in SPLITS:
        if split not in files:
            target.say(f"{folder} has no {FILE.format(split)}: the store will have no split {split}")
    total = sum(len(_read(file)) for file in files.values())  # read again below: one file at a time is in memory
    vocabularies: Counter[str] = Counter()
    outcome = write_store(
        target,
        _samples(files, folders, vocabularies, paper_labels=paper_labels),
        total=total,
        name="hiccap",
        modalities=folders.specs,
        tasks={task: TaskSchema(kind="binary") for task in TASKS},
        columns={"vocabulary": pa.string()},
        provenance={
            "made_by": "python -m data_prep import hiccap",
            "files": {file.name: sha256(file) for file in files.values()},
            "paper_labels": paper_labels,
        },
    )
    found = ", ".join(f"{count} {name}" for name, count in sorted(vocabularies.items()))
    target.say(f"token ids by vocabulary: {found}; the texts are rebuilt from the words, the ids are not used")
    return outcome


def _read(file: Path) -> dict[str, Any]:
    """The clips of one file. Errors: DataError where it is not an object of objects, each id once."""
    try:
        clips = json.loads(file.read_bytes(), object_pairs_hook=_unique)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON as HICCAP publishes it ({error})") from None
    if not isinstance(clips, dict):
        raise DataError(f"{file} is not a JSON object of clips by id")
    return clips


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key '{twice}' stands there twice")
    return names


def _samples(
    files: Mapping[str, Path], folders: Folders, vocabularies: Counter[str], *, paper_labels: bool
) -> Iterator[Sample | Failure]:
    for split, file in files.items():
        for clip, entry in _read(file).items():
            try:
                words, labels = _words(entry), _labels(entry, paper_labels=paper_labels)
            except ValueError as error:
                yield Failure(clip, "", str(file), str(error))
                continue
            vocabulary = find_vocabulary(words, entry.get("indexes"))
            vocabularies[vocabulary] += 1
            features, flaws = _features(clip, folders)
            yield Sample(
                clip,
                split,
                find_group(clip),
                rebuild_text(words),
                features,
                labels,
                {"vocabulary": vocabulary},
                flaws,
            )


def find_group(clip: str) -> str:
    """The source video of a clip: its id without the clip's number, `<video>_<number>` or `<video>.<number>`.

    The second form is what the public files have where the ids are uncased; there an underscore belongs to the video.
    """
    found = re.fullmatch(r"(.+)[._]\d+", clip)
    return found[1] if found else clip


def rebuild_text(words: Sequence[str]) -> str:
    """Words with spaces between, `##` pieces joined to what stands before, the special tokens left out."""
    parts: list[str] = []
    for word in words:
        if word.startswith("##") and len(word) > 2 and parts:
            parts[-1] += word[2:]
        elif word not in SPECIAL:
            parts.append(word)
    return " ".join(parts)


def find_vocabulary(words: Sequence[str], ids: Any) -> str:
    """`cased`, `uncased` or `unclear`: of which BERT's vocabulary the ids of these words are.

    Told by the ids of frequent words, else by a capital letter (no uncased word has one), else by the layout: of the cased
    clips the words begin with [CLS], of the uncased ones [CLS] and [SEP] are among the ids alone.
    """
    ids = ids if isinstance(ids, list) else []
    has_special = bool(words) and words[0] == "[CLS]"
    pairs = list(zip(words, ids if has_special else ids[1:], strict=False))
    votes = [sum(word in _IDS and _IDS[word][which] == number for word, number in pairs) for which in (0, 1)]
    if votes[0] != votes[1]:
        return "cased" if votes[0] > votes[1] else "uncased"
    if any(word not in SPECIAL and word != word.lower() for word in words):
        return "cased"
    if len(ids) == len(words) + (0 if has_special else 2):
        return "cased" if has_special else "uncased"
    return "unclear"


def _words(entry: Any) -> list[str]:
    words = entry.get("words") if isinstance(entry, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"'words' is {str(words)[:40]}, a list of word pieces was expected")
    return words


def _labels(entry: Mapping[str, Any], *, paper_labels: bool) -> dict[str, int | None]:
    labels = {task: _label("y" if task == "binary" else task, entry) for task in TASKS}
    if entry.get("label") in (0, 1) and labels["binary"] not in (None, entry["label"]):
        raise ValueError(f"'y' is {entry.get('y')}, but 'label' is {entry['label']}")
    if paper_labels and labels["binary"] != 1:
        labels |= dict.fromkeys(KINDS)
    return labels


def _label(key: str, entry: Mapping[str, Any]) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    for label, one_hot in enumerate(([1, 0], [0, 1])):
        if value == one_hot:
            return label
    raise ValueError(f"'{key}' is {str(value)[:40]}; [1, 0] (no) or [0, 1] (yes) was expected")


def _features(clip: str, folders: Folders) -> tuple[dict[str, Rows], tuple[Failure, ...]]:
    """The rows that are there, and what cannot be read: that modality is missing, never zeros."""
    features: dict[str, Rows] = {}
    flaws = []
    parts = {"video": (folders.i3d, ("_rgb", "_flow")), "audio": (folders.vggish, ("_vggish",))}
    for modality, spec in folders.specs.items():
        folder, ends = parts[modality]
        files = [(folder or Path()) / file_name(clip + end) for end in ends]
        if any(os.path.exists(file) for file in files):  # of two files that are not both there the missing one is a flaw
            try:
                features[modality] = _sum(files, spec)
            except DataError as error:
                flaws.append(Failure(clip, modality, str(files[0]), str(error)))
    return features, tuple(flaws)


def _sum(files: Sequence[Path], spec: FeatureSpec) -> Rows:
    arrays = [read_rows(file) for file in files]
    for file, rows in zip(files, arrays, strict=True):
        check_rows(file, rows, spec, expected=f"{spec.extractor} rows")
        if len(rows) != len(arrays[0]):
            raise DataError(f"{file} has {len(rows)} rows, {files[0].name} has {len(arrays[0])}")
    total = np.sum([rows.astype(np.float32) for rows in arrays], axis=0, dtype=np.float32)
    if not np.isfinite(total).all():
        raise DataError(f"{files[0]}: NaN or Inf in its rows")
    return np.asarray(total)
