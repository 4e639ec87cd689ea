"""Loading a Hugging Face text encoder or tokenizer, with errors a person can act on and no noise."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mmtrain.errors import ConfigError
from mmtrain.extras import quiet_import

# said outright: asked nothing, transformers asks on the terminal whether the folder's own code may run
_OWN_CODE = {"trust_remote_code": False}
# what the BERT family calls its dropout probabilities
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
)


def load_config(path: str) -> Any:
    """The transformers config of a name or folder.

    Errors: ConfigError saying what the folder holds, or that the name cannot be had; also for an encoder-decoder.
    """
    folder = Path(path).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        files = sorted(item.name for item in folder.iterdir())
        found = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "") if files else "nothing"
        raise ConfigError(f"text.path: folder {folder} is not a Hugging Face model: no config.json in it (found: {found})")
    if folder.is_file():
        raise ConfigError(f"text.path: {folder} is a file; write the folder that holds it, beside its config.json")
    if not folder.exists() and (folder.is_absolute() or (len(folder.parts) > 1 and folder.parent.is_dir())):
        raise ConfigError(f"model.text.path: there is no folder {folder}; write the folder of a model, or a name on the hub")
    from transformers import AutoConfig  # slow to import

    with _quiet("config", path):
        config = AutoConfig.from_pretrained(_name(path), **_OWN_CODE)
    if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "hidden_size"):
        raise ConfigError(f"text.path: '{path}' is a {config.model_type} model, not a text encoder (BERT and its family)")
    return config


def load_encoder(path: str, *, weights: Literal["pretrained", "random"], dropout: float | None) -> Any:
    """The encoder in float32, without the pooling layer that nothing here would train; `dropout` None keeps its own.

    Errors: ConfigError where it cannot be loaded, or some of its weights are not in its file.
    """
    from transformers import MODEL_MAPPING, AutoModel  # slow to import

    config = load_config(path)
    for name in _DROPOUTS if dropout is not None else ():
        if isinstance(getattr(config, name, None), int | float):
            setattr(config, name, dropout)
    with quiet_import():  # transformers imports torchao, where it is installed
        takes = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    options = {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}
    with _quiet("weights", path):
        if weights == "random":
            return AutoModel.from_config(config, dtype=torch.float32, **_OWN_CODE, **options)
        encoder, report = AutoModel.from_pretrained(
            _name(path),
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **_OWN_CODE,
            **options,
        )
    faults = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    faults = {name for name in faults if not name.startswith("pooler.")}
    if faults:
        raise ConfigError(
            f"text.path: the weights of '{path}' are not those of the {config.model_type} encoder that its config.json "
            f"describes: {len(faults)} tensors are missing or of another shape (first: {min(faults)})"
        )
    return encoder.eval()


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a name or folder. Errors: ConfigError where there is none or it does not fit the encoder."""
    config = load_config(path)
    from transformers import AutoTokenizer  # slow to import

    with _quiet("tokenizer", path):
        tokenizer = AutoTokenizer.from_pretrained(_name(path), **_OWN_CODE)
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"text.path: the tokenizer of '{path}' has {len(tokenizer)} tokens, its encoder knows {config.vocab_size}"
        )
    return tokenizer


def position_limit(encoder: Any) -> int | None:
    """The longest text in tokens, special tokens included; None where positions are unlimited.

    RoBERTa and MPNet count positions from behind the padding token's, so their tables are longer than their limit.
    """
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    limit = getattr(encoder.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def transformer_layers(encoder: Any) -> nn.ModuleList | None:
    """The encoder's layers from bottom to top; None where they are not a plain list (ALBERT shares one)."""
    count = encoder.config.num_hidden_layers
    lists = (module for module in encoder.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    return next(lists, None)


def checkpoint_layers(encoder: Any, path: str) -> None:
    """Let the encoder's layers keep their inputs alone for the backward pass, random states included.

    Errors: ConfigError where the library cannot do that to this encoder.
    """
    if not getattr(encoder, "supports_gradient_checkpointing", False):
        kind = encoder.config.model_type
        raise ConfigError(f"text.gradient_checkpointing: {kind} encoders such as '{path}' do not support it; write false")
    enable = (
        getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
    )  # as older versions call it
    enable({"use_reentrant": False})
    encoder.config.use_cache = False  # else the library says in each run that it cannot do both


def _name(path: str) -> str:
    folder = Path(path).expanduser()
    return str(folder) if folder.is_dir() else path


@contextmanager
def _quiet(what: str, path: str) -> Iterator[None]:
    """No progress bars or load reports inside (missing weights are our own error), and errors in our words."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # a damaged or hostile file makes these libraries raise anything
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"text.path: the {what} of '{path}' cannot be loaded as a Hugging Face text encoder's: {first} "
            "Write a folder with config.json, tokenizer and weights, or a name that can be downloaded from here"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
