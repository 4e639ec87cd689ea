"""A trained model as a graph that runs without its code: torch.export or ONNX, compared with the model at once."""

import copy
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.data.schema import TEXTS
from mmtrain.data.tokenize import Tokenizer
from mmtrain.engine.run_folder import write_whole
from mmtrain.errors import ConfigError
from mmtrain.extras import require
from mmtrain.inference.compression import method_named
from mmtrain.inference.decision import Decisions
from mmtrain.inference.graph_layers import for_a_graph
from mmtrain.inference.onnx_axes import name_axes
from mmtrain.inference.trained_model import TrainedModel
from mmtrain.models.model import MultimodalModel
from mmtrain.signature import TaskOutput

Format = Literal["torch-export", "onnx"]
SUFFIXES: Mapping[Format, str] = {"torch-export": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-4
_SHAPES = ((1, 1), (2, 9), (3, 1), (5, 6), (8, 17))  # samples and longest rows of the batches that are compared
_PAIRS = 7  # timed runs of each
Inputs = dict[str, Tensor]
Runner = Callable[[Inputs], dict[str, Tensor]]


@dataclass(frozen=True)
class Exported:
    """What `export` found."""

    file: str
    bytes: int
    largest_difference: float  # of any output from the model's own, over the batches compared
    speed: float  # the model's time over the graph's: above 1, the graph is faster
    batches: int


class Graph(nn.Module):
    """The model as a function of tensors by name: `audio` [B, T, D] and `audio_mask` [B, T] bool, for every modality.

    Outputs by name: `task.logits`, and `task.probability` after the temperature, or `task.value` of a regression.
    """

    def __init__(
        self, model: MultimodalModel, *, modalities: Sequence[str], tasks: Mapping[str, TaskOutput], decisions: Decisions
    ) -> None:
        super().__init__()
        self.model, self._modalities, self._tasks = model, tuple(modalities), dict(tasks)
        self._temperatures = {task: decisions[task].temperature for task in tasks}

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        given = {name: MaskedSequence(inputs[name], inputs[f"{name}_mask"]) for name in self._modalities}
        logits = self.model(given).logits
        outputs = {}
        for task, output in self._tasks.items():
            outputs[f"{task}.logits"] = logits[task]
            scaled = logits[task] / self._temperatures[task]
            if output.kind == "regression":
                outputs[f"{task}.value"] = logits[task] * output.std + output.mean
            elif output.kind == "multiclass":
                outputs[f"{task}.probability"] = scaled.softmax(dim=-1)
            else:
                outputs[f"{task}.probability"] = scaled.sigmoid()
        return outputs


def export(trained: TrainedModel, out: Path, *, form: Format, overwrite: bool = False) -> Exported:
    """Write the graph, with dynamic numbers of samples and rows, and OUT.json, which names its inputs and outputs.

    Float32, whatever the run's precision. Errors: ConfigError where a package is missing, the file is there already, the
    model cannot be exported, or the graph says something else than the model.
    """
    if out.suffix != SUFFIXES[form]:
        raise ConfigError(f"--out {out}: {form} files end in {SUFFIXES[form]}")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists already; choose another name or pass --overwrite")
    compression = trained.compression
    if compression is not None and method_named(compression.method).is_integer:
        raise ConfigError(
            f"{trained.source} has {compression.method} weights, whose products no exported graph here has; export the run "
            "that it was made from, and quantize the graph with the tools of where it runs"
        )
    if form == "onnx":
        require("--format onnx", ("onnx", "onnxscript", "onnxruntime"), extra="export")
    eager = Graph(
        copy.deepcopy(trained.model).float().cpu().eval(),
        modalities=trained.modalities,
        tasks=trained.signature.tasks,
        decisions=trained.decisions,
    ).eval()
    graph = copy.deepcopy(eager)
    for_a_graph(graph)
    batches = [_inputs(trained, count=count, longest=longest, seed=seed) for seed, (count, longest) in enumerate(_SHAPES)]
    program = _program(graph, batches[-1])
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        runner = _save(program, partial, form=form, inputs=list(batches[0]), outputs=list(eager(batches[0])))
        largest = float(np.max([_difference(eager, runner, batch) for batch in batches]))  # NaN, if any is
        if not largest <= TOLERANCE:
            raise ConfigError(
                f"{form}: the graph differs from the model by {largest:.2g} (at most {TOLERANCE:g} is allowed)"
            )
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    found = Exported(str(out), out.stat().st_size, largest, _speed(eager, runner, batches[-1]), len(batches))
    write_whole(out.with_name(out.name + ".json"), json.dumps(_sidecar(trained, form, found), indent=1))
    return found


def _program(graph: Graph, batch: Inputs) -> Any:
    """Errors: ConfigError where something in the model depends on the data as a graph cannot."""
    dynamic = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in batch}
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(graph, (batch,), dynamic_shapes=(dynamic,), strict=False)
    except Exception as error:  # torch raises anything
        first = str(error).strip().split("\n")[0]
        raise ConfigError(f"this model cannot be exported: {type(error).__name__}: {first}") from error


