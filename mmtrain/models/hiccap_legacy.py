"""HICCAP as the public code computes it, faults and all: to check converted weights, and to measure what the faults do.

Baharlouei et al., LREC-COLING 2024. It stands outside the tables and outside the mask contract: padding changes its result.
Every fault is listed, and measured, in docs/hiccap.md. Its parameters have the names that the predecessors' flat state
dicts have, so that `mmtrain import-checkpoint hiccap FILE --legacy` writes what `load_state_dict` takes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor, nn

Array = npt.NDArray[np.floating]
Context = Literal["text", "audio", "image"]
# each modality with its attention and its pooling, in the order of the joint vector
_PARTS: tuple[tuple[Context, str, str], ...] = (
    ("text", "att1", "attention"),
    ("audio", "att2", "attention_audio"),
    ("image", "att3", "attention_image"),
)


@dataclass(frozen=True)
class Variant:
    """In what one public code differs from the next: what each modality reads, in which order, and its text mask."""

    text: tuple[Context, Context] = ("image", "audio")
    audio: tuple[Context, Context] = ("image", "text")
    image: tuple[Context, Context] = ("text", "audio")
    restarts: frozenset[Context] = frozenset()  # modalities whose second reading starts anew, so that the first is lost
    text_mask: Literal["right", "left"] = "right"  # the end that is marked as real; the tokens are always at the right


VARIANTS: Mapping[str, Variant] = {
    "binary": Variant(),  # RiTUAL-UH, Binary
    "four_tasks": Variant(image=("audio", "text")),  # RiTUAL-UH, Multi-Task
    "pretraining": Variant(text=("audio", "image"), audio=("text", "image")),  # RiTUAL-UH, Hybrid-Pretraining
    "curriculum": Variant(text_mask="left"),  # cullena20 (main) and raosukruth
    "curriculum_branch": Variant(image=("audio", "text"), restarts=frozenset({"image"})),  # cullena20, branch cullen
}


class Padded(NamedTuple):
    """What the model reads: always padded to the same lengths. Masks are integers, 1 = real."""

    tokens: Tensor  # [B, 500]
    token_mask: Tensor
    image: Tensor  # [B, 36, 1024]
    image_mask: Tensor
    audio: Tensor  # [B, 63, 128]
    audio_mask: Tensor


class Lengths(NamedTuple):
    """To how many rows everything is padded or cut; ten rows of each kind in the matching pretraining."""

    tokens: int = 500
    image: int = 36
    audio: int = 63


def pad(
    texts: Sequence[Sequence[int]],
    images: Sequence[Array | None],
    audios: Sequence[Array | None],
    *,
    variant: Variant,
    image_dim: int = 1024,
    audio_dim: int = 128,
    lengths: Lengths = Lengths(),  # noqa: B008 (a tuple of numbers)
) -> Padded:
    """Token ids and feature rows of each clip as the public code pads them.

    Tokens stand at the right end, the first 500 where there are more; rows at the left end, the first 36 or 63. A missing
    video is zeros under a mask of zeros; a missing audio is one row of zeros that counts as real.
    """
    tokens = torch.zeros(len(texts), lengths.tokens, dtype=torch.long)
    token_mask = torch.zeros_like(tokens)
    for number, text in enumerate(texts):
        kept = list(text[: lengths.tokens])
        tokens[number, lengths.tokens - len(kept) :] = torch.tensor(kept)
        marked = slice(lengths.tokens - len(kept), None) if variant.text_mask == "right" else slice(len(kept))
        token_mask[number, marked] = 1
    nothing, silence = np.zeros((0, image_dim)), np.zeros((1, audio_dim))
    image, image_mask = _stack([nothing if rows is None else rows for rows in images], lengths.image)
    audio, audio_mask = _stack([silence if rows is None else rows for rows in audios], lengths.audio)
    return Padded(tokens, token_mask, image, image_mask, audio, audio_mask)


def _stack(samples: Iterable[Array], length: int) -> tuple[Tensor, Tensor]:
    """Rows [T, D] of each sample cut to, or followed by zeros up to, `length`: [B, length, D], and the mask [B, length]."""
    rows, masks = [], []
    for sample in samples:
        kept = torch.as_tensor(sample[:length], dtype=torch.float32)
        rows.append(torch.cat([kept, kept.new_zeros(length - len(kept), kept.shape[1])]))
        masks.append((torch.arange(length) < len(kept)).long())
    return torch.stack(rows), torch.stack(masks)


class LegacyAttention(nn.Module):
    """Multi-head attention without an output projection; a mask of zeros is -10000 added to the scores."""

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, rows: Tensor, context: Tensor, added: Tensor) -> Tensor:
        """rows [B, T, d], context [B, S, d], added [B, 1, 1, S] -> [B, T, d]."""
        query, key, value = (
            rearrange(part, "b t (h e) -> b h t e", h=self.heads)
            for part in (self.query(rows), self.key(context), self.value(context))
        )
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5 + added  # [B, h, T, S]
        mixed: Tensor = self.dropout(scores.softmax(dim=3)) @ value
        return rearrange(mixed, "b h t e -> b t (h e)")


class LegacyPooling(nn.Module):
    """exp(v . tanh(u h)) over its sum over all rows, padding too: exponents above 88 are infinite, and the result NaN."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.u, self.v = nn.Linear(dim, dim), nn.Parameter(torch.rand(dim))

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """rows [B, T, d], mask [B, T] or [T], 1 = counts -> [B, d]."""
        weights: Tensor = mask * (self.u(rows).tanh() @ self.v).exp() + 1e-10  # [B, T]
        weights = mask * (weights / weights.sum(dim=-1, keepdim=True))
        return (rows * weights[..., None]).sum(dim=1)


