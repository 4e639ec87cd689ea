"""HICCAP's checkpoints: the public naming schemes, and where each weight stands in the model of configs/hiccap."""

import re
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mmtrain.data.schema import TEXT
from mmtrain.foreign_weights.conversion import Shapes, Tensors
from mmtrain.models.hiccap_legacy import VARIANTS, HiccapLegacy
from mmtrain.models.naming import module_key

TASKS = ("binary", "mature", "gory", "slapstick", "sarcasm")
# the places of the list that the paper's code keeps its parts in
_FEATURES = (
    *("bert", "rnn_img", "rnn_img_drop_norm", "rnn_audio", "rnn_audio_drop_norm", "sequential_audio", "sequential_image"),
    *("att1", "att1_drop_norm1", "att1_drop_norm2", "att2", "att2_drop_norm1", "att2_drop_norm2"),
    *("att3", "att3_drop_norm1", "att3_drop_norm2", "attention", "attention_drop_norm"),
    *("attention_audio", "attention_audio_drop_norm", "attention_image", "attention_image_drop_norm"),
)
# what wraps a model: DataParallel, and the models that curriculum studies put around it
_WRAPPERS = re.compile(r"^(?:(?:module|base_model|feature_encoding|hca)\.)+")
_HEADS = (
    re.compile(
        r"^(?:task_heads\.(?P<outer>\w+)\.)?(?:img_audio_text|text_audio_image)_linear(?:_(?P<task>\w+))?\.(?P<rest>\d+\..+)$"
    ),
    re.compile(rf"^(?:(?P<task>{'|'.join(TASKS)})\.)?binary\.(?P<rest>\d+\..+)$"),
)
_LEFT_OUT = (
    (r"bert\.pooler\.", "never called"),
    (r"sequential\.", "never called"),
    (r"bert\.embeddings\.(?:position_ids|token_type_ids)$", "a list of numbers, no weight"),
    (r"(?:TAM|ITM|IAM)_linear\.", "heads of the matching pretraining"),
    (r"g_CL\.", "the head of the contrastive pretraining"),
    (r"loss_weights$", "weights of losses, not of the model"),
)
_HEAD_PARTS = {"0": "layers.0", "1": "norms.0", "3": "layers.1", "4": "norms.1", "6": "layers.2", "7": "output"}


def _rules() -> Iterator[tuple[str, str]]:
    """Patterns of legacy names, and what stands for them in our model."""
    yield r"bert\.(.+)", r"text.encoder.\1"
    for rnn, projection, modality in (("rnn_img", "sequential_image", "video"), ("rnn_audio", "sequential_audio", "audio")):
        encoder = f"sequences.{module_key(modality, 'encoder')}"
        yield rf"{rnn}\.(\w+_[ih]h)_l(\d+)", rf"{encoder}.forwards.\2.\1_l0"  # each direction is a network of its own here
        yield rf"{rnn}\.(\w+_[ih]h)_l(\d+)_reverse", rf"{encoder}.backwards.\2.\1_l0"
        yield rf"{rnn}_drop_norm\.1\.(.+)", rf"{encoder}.norm.\1"
        yield rf"{projection}\.0\.(.+)", rf"{encoder}.projection.\1"
        yield rf"{projection}\.1\.(.+)", rf"{encoder}.output_norm.\1"
    for attention, pooling, modality in (
        ("att1", "attention", TEXT),
        ("att2", "attention_audio", "audio"),
        ("att3", "attention_image", "video"),
    ):
        reader = f"fusion.readers.{module_key(modality, 'reader')}"
        yield rf"{attention}\.(.+)", rf"{reader}.attention.\1"
        for place in (1, 2):
            yield rf"{attention}_drop_norm{place}\.1\.(.+)", rf"{reader}.norms.{place - 1}.\1"
        yield rf"{pooling}\.u\.(.+)", rf"{reader}.pooling.hidden.\1"
        yield rf"{pooling}\.v", f"{reader}.pooling.context.weight"
        yield rf"{pooling}_drop_norm\.1\.(.+)", rf"{reader}.pooled_norm.\1"
    for task in TASKS:
        for slot, part in _HEAD_PARTS.items():
            yield rf"heads\.{task}\.{slot}\.(.+)", rf"heads.{module_key(task, 'head')}.{part}.\1"


_RULES = tuple((re.compile(pattern), replacement) for pattern, replacement in _rules())


def paper_model(tasks: Sequence[str]) -> HiccapLegacy:
    """The paper's sizes, without memory: bert-base-uncased has a BertConfig's usual numbers."""
    from transformers import BertConfig, BertModel  # slow to import

    with torch.device("meta"):
        return HiccapLegacy(bert=BertModel(BertConfig(), add_pooling_layer=False), tasks=tasks, variant=VARIANTS["binary"])


class HiccapScheme:
    """Names of RiTUAL-UH/Comic-Mischief-Prediction, cullena20/IRESComicMischief and raosukruth/IRES-Comic-Mischief.

    `build` makes the legacy model, for any tasks, whose names and shapes a file must have: the paper's unless given.
    """

    def __init__(self, build: Callable[[Sequence[str]], HiccapLegacy] | None = None) -> None:
        self._build = build or paper_model

    def legacy_name(self, name: str) -> str | None:
        name = self._plain(name)
        if self._reason(name) is not None:
            return None
        for pattern in _HEADS:
            found = pattern.match(name)
            if found:
                parts = found.groupdict()
                return f"heads.{parts['task'] or parts.get('outer') or 'binary'}.{parts['rest']}"
        return name if name.split(".")[0] in _FEATURES else None

    def left_out(self, name: str) -> str | None:
        return self._reason(self._plain(name))

    def shapes(self, names: Sequence[str]) -> Shapes:
        tasks = [task for task in TASKS if any(name.startswith(f"heads.{task}.") for name in names)]
        return {name: tuple(value.shape) for name, value in self._build(tasks).state_dict().items()}

    def ours(self, tensors: Tensors) -> Tensors:
        """The two outputs of a head become one: softmax(a, b)[1] is the sigmoid of b - a."""
        return {_our_name(name): _reshaped(name, tensor) for name, tensor in tensors.items()}

    def hint(self) -> str:
        return "bert.*, rnn_audio.*, att1.query.* (flat) or features.0.*, features.7.query.* (the list of the paper's code)"

    def _plain(self, name: str) -> str:
        """Without wrappers, and with the name that belongs to a place in the list."""
        name = _WRAPPERS.sub("", name)
        place = re.match(r"features\.(\d+)\.(.+)", name)
        if place and int(place[1]) < len(_FEATURES):
            return f"{_FEATURES[int(place[1])]}.{place[2]}"
        return name

    def _reason(self, name: str) -> str | None:
        return next((reason for pattern, reason in _LEFT_OUT if re.match(pattern, name)), None)


def _reshaped(name: str, tensor: Tensor) -> Tensor:
    """A pooling's vector is a matrix of one row here, and a head has one output."""
    if name.startswith("attention") and name.endswith(".v"):
        return tensor[None]  # [1, d]
    if re.fullmatch(r"heads\.\w+\.7\.(weight|bias)", name):
        return tensor[1:] - tensor[:1]  # [1, ...]
    return tensor


def _our_name(name: str) -> str:
    """The one rule that fits a legacy name, applied."""
    return next(found.expand(replacement) for pattern, replacement in _RULES if (found := pattern.fullmatch(name)))
