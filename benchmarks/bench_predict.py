"""Predictions per second of one model in every form: eager, torch.compile, ONNX, and compressed.

Run `python -m benchmarks.bench_predict`. The model is a small HICCAP (configs/hiccap): a BERT of 4 layers of 256, recurrent
layers over audio and video, hierarchical cross-attention, heads with batch normalization; all weights random. It reads
ragged batches of collated tensors: texts are as long as real ones (lognormal, median 128 tokens, nine in ten below 207),
and one sample in ten lacks each of audio and video. What every form says is compared with the eager model first. Then both
answer the same batches, the one or the other first; shown are the median over such pairs of eager's seconds over a form's,
and its quartiles. Seconds are `time.process_time` of one thread, which other programs do not touch, so this holds
on a loaded machine. Compiling is measured by the clock, since it starts processes of its own.
"""

import copy
import logging
import math
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from benchmarks.bench_overhead import write_small_bert
from mmtrain.inference import export as exporting
from mmtrain.inference.compression import method_named
from mmtrain.inference.decision import Decisions
from mmtrain.inference.export import Graph, Inputs
from mmtrain.inference.graph_layers import for_a_graph
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.bilstm import BiLstmEncoderConfig
from mmtrain.models.encoders.text import TransformersTextConfig
from mmtrain.models.fusion.hca import HcaFusionConfig
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.pooling.attention import AttentionPoolingConfig
from mmtrain.signature import TaskOutput

PAIRS, BATCHES, BATCH, TOKENS = 7, 3, 8, 400
DIMS = {"audio": 128, "video": 256}
TASKS = {name: TaskOutput(kind="binary", classes=(), unit="") for name in ("mature", "gory", "slapstick", "sarcasm")}
Run = Callable[[Inputs], dict[str, Tensor]]


@dataclass(frozen=True)
class Form:
    """One way to answer, how far it may be from the eager model, and seconds of compiling."""

    title: str
    run: Run
    tolerance: float
    compiling: float | None = None


def build(folder: Path) -> Graph:
    write_small_bert(folder, tokens=TOKENS)
    lstm = BiLstmEncoderConfig(hidden=128, layers=2)
    config = ModelConfig(
        dim=256,
        text=TransformersTextConfig(path=str(folder), max_tokens=TOKENS, projection=False, weights="random"),
        sequences=dict.fromkeys(DIMS, lstm),
        fusion=HcaFusionConfig(order=("video", "text", "audio")),
        pooling=AttentionPoolingConfig(),
    )
    torch.manual_seed(0)
    model = build_model(
        config,
        dims=DIMS,
        outputs=dict.fromkeys(TASKS, 1),
        heads=dict.fromkeys(TASKS, MlpHeadConfig(hidden=(200, 40), batch_norm=True)),
        scalar_tasks=list(TASKS),
        frames={},
        rates={},
    )
    return Graph(model, modalities=config.fused_modalities, tasks=TASKS, decisions=Decisions()).eval()


def ragged_batch(seed: int) -> Inputs:
    numbers = torch.Generator().manual_seed(seed)
    spread = math.log(207 / 128) / 1.2816  # of the normal distribution's ninth decile
    lengths = (128 * (spread * torch.randn(BATCH, generator=numbers)).exp()).round().long().clamp(5, TOKENS)
    inputs = {"text": torch.randint(5, 1000, (BATCH, int(lengths.max())), generator=numbers)}
    inputs["text_mask"] = torch.arange(int(lengths.max())) < lengths[:, None]
    for name, dim in DIMS.items():
        rows = torch.randint(10, 61, (BATCH,), generator=numbers) * (torch.rand(BATCH, generator=numbers) > 0.1)
        inputs[name] = torch.randn(BATCH, int(rows.max()), dim, generator=numbers)
        inputs[f"{name}_mask"] = torch.arange(int(rows.max())) < rows[:, None]
    return inputs


def forms(eager: Graph, batches: list[Inputs], folder: Path) -> Iterator[Form]:
    """The slowest to make is the last."""
    for name, tolerance in (("fold", 1e-5), ("int8", 0.2), ("bf16", 0.2)):
        yield Form(f"`--method {name}`", compressed(eager, name), tolerance)
    yield Form("ONNX (onnxruntime)", onnx(eager, batches[0], folder / "model.onnx"), 1e-4)
    run = torch.compile(copy.deepcopy(eager), dynamic=True)
    with torch.inference_mode():
        first, second = (clock_seconds(lambda: [run(batch) for batch in batches]) for _ in range(2))
    yield Form("`torch.compile(dynamic=True)`", run, 1e-4, first - second)


def compressed(eager: Graph, name: str) -> Graph:
    graph, method = copy.deepcopy(eager), method_named(name)
    method.apply(graph.model)
    if method.precision == "bf16":
        graph.forward = torch.autocast("cpu", dtype=torch.bfloat16)(graph.forward)  # type: ignore[method-assign]
    return graph


def onnx(eager: Graph, batch: Inputs, file: Path) -> Run:
    """With as many threads as the others: one."""
    graph = copy.deepcopy(eager)
    for_a_graph(graph)
    with torch.no_grad():
        outputs = list(eager(batch))
    exporting._save(exporting._program(graph, batch), file, form="onnx", inputs=list(batch), outputs=outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> dict[str, Tensor]:
        values = session.run(outputs, {name: value.numpy() for name, value in inputs.items()})
        return dict(zip(outputs, map(torch.from_numpy, values), strict=True))

    return run


def clock_seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@torch.inference_mode()
def check(eager: Graph, form: Form, batches: list[Inputs]) -> None:
    for batch in batches:
        expected = eager(batch)
        for name, value in form.run(batch).items():
            difference = float((value.float() - expected[name]).abs().max())
            assert difference <= form.tolerance, f"{form.title}: {name} is {difference:.2g} off"


@torch.inference_mode()
def measure(runs: Sequence[Run], batches: list[Inputs]) -> list[list[float]]:
    """CPU seconds of all batches, for each of `runs` one number a pair; they take turns in beginning."""
    seconds: list[list[float]] = [[] for _ in runs]
    for number in range(PAIRS):
        for position in (0, 1) if number % 2 else (1, 0):
            begun = time.process_time()
            for batch in batches:
                runs[position](batch)
            seconds[position].append(time.process_time() - begun)
    return seconds


def row(title: str, eager: Sequence[float], own: Sequence[float], compiling: float | None) -> str:
    low, ratio, high = statistics.quantiles([a / b for a, b in zip(eager, own, strict=True)], n=4)
    pace = BATCH * BATCHES / statistics.median(own)
    return (
        f"| {title} | {pace:.1f} | {ratio:.2f} ({low:.2f}, {high:.2f}) | {'' if compiling is None else f'{compiling:.0f}'} |"
    )


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of compilers
    logging.disable(logging.WARNING)
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread; medians over {PAIRS} pairs (and quartiles)\n")
    print("| form | predictions per CPU second | times eager | compiling, s |")
    print("| --- | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as place:
        eager, batches = build(Path(place)), [ragged_batch(seed) for seed in range(BATCHES)]
        for form in forms(eager, batches, Path(place)):
            check(eager, form, batches)
            seconds = measure((eager, form.run), batches)
            if form.title == "`--method fold`":
                print(row("eager", seconds[0], seconds[0], None))
            print(row(form.title, *seconds, form.compiling), flush=True)


if __name__ == "__main__":
    main()
