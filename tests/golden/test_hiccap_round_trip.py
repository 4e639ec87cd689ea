"""Predecessors' weights in every public naming give the same numbers in our model, wherever their faults have no say."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.hiccap_quirks import PAPERS, Quirky, draw_clips, prepare
from mmtrain.config import load_experiment
from mmtrain.data.batch import MaskedSequence
from mmtrain.foreign_weights.conversion import convert
from mmtrain.foreign_weights.hiccap import HiccapScheme
from mmtrain.models.building import build_model
from mmtrain.models.hiccap_legacy import VARIANTS, HiccapLegacy, Lengths, Padded, pad, probabilities
from mmtrain.models.model import MultimodalModel

CONFIGS = Path(__file__).parents[2] / "configs" / "hiccap"
FOUR = ("mature", "gory", "slapstick", "sarcasm")
TASKS = {"binary.yaml": ("binary",), "four_tasks.yaml": FOUR}
LENGTHS, IMAGE, AUDIO = Lengths(tokens=9, image=5, audio=7), 6, 4
SIZES = {"dim": 32, "hidden": 5, "heads": 4, "image_dim": IMAGE, "audio_dim": AUDIO}
# the list of RiTUAL-UH's models, in its order, as the flat attributes of cullena20's
LIST = [
    *("bert", "rnn_img", "rnn_img_drop_norm", "rnn_audio", "rnn_audio_drop_norm", "sequential_audio", "sequential_image"),
    *("att1", "att1_drop_norm1", "att1_drop_norm2", "att2", "att2_drop_norm1", "att2_drop_norm2"),
    *("att3", "att3_drop_norm1", "att3_drop_norm2", "attention", "attention_drop_norm"),
    *("attention_audio", "attention_audio_drop_norm", "attention_image", "attention_image_drop_norm"),
]
ENCODING = ("bert", "rnn_img", "rnn_img_drop_norm", "rnn_audio", "rnn_audio_drop_norm")  # raosukruth's FeatureEncoding


def as_list(name: str, parts: list[str]) -> str:
    if parts[0] == "heads":
        return ".".join(["img_audio_text_linear" + ("" if parts[1] == "binary" else f"_{parts[1]}"), *parts[2:]])
    return f"features.{LIST.index(parts[0])}.{name.partition('.')[2]}"


def as_attributes(name: str, parts: list[str]) -> str:
    if parts[0] == "heads":
        return ".".join(["task_heads", parts[1], "text_audio_image_linear", *parts[2:]])
    return f"base_model.{name}"


def as_modules(name: str, parts: list[str]) -> str:
    if parts[0] == "heads":
        return ".".join([*([] if parts[1] == "binary" else [parts[1]]), "binary", *parts[2:]])
    return f"{'feature_encoding' if parts[0] in ENCODING else 'hca'}.{name}"


Naming = Callable[[str, list[str]], str]
NAMINGS: Mapping[str, Naming] = {"list": as_list, "attributes": as_attributes, "modules": as_modules}


def legacy(variant: str, tasks: tuple[str, ...], bert: Path, kind: type[HiccapLegacy] = HiccapLegacy) -> HiccapLegacy:
    """Random weights, also where a fresh model has zeros and ones."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    encoder = BertModel(BertConfig.from_pretrained(bert), add_pooling_layer=False)
    model = kind(bert=encoder, tasks=tasks, variant=VARIANTS[variant], **SIZES).eval()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if "running_var" in name:
            value.data.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.data.add_(torch.randn_like(value) * 0.1)
    return model


def foreign(model: HiccapLegacy, naming: str = "list", prefix: str = "") -> dict[str, Tensor]:
    """The model's weights as a predecessor's state dict has them."""
    return {prefix + NAMINGS[naming](name, name.split(".")): value for name, value in model.state_dict().items()}


def scheme(bert: Path) -> HiccapScheme:
    return HiccapScheme(lambda tasks: legacy("binary", tuple(tasks), bert))


def ours(file: str, bert: Path, *changes: str) -> MultimodalModel:
    """The model of a config, small."""
    small = [f"model.text.path={bert}", "model.text.max_tokens=64", "model.dim=32", "model.fusion.heads=4"]
    small += [f"model.sequences.{name}.hidden=5" for name in ("audio", "video")]
    experiment = load_experiment(CONFIGS / file, [*small, *changes])
    tasks = TASKS[file]
    heads = {task: experiment.task(task).head for task in tasks}
    dims, outputs = {"audio": AUDIO, "video": IMAGE}, dict.fromkeys(tasks, 1)
    return build_model(experiment.model, dims=dims, outputs=outputs, heads=heads, scalar_tasks=tasks).eval()


def whole_clips(variant: str) -> Padded:
    """Nothing is padding: as many tokens and rows as everything is padded to."""
    draw = np.random.default_rng(0)
    texts = draw.integers(5, 60, (3, LENGTHS.tokens)).tolist()
    images, audios = draw.normal(size=(3, LENGTHS.image, IMAGE)), draw.normal(size=(3, LENGTHS.audio, AUDIO))
    batch = pad(texts, images, audios, variant=VARIANTS[variant], image_dim=IMAGE, audio_dim=AUDIO, lengths=LENGTHS)
    assert all(mask.all() for mask in (batch.token_mask, batch.image_mask, batch.audio_mask))
    return batch