class HiccapLegacy(nn.Module):
    """Padded clips to a probability of (no, yes) for each task, [B, 2].

    `bert` is a transformers BERT of width `dim`. `probabilities` applies the softmax that the public code has inside the
    model; the losses there are binary cross-entropies of its result. Evaluation is theirs to float rounding; in training
    some of them draw a dropout mask anew wherever the rows of a modality are read, and here they are drawn once.
    """

    def __init__(
        self,
        *,
        bert: nn.Module,
        tasks: Sequence[str],
        variant: Variant,
        dim: int = 768,
        hidden: int = 512,
        heads: int = 12,
        image_dim: int = 1024,
        audio_dim: int = 128,
        head_widths: Sequence[int] = (200, 40, 20),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.variant, self.bert = variant, bert
        self.rnn_img = nn.LSTM(image_dim, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.rnn_audio = nn.LSTM(audio_dim, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.rnn_img_drop_norm = nn.Sequential(nn.Dropout(dropout), nn.LayerNorm(2 * hidden))
        self.rnn_audio_drop_norm = nn.Sequential(nn.Dropout(dropout), nn.LayerNorm(2 * hidden))
        self.sequential_image, self.sequential_audio = (
            nn.Sequential(nn.Linear(2 * hidden, dim), nn.LayerNorm(dim), nn.Dropout(0.3)) for _ in range(2)
        )
        for _, attention, pooling in _PARTS:
            setattr(self, attention, LegacyAttention(dim=dim, heads=heads))
            setattr(self, pooling, LegacyPooling(dim=dim))
            for norm in (f"{attention}_drop_norm1", f"{attention}_drop_norm2", f"{pooling}_drop_norm"):
                setattr(self, norm, nn.Sequential(nn.Dropout(dropout), nn.LayerNorm(dim)))
        self.heads = nn.ModuleDict({task: _head(3 * dim, head_widths) for task in tasks})

    def forward(self, batch: Padded) -> dict[str, Tensor]:
        """Logits [B, 2] by task: the public models return `probabilities` of them."""
        joint = self.joint(batch)
        return {task: head(joint) for task, head in self.heads.items()}

    def joint(self, batch: Padded) -> Tensor:
        """[B, 3 d]: text, audio, image."""
        masks: dict[Context, Tensor] = {"text": batch.token_mask, "audio": batch.audio_mask, "image": batch.image_mask}
        own: dict[Context, Tensor] = {name: self.encode(name, batch) for name in masks}
        parts = []
        for name, attention, pooling in _PARTS:
            rows = own[name]
            contexts: tuple[Context, Context] = getattr(self.variant, name)
            for place, other in enumerate(contexts, start=1):
                start = own[name] if place == 2 and name in self.variant.restarts else rows
                rows = self.read(f"{attention}_drop_norm{place}", attention, start, own[other], masks[other])
            parts.append(self.pool(pooling, rows + own[name], masks[name]))
        return torch.cat(parts, dim=1)

    def encode(self, name: Context, batch: Padded) -> Tensor:
        """Rows [B, T, d] of one modality: neither BERT nor the LSTMs are told what is padding."""
        if name == "text":
            hidden: Tensor = self.bert(input_ids=batch.tokens).last_hidden_state
            return hidden
        rows, place = (batch.image, "img") if name == "image" else (batch.audio, "audio")
        states: Tensor = getattr(self, f"rnn_{place}")(rows)[0]
        states = getattr(self, f"rnn_{place}_drop_norm")(states)
        projected: Tensor = getattr(self, f"sequential_{name}")(states)
        return projected

    def read(self, norm: str, attention: str, rows: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """[B, T, d]: the rows read another modality; a mask of nothing but zeros hides nothing."""
        added = (1.0 - mask.to(context.dtype))[:, None, None] * -10000.0  # [B, 1, 1, S]
        found: Tensor = getattr(self, norm)(getattr(self, attention)(rows, context, added))
        return found

    def pool(self, pooling: str, rows: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 (it is not asked)
        """[B, d]: over all rows, padding too."""
        pooled: Tensor = getattr(self, f"{pooling}_drop_norm")(getattr(self, pooling)(rows, torch.ones_like(rows[..., 0])))
        return pooled


def probabilities(logits: Tensor) -> Tensor:
    """[B, 2] -> [B, 2], (no, yes)."""
    return logits.softmax(dim=1)


def _head(input_dim: int, widths: Sequence[int]) -> nn.Sequential:
    """Linear maps with batch norms and dropouts between, and not one activation: an affine map in evaluation."""
    first, second, third = widths
    return nn.Sequential(
        *(nn.Linear(input_dim, first), nn.BatchNorm1d(first), nn.Dropout(0.3)),
        *(nn.Linear(first, second), nn.BatchNorm1d(second), nn.Dropout(0.3)),
        *(nn.Linear(second, third), nn.Linear(third, 2)),
    )
