"""Token ids through any Hugging Face text encoder, wholly trained, frozen, or trained at the top."""

import inspect
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
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
from mmtrain.models.encoders.lora import LoraConfig
from mmtrain.models.encoders.packed import let_pack, packed_states
from mmtrain.models.masks import blank, with_one_visible
from mmtrain.section import Section


class TextEncoderSection(Section):
    """What every text encoder's config has: which one, how much of it is trained, how long texts may be."""

    name: str
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
    lora: LoraConfig | None = Field(default=None, description="Adapters that are trained in place of the encoder's weights.")
    cache: bool = Field(
        default=False, description="Read what the frozen encoder makes of each text from the folder `cache`, made once."
    )

    @model_validator(mode="after")
    def _one_choice_of_what_is_trained(self) -> Self:
        if self.lora is not None and self.trainable_layers is not None:
            raise ValueError(f"lora: trainable_layers is {self.trainable_layers}; write null for one of them")
        return self

    @model_validator(mode="after")
    def _only_what_stands_still_is_cached(self) -> Self:
        if self.cache and self.lora is not None:
            raise ValueError("cache: lora changes what the encoder makes of a text; write cache: false, or lora: null")
        if self.cache and self.trainable_layers != 0:
            layers = "null (all)" if self.trainable_layers is None else self.trainable_layers
            raise ValueError(
                f"cache: only what a frozen encoder makes of a text stays as it is, and trainable_layers is {layers}; write "
                "trainable_layers: 0, or cache: false"
            )
        return self

    def load(self) -> Any:
        """Errors: ConfigError where the encoder cannot be loaded, is too short for max_tokens or has too few layers."""
        encoder = load_encoder(self.path, weights=self.weights, dropout=self.dropout)
        limit = position_limit(encoder)
        if limit is not None and self.max_tokens > limit:
            raise ConfigError(f"text.max_tokens is {self.max_tokens}, but '{self.path}' reads at most {limit} tokens")
        if self.gradient_checkpointing:
            checkpoint_layers(encoder, self.path)
        if self.lora is not None:
            self.lora.attach(encoder)
        return encoder

    def projected(self, encoder: Any, dim: int) -> nn.Module:
        """What brings the encoder's rows to `dim`. Errors: ConfigError where nothing should and they have another width."""
        width = encoder.config.hidden_size
        if self.projection:
            return nn.Linear(width, dim)
        if width != dim:
            raise ConfigError(
                f"text.projection is false, but rows of '{self.path}' are {width} wide and model.dim is {dim}; write "
                f"model.dim: {width}, or projection: true"
            )
        return nn.Identity()

    def build_tokenizer(self) -> Tokenizer:
        return Tokenizer(load_tokenizer(self.path), max_tokens=self.max_tokens, truncation_side=self.truncation_side)


class TransformersTextConfig(TextEncoderSection):
    """A Hugging Face encoder by name or folder, token by token."""

    name: Literal["transformers"] = "transformers"

    def build(self, *, dim: int) -> nn.Module:
        """Errors: as of every text encoder."""
        encoder = self.load()
        return TransformersText(
            encoder=encoder, projection=self.projected(encoder, dim), trainable_layers=self.trainable_layers
        )


class HubText(nn.Module):
    """Token ids [B, T] to the encoder's last hidden states, or these, as they were cached, to themselves.

    `encoder`: a transformers model whose first output is its last hidden state.
    """

    def __init__(self, *, encoder: Any, trainable_layers: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.is_frozen = trainable_layers == 0
        self.has_global_attention = "global_attention_mask" in inspect.signature(encoder.forward).parameters
        self.pad_id = int(encoder.config.pad_token_id or 0)
        self.packs = let_pack(encoder)
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler.requires_grad_(False)  # never called
        if trainable_layers is not None:
            _freeze_below(encoder, trainable_layers)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self

    def cacheable(self, sequence: MaskedSequence) -> MaskedSequence:
        """What is kept of token ids [B, T] where the encoder is not to read them again: [B, T, hidden size]."""
        return MaskedSequence(self.states(sequence), sequence.mask)

    def states(self, sequence: MaskedSequence) -> Tensor:
        """[B, T, hidden size], zeros under the mask. Where they are given in the place of token ids, as they are."""
        if sequence.values.is_floating_point():
            return blank(sequence.values, sequence.mask)
        ids = torch.where(sequence.mask, sequence.values, self.pad_id)
        visible = with_one_visible(sequence.mask)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            if self.packs and ids.device.type == "cpu" and not torch.compiler.is_compiling():
                return blank(packed_states(self.encoder, ids, visible, pad_id=self.pad_id), sequence.mask)
            hidden: Tensor = self.encoder(input_ids=ids, attention_mask=visible.long(), **self._options(ids))[0]
        return blank(hidden, sequence.mask)

    def _options(self, ids: Tensor) -> dict[str, Tensor]:
        """Where attention is local, the first token sees all and is seen by all (Beltagy et al. 2020, section 3.1)."""
        if not self.has_global_attention:
            return {}
        first = torch.zeros_like(ids)
        first[:, 0] = 1
        return {"global_attention_mask": first}


class TransformersText(HubText):
    """Token ids [B, T] to [B, T, d]: the last hidden states through `projection`, zeros under the mask."""

    def __init__(self, *, encoder: Any, projection: nn.Module, trainable_layers: int | None) -> None:
        super().__init__(encoder=encoder, trainable_layers=trainable_layers)
        self.projection = projection

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        return MaskedSequence(blank(self.projection(self.states(sequence)), sequence.mask), sequence.mask)


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
