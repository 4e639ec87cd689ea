"""docs/scaling.md's tables: steps on 8, 64 and 512 GPUs by the cost model, and what a process holds for every sample.

Run `python -m benchmarks.bench_scale`. Two numbers of it are measured here: how fast a process reads (`--rate N` takes yours
instead), and the bytes a sample of an open stream. The rest is arithmetic; no GPU is asked.
"""

import gc
import hashlib
import shutil
import sys
import tempfile
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bench_overhead import TASKS, Case, build, write_small_bert, write_store
from benchmarks.cost_model import A100, MACHINES, STATE, Work, step
from mmtrain.curriculum.reports import WindowReport
from mmtrain.data.dataset import Stream
from mmtrain.data.mapped_table import write_mapped
from mmtrain.data.schema import FileRecord, StoreSchema
from mmtrain.data.store import FeatureStore
from mmtrain.engine.run import Run

BERT = {"layers": 12, "width": 768, "vocabulary": 30_522, "tokens": 128}
COPIES = 500  # of the small store's table, to weigh a sample


def loader_rate(folder: Path, *, steps: int = 60) -> tuple[float, int]:
    """Samples a second that one process reads, tokenizes and collates, and parameters of the model but its encoder."""
    write_small_bert(folder / "bert", layers=1, width=128)
    write_store(folder / "store")
    text = {"name": "transformers", "path": str(folder / "bert"), "max_tokens": BERT["tokens"]}
    model = {"dim": 256, "text": text, "sequences": {"audio": {"name": "bilstm"}}, "fusion": {"name": "hca"}}
    with closing(build(folder, Case("", model, 32, steps, 1), "rate", on_disk=False)) as run:
        whole = run.accelerator.unwrap_model(run.model)
        rest = sum(value.numel() for name, value in whole.named_parameters() if not name.startswith("text.encoder"))
        return 32 / seconds_a_step(run, steps), rest


def seconds_a_step(run: Run, steps: int) -> float:
    """CPU seconds of reading, by the second of two windows."""
    for _ in range(2):
        plan = run.curriculum.next_window(run.curriculum.step, steps)
        begun = time.process_time()
        for _ in run.loader.steps(plan, first=plan.first_step):
            pass
        seconds = time.process_time() - begun
        run.curriculum.finish_window(WindowReport(plan.stop_step, losses={}, counts={}))
    return seconds / steps


def bytes_a_sample(folder: Path) -> dict[str, float]:
    """What an open training stream with texts holds for each sample of the store: table and arrays, decoded and mapped."""
    small, large, cache = folder / "store", folder / "large", folder / "cache"
    large.mkdir()
    table = pq.read_table(small / "samples.parquet")
    pq.write_table(pa.concat_tables([table] * COPIES), large / "samples.parquet")
    count = COPIES * table.num_rows
    schema = StoreSchema.model_validate_json((small / "dataset.json").read_bytes())
    sha256 = hashlib.sha256((large / "samples.parquet").read_bytes()).hexdigest()
    record = FileRecord(bytes=(large / "samples.parquet").stat().st_size, sha256=sha256)
    update = {"samples": count, "modalities": {}, "files": {"samples.parquet": record}}
    (large / "dataset.json").write_text(schema.model_copy(update=update).model_dump_json())
    file = write_mapped(large, cache=cache, sha256=sha256)
    found = {"decoded": held(FeatureStore(large)) / count, "mapped": held(FeatureStore(large, cache=cache)) / count}
    texts = FeatureStore(large).column("text").nbytes / count
    print(f"{count:,} samples, texts of {texts:.0f} bytes, {len(TASKS)} tasks")
    found["file"] = file.stat().st_size / count
    shutil.rmtree(large)
    return found


def held(store: FeatureStore) -> int:
    """Bytes of a process's own memory by which it grows with a stream over the store."""
    gc.collect()
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    stream = Stream("clips", store, split="train", tasks=list(TASKS), modalities=["text"])
    kept = [stream.lengths(), *(stream.labelled(task) for task in TASKS)]  # of the plan and of the loader
    arrays, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 1 + len(TASKS)
    return arrays + pa.total_allocated_bytes() - before


def print_steps(work: Work, rate: float) -> None:
    print(
        "| machine | GPUs | samples a GPU | compute, ms | all-reduce (exposed) | loading | step | efficiency | waits for |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for machine in MACHINES:
        for processes in (8, 64, 512):
            for samples in (8, 32, 128):
                found = step(work, machine, processes=processes, samples=samples, rate=rate)
                reduced = f"{1e3 * found.communication:.1f} ({1e3 * found.exposed_communication:.1f})"
                cells = [machine.name, str(processes), str(samples), f"{1e3 * found.compute:.1f}", reduced]
                cells += [f"{1e3 * found.loading:.1f}", f"{1e3 * found.total:.1f}"]
                print(f"| {' | '.join([*cells, f'{found.compute / found.total:.0%}', found.bottleneck])} |")


def print_memory(work: Work) -> None:
    """What fits an A100 or H100 of 80 GB."""
    print("| text encoder | parameters | state, GB | MB a sample | samples that fit |\n| --- | ---: | ---: | ---: | ---: |")
    large = Work(layers=24, width=1024, vocabulary=30_522, rest=work.rest, tokens=work.tokens)
    huge = Work(layers=32, width=4096, vocabulary=32_000, rest=work.rest, tokens=work.tokens)
    for name, found, heads in (("BERT-base", work, 12), ("BERT-large", large, 16), ("32 layers of 4,096", huge, 32)):
        state, each = STATE * found.parameters, found.activations(heads)
        fits = max(0, int((0.9 * A100.memory - state) / each))
        print(f"| {name} | {found.parameters / 1e6:,.0f} M | {state / 1e9:.1f} | {each / 1e6:.0f} | {fits:,} |")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        rate, rest = loader_rate(Path(place))
        weights = bytes_a_sample(Path(place))
    if "--rate" in sys.argv:
        rate = float(sys.argv[sys.argv.index("--rate") + 1])
    work = Work(**BERT, rest=rest)
    print(
        f"a process holds {weights['decoded']:.0f} bytes a sample with the table in its memory, {weights['mapped']:.0f} ",
        end="",
    )
    print(f"with a mapped one, whose file has {weights['file']:.0f}: for 1e9 samples so many GB\n")
    print(f"a process reads {rate:,.0f} samples a second; beside the encoder {rest / 1e6:.2f} M parameters")
    print(f"BERT-base: {work.parameters / 1e6:.1f} M parameters, {work.flops / 1e9:.1f} GFLOP a sample\n")
    print_steps(work, rate)
    print()
    print_memory(work)


if __name__ == "__main__":
    main()
