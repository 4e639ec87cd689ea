"""Token ids through any Hugging Face text encoder, wholly trained, frozen, or trained at the top."""

import inspect
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.hub import (
    checkpoint_layers,
    load_encoder,
    load_tokenizer,
    position_limit,
    transformer_layers,
)
from mmtrain.models.masks import blank, with_one_visible
from mmtrain.section import Section


class TransformersTextConfig(Section):
    """A Hugging Face encoder by name or folder."""

    name: Literal["transformers"] = "transformers"
    path: str = Field(min_length=1, description="A Hugging Face name, or a folder with config.json, tokenizer and weights.")
    weights: Literal["pretrained", "random"] = Field(
        default="pretrained", description="random: the architecture of config.json, no weights read."
    )
    trainable_layers: int | None = Field(
        default=None,
        ge=0,
        description="null: all of it is trained. n: the top n layers are, all else is frozen. 0: frozen, dropout off.",
    )
    max_tokens: int = Field(default=128, ge=3, description="Longest text in tokens, special tokens included.")
    truncation_side: Literal["left", "right"] = Field(default="right", description="The side that longer texts lose.")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="A probability; null keeps the encoder's own.")
    projection: bool = Field(
        default=True, description="A linear map behind the encoder. false: its rows as they are, so as wide as model.dim."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute the layers a second time in the backward pass instead of keeping their insides."
    )

    def build(self, *, dim: int) -> nn.Module:
        """Errors: ConfigError where the encoder cannot be loaded, is too short for max_tokens, has too few layers, or has
        another width than `dim` and no projection.
        """
        encoder = load_encoder(self.path, weights=self.weights, dropout=self.dropout)
        limit = position_limit(encoder)
        if limit is not None and self.max_tokens > limit:
            raise ConfigError(f"text.max_tokens is {self.max_tokens}, but '{self.path}' reads at most {limit} tokens")
        width = encoder.config.hidden_size
        if not self.projection and width != dim:
            raise ConfigError(
                f"text.projection is false, but rows of '{self.path}' are {width} wide and model.dim is {dim}; write "
                f"model.dim: {width}, or projection: true"
            )
        if self.gradient_checkpointing:
            checkpoint_layers(encoder, self.path)
        return TransformersText(
            encoder=encoder, dim=dim if self.projection else None, trainable_layers=self.trainable_layers
        )

    def build_tokenizer(self) -> Tokenizer:
        return Tokenizer(load_tokenizer(self.path), max_tokens=self.max_tokens, truncation_side=self.truncation_side)


class TransformersText(nn.Module):
    """Token ids [B, T] to [B, T, dim]: the encoder's last hidden states through a linear map, zeros under the mask.

    `encoder`: a transformers model whose first output is its last hidden state. `dim` None: its rows as they are.
    """

    def __init__(self, *, encoder: Any, dim: int | None, trainable_layers: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.is_frozen = trainable_layers == 0
        self.has_global_attention = "global_attention_mask" in inspect.signature(encoder.forward).parameters
        self.pad_id = int(encoder.config.pad_token_id or 0)
        self.projection = nn.Identity() if dim is None else nn.Linear(encoder.config.hidden_size, dim)
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler.requires_grad_(False)  # never called
        if trainable_layers is not None:
            _freeze_below(encoder, trainable_layers)

    def train(self, mode: bool = True) -> "TransformersText":
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        ids = torch.where(sequence.mask, sequence.values, self.pad_id)
        visible = with_one_visible(sequence.mask).long()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            hidden: Tensor = self.encoder(input_ids=ids, attention_mask=visible, **self._options(ids))[
                0
            ]  # [B, T, hidden size]
        rows = self.projection(blank(hidden, sequence.mask))
        return MaskedSequence(blank(rows, sequence.mask), sequence.mask)

    def _options(self, ids: Tensor) -> dict[str, Tensor]:
        """Where attention is local, the first token sees all and is seen by all (Beltagy et al. 2020, section 3.1)."""
        if not self.has_global_attention:
            return {}
        first = torch.zeros_like(ids)
        first[:, 0] = 1
        return {"global_attention_mask": first}


def _freeze_below(encoder: Any, trainable_layers: int) -> None:
    """Freeze all but the top layers, also what all layers share: training that would pull the graph to the bottom."""
    encoder.requires_grad_(False)
    if trainable_layers == 0:
        return
    layers, kind = transformer_layers(encoder), encoder.config.model_type
    if layers is None:
        raise ConfigError(f"text.trainable_layers: {kind} encoders have no separate layers; write null or 0")
    if trainable_layers > len(layers):
        raise ConfigError(f"text.trainable_layers is {trainable_layers}, but this {kind} encoder has {len(layers)} layers")
    layers[-trainable_layers:].requires_grad_(True)
