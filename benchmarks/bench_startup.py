"""From the start of a process to the end of its first step: mmtrain, Hugging Face's Trainer, and a loop by hand.

Run `python -m benchmarks.bench_startup`. Wanted: at most 0.65 of the Trainer. With text all train a tiny BERT (2 layers of
32, of one folder) on the same 200 texts, 8 a step; without, a linear layer of 16 on as many rows. mmtrain reads audio
from a store in both cases, the others what is in memory. The loop by hand has Accelerate, a DataLoader and AdamW, and is the
least that these libraries take. Each start is a process of its own; they take turns, and a first round, uncounted, warms the
disk's cache. Shown are medians over rounds: CPU seconds of the process, by which is judged, since other programs on the
machine leave them alone; seconds on the clock; resident memory at its peak.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS, SAMPLES, BATCH = 5, 200, 8
WANTED = 0.65

# what ends each process behind its first step
_MEASURE = """
import os, resource, time
def end():
    print("FIRST", time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
    os._exit(0)
"""

_OURS = """
import sys
from mmtrain import cli
from mmtrain.engine import loop
whole = loop.train_step
def train_step(run, inputs):
    whole(run, inputs)
    end()
loop.train_step = train_step
cli.main(["train", "--config", sys.argv[1], "--overwrite"])
"""

_TEXTS = """
import sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
folder, out, texts = sys.argv[1], sys.argv[2], open(sys.argv[3]).read().splitlines()
tokenizer = AutoTokenizer.from_pretrained(folder)
data = [dict(tokenizer(text, truncation=True), label=number % 2) for number, text in enumerate(texts)]
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
collate = DataCollatorWithPadding(tokenizer)
"""

_ROWS = """
import sys
import torch
class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 2)
    def forward(self, rows, labels):
        return {"loss": torch.nn.functional.cross_entropy(self.layer(rows), labels)}
out, model, collate = sys.argv[2], Linear(), None
data = [{"rows": torch.ones(16), "labels": number % 2} for number in range(200)]
"""

_TRAINER = """
from transformers import Trainer, TrainerCallback, TrainingArguments
class End(TrainerCallback):
    def on_step_end(self, *_, **__):
        end()
arguments = TrainingArguments(
    output_dir=out, per_device_train_batch_size=8, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no"
)
Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[End()]).train()
"""

_BY_HAND = """
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
accelerator = Accelerator(cpu=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = DataLoader(data, batch_size=8, shuffle=True, collate_fn=collate)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    optimizer.zero_grad()
    accelerator.backward(model(**batch)["loss"])
    optimizer.step()
    end()
"""

REFERENCES = {"text": "Hugging Face Trainer, text", "audio": "Hugging Face Trainer, rows alone"}


def write_inputs(folder: Path) -> dict[str, list[str]]:
    """The encoder, the store, the texts and the experiments; the command line of each contender."""
    made = [sys.executable, "-c", "import sys; from benchmarks.bench_startup import write; write(sys.argv[1])", str(folder)]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ours = [sys.executable, "-c", _MEASURE + _OURS]
    places = [str(folder / "bert"), str(folder / "out"), str(folder / "texts.txt")]
    return {
        "mmtrain, text and audio": [*ours, str(folder / "text.yaml")],
        REFERENCES["text"]: [sys.executable, "-c", _MEASURE + _TEXTS + _TRAINER, *places],
        "by hand with Accelerate, text": [sys.executable, "-c", _MEASURE + _TEXTS + _BY_HAND, *places],
        "mmtrain, audio alone": [*ours, str(folder / "audio.yaml")],
        REFERENCES["audio"]: [sys.executable, "-c", _MEASURE + _ROWS + _TRAINER, *places],
        "by hand with Accelerate, rows alone": [sys.executable, "-c", _MEASURE + _ROWS + _BY_HAND, *places],
    }


def write(path: str) -> None:
    """In a process of its own, so that the one that measures stays small."""
    import yaml
    from transformers import BertConfig

    from benchmarks.letter_bert import PIECES, write_bert
    from data_prep.synth import synthesize
    from mmtrain.data.store import FeatureStore

    folder = Path(path)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    write_bert(folder / "bert", BertConfig(vocab_size=len(PIECES), max_position_embeddings=64, **size))
    synthesize(folder / "store", samples=SAMPLES, modalities={"audio": 16}, tasks={"funny": "binary"})
    store = FeatureStore(folder / "store")
    (folder / "texts.txt").write_text("\n".join(store.text(index) or "nothing" for index in range(SAMPLES)))
    text = {"name": "transformers", "path": str(folder / "bert"), "max_tokens": 64}
    for name in ("text", "audio"):
        values = {
            "name": name,
            "runs": str(folder / "runs"),
            "datasets": {"synth": {"store": str(folder / "store")}},
            "streams": {"synth": {"dataset": "synth", "tasks": ["funny"]}},
            "model": {"dim": 16, "sequences": {"audio": {"name": "linear"}}} | ({"text": text} if name == "text" else {}),
            "batch": {"size": BATCH},
            "training": {"epochs": 1},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))


def start(command: list[str]) -> tuple[float, float, float]:
    """CPU seconds, seconds on the clock and MiB of one start."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("FIRST")]
    if not lines:
        raise RuntimeError(f"no first step:\n{done.stdout}\n{done.stderr}")
    return float(lines[0][1]), seconds, float(lines[0][2]) / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        commands = write_inputs(Path(folder))
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
        for number in range(ROUNDS + 1):
            for name in list(commands) if number % 2 else reversed(commands):
                measured = start(commands[name])
                if number:
                    found[name].append(measured)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {ROUNDS} rounds; wanted: {WANTED} of the Trainer's CPU seconds\n")
    print("| to the first step | CPU s | of the Trainer | clock s | of the Trainer | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, rows in found.items():
        cpu, clock, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        reference = found[REFERENCES["text" if "text" in name else "audio"]]
        ratios = [
            statistics.median(row[place] / other[place] for row, other in zip(rows, reference, strict=True))
            for place in (0, 1)
        ]
        print(f"| {name} | {cpu:.2f} | {ratios[0]:.2f} | {clock:.2f} | {ratios[1]:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
