"""What each fault of HICCAP's public codes changes in the result, on random weights and random clips.

Run `python -m benchmarks.hiccap_quirks`: it prints the table of docs/hiccap.md. The model without any fault is the one that
`configs/hiccap` builds; each row switches one of them on. Widths are a tenth of the paper's, padded lengths the paper's.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import BertConfig, BertModel

from mmtrain.models.hiccap_legacy import VARIANTS, Context, HiccapLegacy, Padded, Variant, pad

CLIPS, IMAGE, AUDIO, VOCABULARY = 8, 64, 16, 200
SIZES = {"dim": 72, "hidden": 48, "heads": 12, "image_dim": IMAGE, "audio_dim": AUDIO}
NO_MASK, LEFT, OTHER_END = "BERT gets no attention mask", "text is padded on the left", "the text mask marks the other end"
LSTM, POOLING = "the LSTMs read padding", "pooling counts padding"
MISSING, SILENCE = "a missing modality is read as if it were there", "a missing audio is a real row of zeros"
PAPERS = frozenset({NO_MASK, LEFT, LSTM, POOLING, MISSING, SILENCE})
ROWS: dict[str, tuple[frozenset[str], str]] = {
    **{quirk: (frozenset({quirk}), "binary") for quirk in (NO_MASK, LEFT, OTHER_END, LSTM, POOLING, MISSING, SILENCE)},
    "video reads audio before text": (frozenset(), "four_tasks"),
    "video's first reading is thrown away": (frozenset(), "curriculum_branch"),
    "all of the paper's code": (PAPERS, "binary"),
    "all of the curriculum studies": (PAPERS | {OTHER_END}, "binary"),
}


class Clips(NamedTuple):
    """Tokens and rows; None: missing."""

    texts: list[list[int]]
    images: list[np.ndarray | None]
    audios: list[np.ndarray | None]


class Row(NamedTuple):
    """How far the joint vector moves, of its length, and the logit, of its deviation over clips; means over clips."""

    joint: float
    logit: float


class Quirky(HiccapLegacy):
    """The legacy model with some of its faults; the others are mended as the model that we build has them mended."""

    quirks: frozenset[str] = frozenset()

    def encode(self, name: Context, batch: Padded) -> Tensor:
        if name == "text" and NO_MASK not in self.quirks:
            return self.bert(input_ids=batch.tokens, attention_mask=(batch.tokens != 0).long()).last_hidden_state
        if name == "text" or LSTM in self.quirks:
            return super().encode(name, batch)
        place = "img" if name == "image" else "audio"
        rows, mask = getattr(batch, name), getattr(batch, f"{name}_mask")
        packed = pack_padded_sequence(rows, mask.sum(dim=1).clamp(min=1), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            getattr(self, f"rnn_{place}")(packed)[0], batch_first=True, total_length=rows.shape[1]
        )
        return getattr(self, f"sequential_{name}")(getattr(self, f"rnn_{place}_drop_norm")(states))

    def read(self, norm: str, attention: str, rows: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        found = super().read(norm, attention, rows, context, mask)
        return found if MISSING in self.quirks else torch.where(mask.any(dim=1)[:, None, None], found, rows)

    def pool(self, pooling: str, rows: Tensor, mask: Tensor) -> Tensor:
        if POOLING in self.quirks:
            pooled = super().pool(pooling, rows, mask)
        else:
            pooled = getattr(self, f"{pooling}_drop_norm")(getattr(self, pooling)(rows, mask.to(rows.dtype)))
        return pooled if MISSING in self.quirks else pooled * mask.any(dim=1)[:, None]


def prepare(clips: Clips, quirks: frozenset[str], **sizes: int) -> Padded:
    """Clips as the public code pads them, but for what is mended of it."""
    silent = [rows is None for rows in clips.audios]
    variant = Variant(text_mask="left" if OTHER_END in quirks else "right")
    batch = pad(clips.texts, clips.images, clips.audios, variant=variant, **sizes)
    if LEFT not in quirks:  # tokens come first, and what the mask calls real is there or at the other end
        counts = [len(text) for text in clips.texts]
        towards = [-count for count in counts] if OTHER_END in quirks else counts
        batch = batch._replace(tokens=_rolled(batch.tokens, counts), token_mask=_rolled(batch.token_mask, towards))
    if SILENCE not in quirks:
        batch = batch._replace(audio_mask=batch.audio_mask * ~torch.tensor(silent)[:, None])
    return batch


def _rolled(rows: Tensor, counts: Sequence[int]) -> Tensor:
    return torch.stack([row.roll(count) for row, count in zip(rows, counts, strict=True)])


def draw_clips() -> Clips:
    """Lengths up to the longest that are kept (texts up to 299 tokens, as in the published validation clips); a quarter of
    the clips has no video, another quarter no audio.
    """
    generator = np.random.default_rng(0)
    texts = [generator.integers(5, VOCABULARY, count).tolist() for count in generator.integers(2, 300, CLIPS)]
    images = [generator.normal(size=(count, IMAGE)) for count in generator.integers(4, 37, CLIPS)]
    audios = [generator.normal(size=(count, AUDIO)) for count in generator.integers(6, 64, CLIPS)]
    return Clips(
        texts,
        [None if number % 4 == 0 else rows for number, rows in enumerate(images)],
        [None if number % 4 == 2 else rows for number, rows in enumerate(audios)],
    )


def build() -> Quirky:
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=VOCABULARY, hidden_size=72, num_hidden_layers=2, num_attention_heads=12, intermediate_size=144
    )
    encoder = BertModel(bert, add_pooling_layer=False)
    for part in encoder.modules():  # as large as trained ones: a fresh BERT's are a fiftieth
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    return Quirky(bert=encoder, tasks=("binary",), variant=VARIANTS["binary"], **SIZES).eval()


@torch.no_grad()
def measure() -> Iterator[tuple[str, Row]]:
    """Each row of the table."""
    model, clips = build(), draw_clips()

    def run(quirks: frozenset[str], variant: str) -> tuple[Tensor, Tensor]:
        model.quirks, model.variant = quirks, VARIANTS[variant]
        batch = prepare(clips, quirks, image_dim=IMAGE, audio_dim=AUDIO)
        joint = model.joint(batch)
        logits = model.heads["binary"](joint)
        return joint, logits[:, 1] - logits[:, 0]

    joint, logit = run(frozenset(), "binary")
    for name, (quirks, variant) in ROWS.items():
        other, moved = run(quirks, variant)
        share = (other - joint).norm(dim=1) / joint.norm(dim=1)
        yield name, Row(share.mean().item(), ((moved - logit).abs().mean() / logit.std()).item())


def main() -> None:
    torch.set_num_threads(1)
    print("| fault | joint vector | logit |\n| --- | ---: | ---: |")
    for name, row in measure():
        print(f"| {name} | {row.joint:.3f} | {row.logit:.3f} |")


if __name__ == "__main__":
    main()