def _save(program: Any, file: Path, *, form: Format, inputs: Sequence[str], outputs: Sequence[str]) -> Runner:
    """Write it, and what runs the written file."""
    if form == "torch-export":
        torch.export.save(program, file)
        module = torch.export.load(file).module()
        run_module: Runner = module
        return run_module
    import onnxruntime

    from mmtrain.inference import onnx_recurrent

    operations: dict[Callable[..., Any], Callable[..., Any]] = {
        torch.ops.mmtrain.lstm.default: onnx_recurrent.lstm,
        torch.ops.mmtrain.gru.default: onnx_recurrent.gru,
    }
    with _quiet():
        found = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_translation_table=operations,
            verbose=False,
        )
    assert found is not None
    name_axes(found, [name for name in inputs if f"{name}_mask" in inputs])
    found.save(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    known = {item.name for item in session.get_inputs()}  # one that changes nothing is not there

    def run(batch: Inputs) -> dict[str, Tensor]:
        values = session.run(list(outputs), {name: value.numpy() for name, value in batch.items() if name in known})
        return {name: torch.from_numpy(value) for name, value in zip(outputs, values, strict=True)}

    return run


def _inputs(trained: TrainedModel, *, count: int, longest: int, seed: int) -> Inputs:
    """Ragged rows of random numbers; where there are several samples, one that lacks every modality in turn."""
    random = torch.Generator().manual_seed(seed)
    inputs: Inputs = {}
    for number, name in enumerate(trained.modalities):
        length = longest + number
        lengths = torch.randint(1, length + 1, (count, 1), generator=random)
        if count > 1:
            lengths[number % count] = 0
        item = trained.signature.modalities.get(name)
        if name in TEXTS:
            tokenizer = trained.collate.tokenizer
            assert isinstance(tokenizer, Tokenizer)
            length = min(length, tokenizer.max_tokens)
            inputs[name] = torch.randint(0, len(tokenizer.tokenizer), (count, length), generator=random)
        elif item is not None and item.shape is not None:
            inputs[name] = torch.randint(0, 256, (count, length, *item.shape), generator=random, dtype=torch.uint8)
        elif item is not None:
            inputs[name] = torch.randn(count, length, item.dim, generator=random)
        inputs[f"{name}_mask"] = torch.arange(length) < lengths
    return inputs


@torch.inference_mode()
def _difference(eager: Graph, runner: Runner, batch: Inputs) -> float:
    """The largest of logits and probabilities, NaN if any is; values of a regression are its logits in other units."""
    expected, found = eager(batch), runner(batch)
    compared = {name: value for name, value in expected.items() if not name.endswith(".value")}
    return float(torch.stack([(found[name] - value).abs().max() for name, value in compared.items()]).max())


@torch.inference_mode()
def _speed(eager: Graph, runner: Runner, batch: Inputs) -> float:
    """Median of interleaved pairs of runs over the largest batch compared."""
    ratios = []
    for _ in range(_PAIRS):
        times = []
        for run in (eager, runner):
            started = time.perf_counter()
            run(batch)
            times.append(time.perf_counter() - started)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def _sidecar(trained: TrainedModel, form: Format, found: Exported) -> dict[str, Any]:
    return {
        "format": form,
        "modalities": list(trained.modalities),
        "inputs": "<modality>, <modality>_mask: bool [B, T], true = a real row; of a missing modality all false",
        "outputs": "<task>.logits; <task>.probability, or <task>.value of a regression",
        "weights": trained.identity,
        "decisions": {task: asdict(trained.decisions[task]) for task in trained.signature.tasks},
        "compared": asdict(found),
        "signature": json.loads(trained.signature.model_dump_json()),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """What these exporters say of their own insides is no user's business; an error is raised."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
