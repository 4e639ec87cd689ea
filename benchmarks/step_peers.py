"""Those that bench_step measures mmtrain beside: HICCAP as a good user of Hugging Face writes it, and as its authors did."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from transformers import BertModel

from benchmarks.step_samples import RATE, Clip, Size
from mmtrain.models.hiccap_legacy import VARIANTS, HiccapLegacy, Padded, pad


class Attention(nn.Module):
    """Multi-head attention by torch's own kernel."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, rows: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        parts = (self.query(rows), self.key(context), self.value(context))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        dropout = 0.1 if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None], dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


class Lstm(nn.Module):
    """Rows [B, T, D] through packed bidirectional layers to [B, T, dim]."""

    def __init__(self, width: int, size: Size) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, size.hidden, num_layers=2, bidirectional=True, batch_first=True)
        wide = 2 * size.hidden
        self.behind = nn.Sequential(
            nn.Dropout(0.2), nn.LayerNorm(wide), nn.Linear(wide, size.dim), nn.LayerNorm(size.dim), nn.Dropout(0.3)
        )

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        packed = pack_padded_sequence(rows, mask.sum(dim=1), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=rows.shape[1])
        return self.behind(states)


class Reader(nn.Module):
    """One modality reads two others, and is pooled by attention."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention = Attention(size.dim, size.heads)
        self.norms = nn.ModuleList(nn.Sequential(nn.Dropout(0.2), nn.LayerNorm(size.dim)) for _ in range(3))
        self.hidden, self.context = nn.Linear(size.dim, size.dim), nn.Linear(size.dim, 1, bias=False)

    def forward(self, own: Tensor, mask: Tensor, others: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        rows = own
        for norm, (context, context_mask) in zip(self.norms, others, strict=False):
            rows = norm(self.attention(rows, context, context_mask))
        rows = rows + own
        scores = self.context(self.hidden(rows).tanh())[..., 0].masked_fill(~mask, -torch.inf)
        return self.norms[2]((scores.softmax(dim=1)[:, None] @ rows)[:, 0])


class Peer:
    """BertModel with scaled_dot_product_attention, batches padded to their longest, fused AdamW."""

    def __init__(self, size: Size, tasks: int) -> None:
        self.model = nn.ModuleDict(
            {
                "bert": BertModel._from_config(size.bert(), attn_implementation="sdpa", add_pooling_layer=False),
                "video": Lstm(1024, size),
                "audio": Lstm(128, size),
                "readers": nn.ModuleList(Reader(size) for _ in range(3)),
                "heads": nn.ModuleList(head(3 * size.dim, 1) for _ in range(tasks)),
            }
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, fused=True)
        self.model.train()

    def train(self, clips: Sequence[Clip]) -> None:
        self.optimizer.zero_grad()
        logits, labels = self.logits(clips), torch.tensor([clip.labels for clip in clips])
        loss = sum(
            functional.binary_cross_entropy_with_logits(found, labels[:, number]) for number, found in enumerate(logits)
        )
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    @torch.inference_mode()
    def evaluate(self, clips: Sequence[Clip], size: int) -> None:
        """Like lengths together, as a good user does it."""
        self.model.eval()
        order = sorted(clips, key=lambda clip: -len(clip.ids))
        for start in range(0, len(order), size):
            self.logits(order[start : start + size])
        self.model.train()

    def logits(self, clips: Sequence[Clip]) -> list[Tensor]:
        ids, text_mask = stacked([torch.tensor(clip.ids) for clip in clips])
        video, video_mask = stacked([torch.from_numpy(clip.video) for clip in clips])
        audio, audio_mask = stacked([torch.from_numpy(clip.audio) for clip in clips])
        text = (self.model["bert"](input_ids=ids, attention_mask=text_mask.long()).last_hidden_state, text_mask)
        video = (self.model["video"](video, video_mask), video_mask)
        audio = (self.model["audio"](audio, audio_mask), audio_mask)
        contexts = ((text, (video, audio)), (audio, (video, text)), (video, (text, audio)))
        pooled = [reader(*own, others) for reader, (own, others) in zip(self.model["readers"], contexts, strict=True)]
        joint = torch.cat(pooled, dim=1)
        return [head(joint)[:, 0] for head in self.model["heads"]]


class Predecessor:
    """The public code: everything padded to 500 tokens, eager attention, all hidden states kept, AdamW as by default."""

    def __init__(self, size: Size, tasks: int) -> None:
        bert = size.bert()
        bert.output_hidden_states = True
        encoder = BertModel._from_config(bert, attn_implementation="eager", add_pooling_layer=False)
        names = [f"task{number}" for number in range(tasks)]
        self.model = HiccapLegacy(
            bert=encoder,
            tasks=names,
            variant=VARIANTS["binary"],
            dim=size.dim,
            hidden=size.hidden,
            heads=size.heads,
        ).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)

    def train(self, clips: Sequence[Clip]) -> None:
        self.optimizer.zero_grad()
        self._losses(clips, range(len(self.model.heads))).sum().backward()
        self.optimizer.step()

    def train_in_turn(self, clips: Sequence[Clip]) -> None:
        """A step for each task, one after the other: what its authors' round robin needs for the labels of one step."""
        for task in range(len(self.model.heads)):
            self.optimizer.zero_grad()
            self._losses(clips, [task]).sum().backward()
            self.optimizer.step()

    def train_by_backwards(self, clips: Sequence[Clip]) -> None:
        """One forward pass, and a backward pass for each task."""
        self.optimizer.zero_grad()
        losses = self._losses(clips, range(len(self.model.heads)))
        for loss in losses:
            loss.backward(retain_graph=True)
        self.optimizer.step()

    @torch.inference_mode()
    def evaluate(self, clips: Sequence[Clip], size: int) -> None:
        self.model.eval()
        for start in range(0, len(clips), size):
            self.model(padded(clips[start : start + size]))
        self.model.train()

    def _losses(self, clips: Sequence[Clip], tasks: Sequence[int]) -> Tensor:
        joint, labels = self.model.joint(padded(clips)), torch.tensor([clip.labels for clip in clips])
        heads = list(self.model.heads.values())
        found = []
        for task in tasks:
            both = torch.stack([1 - labels[:, task], labels[:, task]], dim=1)
            found.append(functional.binary_cross_entropy(heads[task](joint).softmax(dim=1), both))
        return torch.stack(found)


def head(width: int, outputs: int) -> nn.Sequential:
    """The heads of configs/hiccap."""
    return nn.Sequential(
        *(nn.Linear(width, 200), nn.BatchNorm1d(200), nn.Dropout(0.3)),
        *(nn.Linear(200, 40), nn.BatchNorm1d(40), nn.Dropout(0.3)),
        *(nn.Linear(40, 20), nn.Linear(20, outputs)),
    )


def stacked(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[B, T, ...] padded to the longest, and the mask [B, T]."""
    lengths = torch.tensor([len(part) for part in rows])
    return pad_sequence(list(rows), batch_first=True), torch.arange(int(lengths.max())) < lengths[:, None]


def padded(clips: Sequence[Clip]) -> Padded:
    return pad(
        [clip.ids for clip in clips],
        [clip.video for clip in clips],
        [clip.audio for clip in clips],
        variant=VARIANTS["binary"],
    )
