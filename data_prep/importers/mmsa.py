"""The pickles of CMU-MOSI, CMU-MOSEI and CH-SIMS as MMSA publishes them, to a store."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.failures import Failure, write_report
from data_prep.fetch.record import sha256
from data_prep.importers.arrays import Rows
from data_prep.importers.mmsa_labels import Question, check_length, find_questions
from data_prep.importers.restricted_pickle import read_pickle
from data_prep.importers.target import Outcome, Target
from data_prep.importers.writing import Sample, write_store
from mmtrain.data.schema import FeatureSpec
from mmtrain.errors import DataError

SPLITS = {"train": "train", "valid": "val", "test": "test"}  # of the file -> of the store
MODALITIES = {"words": "text", "audio": "audio", "video": "vision"}  # of the store -> of the file
Content = Mapping[str, Mapping[str, Any]]


def import_mmsa(file: Path, *, target: Target, fill: float | None = None) -> Outcome:
    """Write the store of one pickle: texts, `words` (its rows of text features), `audio`, `video` and its labels as tasks.

    `fill`: what is written for NaN and Inf in rows; None: a sample with one has failed.

    Errors: DataError where the file is not such a pickle or asks for more than arrays (`<out>.failures.jsonl` says it
    too); MediaError as of `write_store`.
    """
    target.check()
    try:
        content = _read(file)
    except DataError as error:
        write_report(target.out, [Failure(file.stem, "", str(file), str(error))])
        raise
    questions = find_questions(file, content)
    specs = {key: FeatureSpec(dim=width) for key, width in _widths(file, content).items()}
    counts = {split: len(content[split]["id"]) for split in content}
    samples = (
        sample
        for split, fields in content.items()
        for sample in _samples(file, split, fields, specs=specs, questions=questions, fill=fill)
    )
    return write_store(
        target,
        samples,
        total=sum(counts.values()),
        name=file.stem,
        modalities=specs,
        tasks={question.task: question.schema for question in questions},
        provenance={
            "made_by": "python -m data_prep import mmsa",
            "files": {file.name: sha256(file)},
            "aligned": not any(f"{key}_lengths" in content[split] for split in content for key in ("audio", "vision")),
            "fill": fill,
        },
    )


def _read(file: Path) -> Content:
    """The splits that are there. Errors: DataError where the file is not laid out as MMSA's are."""
    content = read_pickle(file)
    if not isinstance(content, dict) or not set(content) & set(SPLITS):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{file} holds {found or 'nothing'}; the splits {', '.join(SPLITS)} were expected")
    splits = {split: content[split] for split in SPLITS if split in content}
    for split, fields in splits.items():
        if not isinstance(fields, dict) or "id" not in fields:
            raise DataError(f"{file}, split '{split}': it has no field 'id'")
        if not isinstance(fields["id"], list | np.ndarray):
            raise DataError(f"{file}, split '{split}': 'id' is {type(fields['id']).__name__}, a list was expected")
        for name in ("raw_text", *MODALITIES.values(), "text_bert", *(f"{key}_lengths" for key in MODALITIES.values())):
            if name in fields:
                check_length(file, split, fields, name)
    return splits


def _widths(file: Path, content: Content) -> dict[str, int]:
    """D of each modality that the file has, the same in every split."""
    widths: dict[str, int] = {}
    for split, fields in content.items():
        for key, name in MODALITIES.items():
            array = fields.get(name)
            if array is None:
                continue
            if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu" or not array.shape[2]:
                found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise DataError(f"{file}, split '{split}': '{name}' is {found}; numbers [N, L, D] were expected")
            if widths.setdefault(key, array.shape[2]) != array.shape[2]:
                raise DataError(
                    f"{file}, split '{split}': '{name}' is {array.shape[2]} wide, in the splits before {widths[key]}"
                )
    return widths


def _samples(
    file: Path,
    split: str,
    fields: Mapping[str, Any],
    *,
    specs: Mapping[str, FeatureSpec],
    questions: tuple[Question, ...],
    fill: float | None,
) -> Iterator[Sample | Failure]:
    for index, name in enumerate(fields["id"]):
        try:
            name = _decoded(name)  # noqa: PLW2901 - the same id
            if not isinstance(name, str):
                raise ValueError(f"its id is {str(name)[:40]!r}, a text such as 'video$_$clip' was expected")
            text = _decoded(fields["raw_text"][index]) if "raw_text" in fields else ""
            if not isinstance(text, str | np.str_):
                raise ValueError(f"'raw_text' is {str(text)[:40]!r}, a text was expected")
            features = {key: _finite(rows, fill) for key, rows in _rows(fields, specs, index).items() if rows.any()}
            labels = {question.task: question.label(fields, index) for question in questions if question.source in fields}
        except (ValueError, TypeError) as error:
            yield Failure(str(name), "", str(file), f"split '{split}', number {index}: {error}")
            continue
        yield Sample(str(name), SPLITS[split], find_group(name), str(text), features, labels)


def _decoded(text: Any) -> Any:
    """Texts are bytes in arrays of numpy's type S."""
    return text.decode() if isinstance(text, bytes) else text


def find_group(clip: str) -> str:
    """The video of `video$_$clip`."""
    return clip.rpartition("$_$")[0] or clip


def _finite(rows: Rows, fill: float | None) -> Rows:
    with np.errstate(over="ignore"):  # becomes Inf, which is named or filled
        rows = rows.astype(np.float32)
    return rows if fill is None else np.where(np.isfinite(rows), rows, np.float32(fill))


def _rows(fields: Mapping[str, Any], specs: Mapping[str, FeatureSpec], index: int) -> dict[str, Rows]:
    """Each modality's rows without padding; none where all of them are zero.

    With a length, the first so many. What has none is aligned: from the first to the last place that is real in any of it.
    Errors: ValueError where a length is beyond its array.
    """
    arrays = {key: fields[MODALITIES[key]][index] for key in specs if MODALITIES[key] in fields}
    lengths = {key: fields[f"{MODALITIES[key]}_lengths"] for key in arrays if f"{MODALITIES[key]}_lengths" in fields}
    aligned = {key: rows for key, rows in arrays.items() if key not in lengths}
    places = np.unique(
        np.concatenate([np.empty(0, int), *(_real(key, rows, fields, index) for key, rows in aligned.items())])
    )
    common = slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
    cut = {key: rows[common] for key, rows in aligned.items()}
    for key in lengths:
        length = int(lengths[key][index])
        if not 0 <= length <= len(arrays[key]):
            raise ValueError(f"'{MODALITIES[key]}_lengths' is {length}, its array has {len(arrays[key])} rows")
        cut[key] = arrays[key][:length]
    return cut


def _real(key: str, rows: Rows, fields: Mapping[str, Any], index: int) -> npt.NDArray[np.intp]:
    """The places that are not padding: those with a token (encoders give padding rows too), else those not all zero."""
    tokens = fields.get("text_bert")
    if key == "words" and isinstance(tokens, np.ndarray) and tokens.ndim == 3 and tokens.shape[1:] == (3, len(rows)):
        return np.flatnonzero(tokens[index, 1])  # token ids, mask, segments
    return np.flatnonzero((rows != 0).any(axis=1))
