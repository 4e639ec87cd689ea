"""A folder that predicts by itself: weights, config, signature, tokenizer, calibration, metrics and a model card."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from mmtrain.config import dump_yaml
from mmtrain.engine.run_folder import write_whole
from mmtrain.errors import ConfigError, DataError
from mmtrain.inference.compression.record import FILE as COMPRESSION
from mmtrain.inference.compression.record import Compression
from mmtrain.inference.compression.table import comparison_table, pace_note
from mmtrain.inference.load import CALIBRATION, METRICS, PACKED, TEXT_FOLDER, WEIGHTS
from mmtrain.inference.trained_model import TrainedModel
from mmtrain.models.encoders.hub import load_config, load_tokenizer
from mmtrain.signature import FILE as SIGNATURE
from mmtrain.signature import Signature

CARD = "README.md"


def write_package(model: TrainedModel, out: Path, *, overwrite: bool = False) -> None:
    """Write the folder, whole or not at all; `mmtrain.load` reads it where neither stores nor run are.

    Errors: ConfigError where it is there already, unless it is a package that may be replaced; DataError where the disk
    refuses its weights.
    """
    check_folder(out, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(model, partial)
        replaced = out.with_name(f".{out.name}.replaced")
        if out.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            out.rename(replaced)
        partial.rename(out)
        shutil.rmtree(replaced, ignore_errors=True)
    except SafetensorError as error:
        raise DataError(f"{out} could not be written: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Errors: ConfigError where it is there already, unless it is a package that may be replaced."""
    is_there = out.exists() and any(out.iterdir() if out.is_dir() else [out])
    is_package = (out / WEIGHTS).is_file() and (out / SIGNATURE).is_file()
    if is_there and not (overwrite and is_package):
        hint = "is no package and is not replaced" if overwrite else "exists already; pass --overwrite"
        raise ConfigError(f"{out} {hint}")


def _write(model: TrainedModel, folder: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in model.stored().items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # made for its owner alone, it could not be shared
    write_whole(folder / "config.yaml", dump_yaml(model.experiment))
    write_whole(folder / SIGNATURE, model.signature.model_dump_json(indent=1))
    text = model.experiment.model.text
    if text is not None:
        load_config(text.path).save_pretrained(folder / TEXT_FOLDER)
        load_tokenizer(text.path).save_pretrained(folder / TEXT_FOLDER)
    if model.decisions.record is not None:
        write_whole(
            folder / CALIBRATION,
            json.dumps({**model.decisions.record, "checkpoint": PACKED, "weights": "trained"}, indent=1),
        )
    if model.compression is not None:
        write_whole(folder / COMPRESSION, model.compression.model_dump_json(indent=1))
    write_whole(folder / METRICS, json.dumps(model.measured, indent=1))
    write_whole(folder / CARD, "\n".join(_card(model, model.measured)))


def _card(model: TrainedModel, metrics: Mapping[str, Any]) -> Iterator[str]:
    """A model card (Mitchell et al. 2019), with what the run knows; what only people know is marked to be written."""
    experiment, signature = model.experiment, model.signature
    yield from ("---", "library_name: mmtrain", "tags: [multimodal]", "---", "", f"# {experiment.name}", "")
    yield f"A model of mmtrain that reads {', '.join(model.modalities)} and answers {', '.join(signature.tasks)}."
    yield from ("", "```python", "from mmtrain import load", "", 'model = load("this folder")')
    yield from (f"answers = model.predict({', '.join(f'{name}=...' for name in model.modalities)})", "```", "")
    yield from ("## Answers", "", *_tasks(signature), "", "## Inputs", "", *_inputs(model), "", "## Data", "")
    for name, dataset in experiment.datasets.items():
        yield f"- {name} ({dataset.store})"
    yield from ("", "Licence of the data and of this model: to be written by who publishes it.", "")
    yield from _compressed(model.compression)
    yield from ("## Measured" + (" before the compression" if model.compression is not None else ""), "")
    yield from _measured(metrics)
    yield from (
        "",
        "## Intended use and known failures",
        "",
        "To be written: for whom, for what, and where it goes wrong.",
        "",
    )


def _tasks(signature: Signature) -> Iterator[str]:
    for name, task in signature.tasks.items():
        classes = f": {', '.join(task.classes)}" if task.classes else ""
        yield f"- {name}: {task.kind}{classes}{f' in {task.unit}' if task.unit else ''}"


def _inputs(model: TrainedModel) -> Iterator[str]:
    text = model.experiment.model.text
    for name in model.modalities:
        item = model.signature.modalities.get(name)
        if item is None:
            yield f"- {name}: a string, at most {text.max_tokens if text else 0} tokens are read"
            continue
        rate = f", {item.rows_per_second:g} rows a second" if item.rows_per_second else ""
        made = ", ".join(sorted({source.extractor for source in item.sources.values()}))
        yield f"- {name}: rows of {' x '.join(map(str, item.row_shape))}{rate} from {made}"


def _compressed(compression: Compression | None) -> Iterator[str]:
    if compression is None:
        return
    notes = list(compression.notes)
    if compression.compared is None:
        yield from (f"## Compressed by {compression.method}", "")
    else:
        yield comparison_table(compression.method, compression.compared).markdown()
        notes.append(pace_note(compression.compared.pace))
    yield from (*(f"- {note}" for note in notes), "- temperatures and thresholds are those of the weights before", "")


def _measured(metrics: Mapping[str, Any]) -> Iterator[str]:
    if not metrics:
        yield "Nothing of these weights: run `mmtrain evaluate RUN --split test` before packing."
    for split, values in metrics.items():
        yield from (f"{split} split, step {values['step']}:", "")
        yield from ("| task | stream | metric | value | 95 % interval | baseline | samples | groups |",)
        yield "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"
        for row in values["rows"]:
            low, high = _number(row["low"]), _number(row["high"])
            value, chance = _number(row["value"]), _number(row["baseline"])
            counts = f"{row['num_samples']} | {row['num_groups']}"
            yield f"| {row['task']} | {row['stream']} | {row['metric']} | {value} | [{low}, {high}] | {chance} | {counts} |"
        yield ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
