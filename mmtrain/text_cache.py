"""Cached texts of an experiment: made once by its frozen text encoder, and then read in the encoder's place."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from mmtrain.config import Experiment
from mmtrain.data.cached_block import write_block
from mmtrain.data.cached_column import CachedColumn
from mmtrain.data.cached_texts import CachedTexts
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.tokenize import Tokenizer
from mmtrain.engine.look_once import look_once
from mmtrain.engine.progress import ProgressBar
from mmtrain.models.encoders.cached_rows import RowMaker, encoder_fingerprint
from mmtrain.models.encoders.text import HubText
from mmtrain.models.model import MultimodalModel

Progress = Callable[[int], None]

_REMEDY = "Write `mmtrain cache-text CONFIG` with the run's config: it looks through the cache and mends it"


def use_cached_texts(
    experiment: Experiment,
    accelerator: Accelerator,
    *,
    model: MultimodalModel,
    streams: Sequence[Stream],
    collate: Collator,
    console: Console | None,
    verify: bool = False,
) -> list[str]:
    """Let `collate` read cached texts where the experiment says so; sentences about them, or none. `model` has its last
    weights.

    What is not there is made first, by the first process, file by file, while the others wait. The encoder then stands in
    main memory, for checkpoints alone. `verify`: read all that is there, and make anew what is not as it should be.
    `streams`: of any split. Errors: ConfigError where the folder cannot be written, DataError where a process of another
    machine does not see it.
    """
    config, text, tokenizer = experiment.model.text, model.text, collate.tokenizer
    if config is None or not config.cache or text is None:
        return []
    assert isinstance(text, HubText)
    assert isinstance(tokenizer, Tokenizer)
    folder = Path(experiment.cache) / _key(experiment, text, tokenizer)
    columns = _columns(streams, folder)
    if not columns:
        return []
    text.encoder.to(accelerator.device)
    maker = RowMaker(text, tokenizer, autocast=accelerator.autocast)
    made = [_make(column, maker, accelerator, console, verify=verify) for column in columns]
    blocks = [block for column in columns for block in column.open(remedy=_REMEDY)]
    collate.tokenizer = CachedTexts(
        blocks, max_tokens=tokenizer.max_tokens, truncation_side=tokenizer.truncation_side, remedy=_REMEDY
    )
    if experiment.training.average is None:  # which goes over all weights, on one device
        for weight in text.encoder.parameters():
            weight.data = weight.data.cpu()
    count, size = sum(len(block.keys) for block in blocks), sum(block.rows.nbytes for block in blocks)
    now = f"; {sum(made)} of {len(blocks)} files were made now" if sum(made) else ""
    return [f"cached texts: {count:,} texts, {size / 2**20:,.1f} MiB, in {folder}{now}"]


def _key(experiment: Experiment, text: HubText, tokenizer: Tokenizer) -> str:
    """The name of the folder: of all that the rows of a text depend on, but for the rounding of other hardware."""
    record = [encoder_fingerprint(text), tokenizer.fingerprint, experiment.training.precision, experiment.training.tf32]
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]


def _columns(streams: Sequence[Stream], folder: Path) -> list[CachedColumn]:
    """Those that are read. Stores of one table share its files, be it divided into folds, or have other features."""
    found: dict[Path, CachedColumn] = {}
    for stream in streams:
        for name in stream.texts:
            place = folder / f"{stream.store.table_hash[:16]}-{name}"
            found.setdefault(place, CachedColumn(stream.store, name, place))
    return list(found.values())


def _make(column: CachedColumn, maker: RowMaker, accelerator: Accelerator, console: Console | None, *, verify: bool) -> int:
    """Make the files that are not sound; how many there were. Errors: ConfigError, in all processes."""
    numbers = look_once(accelerator, partial(column.unsound, verify=verify))
    turn = os.getpid() % max(len(numbers), 1)  # runs that start together begin at different files, and so share the work
    total, done = sum(column.size(number) for number in numbers), 0
    with ProgressBar(console if numbers else None, f"texts of {column.store.name}", total=total) as progress:
        for number in (*numbers[turn:], *numbers[:turn]):
            look_once(accelerator, partial(_make_file, column, number, maker, partial(_tell, progress, done), verify=verify))
            done += column.size(number)
    if numbers:
        look_once(accelerator, column.clear_up)
    return len(numbers)


def _make_file(column: CachedColumn, number: int, maker: RowMaker, progress: Progress, *, verify: bool) -> None:
    if not column.is_sound(number, verify=verify):  # else another run has made it meanwhile
        entries = maker(column.texts(number), progress)
        write_block(column.files[number], entries, width=maker.width, dtype=maker.dtype)


def _tell(progress: ProgressBar, before: int, done: int) -> None:
    progress.update(before + done)