def inputs(batch: Padded) -> dict[str, MaskedSequence]:
    return {
        "text": MaskedSequence(batch.tokens, batch.token_mask.bool()),
        "audio": MaskedSequence(batch.audio, batch.audio_mask.bool()),
        "video": MaskedSequence(batch.image, batch.image_mask.bool()),
    }


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("file", TASKS)
def test_converted_weights_give_the_same_numbers(file: str, naming: str, prefix: str, tiny_bert: Path) -> None:
    variant = file.removesuffix(".yaml")
    model = legacy(variant, TASKS[file], tiny_bert)
    theirs = foreign(model, naming, prefix)
    assert len(theirs) == len(model.state_dict())
    conversion = convert(theirs, scheme(tiny_bert), legacy=False, origin="f.pth")
    assert (conversion.left_out, conversion.unknown, conversion.missing) == ({}, (), ())
    mine, batch = ours(file, tiny_bert), whole_clips(variant)
    mine.load_state_dict(conversion.tensors)
    found, expected = mine(inputs(batch)), model(batch)
    torch.testing.assert_close(found.joint, model.joint(batch), atol=1e-5, rtol=0)
    for task in TASKS[file]:
        torch.testing.assert_close(found.logits[task].sigmoid(), probabilities(expected[task])[:, 1], atol=1e-5, rtol=0)
        assert found.logits[task].std() > 1e-2
    again = convert(theirs, scheme(tiny_bert), legacy=True, origin="f.pth").tensors
    torch.testing.assert_close(again, dict(model.state_dict()), atol=0, rtol=0)


@torch.no_grad()
def test_pretrained_weights_read_in_their_own_order(tiny_bert: Path) -> None:
    model, batch = legacy("pretraining", (), tiny_bert), whole_clips("pretraining")
    conversion = convert(foreign(model), scheme(tiny_bert), legacy=False, origin="f.pth")
    for order, is_same in (("[text,audio,video]", True), ("[video,text,audio]", False)):
        mine = ours("binary.yaml", tiny_bert, f"model.fusion.order={order}")
        left = mine.load_state_dict(conversion.tensors, strict=False)
        assert {name.split(".")[0] for name in left.missing_keys} == {"heads"}
        assert torch.allclose(mine(inputs(batch)).joint, model.joint(batch), atol=1e-5) == is_same


@torch.no_grad()
def test_the_legacy_model_with_every_fault_mended_is_ours(tiny_bert: Path) -> None:
    """On clips of all lengths, some without video, some without audio: the table of faults compares with our model."""
    model = legacy("binary", ("binary",), tiny_bert, Quirky)
    mine = ours("binary.yaml", tiny_bert)
    mine.load_state_dict(convert(foreign(model), scheme(tiny_bert), legacy=False, origin="f.pth").tensors)
    clips = draw_clips()
    clips = clips._replace(
        texts=[[5 + token % 50 for token in text[: 2 + 7 * number]] for number, text in enumerate(clips.texts)],
        images=[None if rows is None else rows[:, :IMAGE] for rows in clips.images],
        audios=[None if rows is None else rows[:, :AUDIO] for rows in clips.audios],
    )
    lengths = Lengths(tokens=64)
    batch = prepare(clips, frozenset(), image_dim=IMAGE, audio_dim=AUDIO, lengths=lengths)
    found, expected = mine(inputs(batch)), model.joint(batch)
    torch.testing.assert_close(found.joint, expected, atol=1e-5, rtol=0)
    for quirk in sorted(PAPERS):
        model.quirks = frozenset({quirk})
        moved = model.joint(prepare(clips, model.quirks, image_dim=IMAGE, audio_dim=AUDIO, lengths=lengths))
        assert (moved - expected).abs().max() > 1e-3, quirk
    plain = legacy("binary", ("binary",), tiny_bert)
    model.quirks = PAPERS
    batch = prepare(clips, PAPERS, image_dim=IMAGE, audio_dim=AUDIO, lengths=lengths)
    by_code = pad(*clips, variant=VARIANTS["binary"], image_dim=IMAGE, audio_dim=AUDIO, lengths=lengths)
    torch.testing.assert_close(tuple(batch), tuple(by_code), atol=0, rtol=0)
    torch.testing.assert_close(model.joint(batch), plain.joint(batch), atol=0, rtol=0)


def test_the_two_outputs_of_a_head_become_one(tiny_bert: Path) -> None:
    model = legacy("binary", ("binary",), tiny_bert)
    last: Tensor = model.state_dict()["heads.binary.7.weight"]
    converted = convert(foreign(model), scheme(tiny_bert), legacy=False, origin="f.pth").tensors
    assert torch.equal(converted["heads.binary_head.output.weight"], last[1:] - last[:1])
    assert converted["fusion.readers.audio_reader.pooling.context.weight"].shape == (1, 32)
