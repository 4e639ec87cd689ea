"""What bench_step trains on, the same for all that it measures: sizes of the model, clips, and what of them is on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import BertConfig

from benchmarks.letter_bert import LETTERS, VOCABULARY, write_bert

CLIPS, EVALUATED, LONGEST = 256, 64, 500
LENGTHS = {0.0: 8, 0.25: 52, 0.5: 128, 0.9: 207, 0.99: 260, 1.0: LONGEST}  # by share of the texts that are not longer
RATE = 1e-5  # of learning
TASKS = ("binary", "mature", "gory", "slapstick", "sarcasm")


class Size(NamedTuple):
    """HICCAP at one width; LSTM units in the paper's proportion to it, or nearly."""

    dim: int
    layers: int
    heads: int
    hidden: int

    def bert(self) -> BertConfig:
        return BertConfig(
            hidden_size=self.dim,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.dim,
        )


class Clip(NamedTuple):
    """What a sample holds."""

    ids: list[int]
    video: np.ndarray  # [T, 1024]
    audio: np.ndarray  # [T, 128]
    labels: Sequence[float]  # by task


SIZES = {"base": Size(dim=768, layers=12, heads=12, hidden=512), "small": Size(dim=256, layers=4, heads=4, hidden=170)}


def draw_clips() -> list[tuple[str, Clip]]:
    """Texts with what they hold; a letter is a token. Video and audio are up to 36 and 63 rows, most of them nearly full."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(CLIPS):
        tokens = int(np.interp(random.random(), list(LENGTHS), list(LENGTHS.values())))
        letters = "".join(random.choice(list(LETTERS), size=tokens - 2))
        words = [letters[start : start + 6] for start in range(0, len(letters), 6)]
        pieces = [letter if not place else f"##{letter}" for word in words for place, letter in enumerate(word)]
        ids = [VOCABULARY[piece] for piece in ("[CLS]", *pieces, "[SEP]")]
        video, audio = (
            random.standard_normal((int(random.integers(longest // 2, longest + 1)), width), dtype=np.float32)
            for longest, width in ((36, 1024), (63, 128))
        )
        labels = [float(label) for label in random.integers(0, 2, len(TASKS))]
        found.append((" ".join(words), Clip(ids, video, audio, labels)))
    return found


def write_inputs(folder: Path) -> None:
    """The store, and for each size a BERT of random weights."""
    from mmtrain.data.schema import FeatureSpec, TaskSchema
    from mmtrain.data.writer import StoreWriter

    for name, size in SIZES.items():
        write_bert(folder / name, size.bert())
    widths = {"video": 1024, "audio": 128}
    modalities = {name: FeatureSpec(dim=dim, rows_per_second=1.0, extractor="random") for name, dim in widths.items()}
    tasks = {task: TaskSchema(kind="binary") for task in TASKS}
    with StoreWriter(folder / "store", name="random", modalities=modalities, tasks=tasks) as writer:
        for number, (text, clip) in enumerate(draw_clips()):
            writer.add(
                id=f"c{number}",
                split="val" if number >= CLIPS - EVALUATED else "train",
                group=f"g{number}",
                text=text,
                features={"video": clip.video, "audio": clip.audio},
                labels=dict(zip(TASKS, clip.labels, strict=True)),
            )
