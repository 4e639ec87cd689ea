"""The assembled model: names, shapes, every head on every batch, and what a wrong config hears."""

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.block import MultiHeadAttention
from mmtrain.models.building import build_model, count_parameters
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.fusion.hca import HcaFusionConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.model import MultimodalModel

DIMS = {"audio": 3, "video": 2, "a.b": 2, "a_b": 2}
TWO = {"video": {"name": "linear"}, "audio": {"name": "linear"}}


class Logits(torch.nn.Module):
    """The logits alone: torch.export knows dicts, not our dataclass."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, MaskedSequence]) -> dict[str, torch.Tensor]:
        return self.model(inputs).logits


def build(config: ModelConfig, outputs: dict[str, int], **head: object) -> MultimodalModel:
    heads = dict.fromkeys(outputs, MlpHeadConfig(**head) if head else LinearHeadConfig())
    scalar = [task for task, count in outputs.items() if count == 1]
    return build_model(config, dims=DIMS, outputs=outputs, heads=heads, scalar_tasks=scalar)


def sequence(samples: int, dim: int) -> MaskedSequence:
    return MaskedSequence(torch.randn(samples, 4, dim), torch.ones(samples, 4, dtype=torch.bool))


def test_logits_have_the_shape_of_their_targets() -> None:
    model = build(ModelConfig(dim=4, sequences=TWO), {"funny": 1, "mood": 3})
    outputs = model({"video": sequence(5, 2), "audio": sequence(5, 3)})
    assert {task: tuple(logits.shape) for task, logits in outputs.logits.items()} == {"funny": (5,), "mood": (5, 3)}
    assert outputs.joint.shape == (5, 8)
    assert {name: tuple(rows.shape) for name, rows in outputs.per_modality.items()} == {"video": (5, 4), "audio": (5, 4)}
    assert outputs.aux == {}


def test_text_comes_first_then_sequences_in_their_order() -> None:
    config = ModelConfig(sequences=TWO, text={"path": "anywhere"})
    assert config.modalities == ("text", "video", "audio")


def test_any_name_will_do() -> None:
    model = build(ModelConfig(dim=4, sequences={"a.b": LinearEncoderConfig()}), {"type": 1, "x.y": 2, "forward": 1})
    assert set(model({"a.b": sequence(2, 2)}).logits) == {"type", "x.y", "forward"}


def test_names_that_look_alike_share_nothing() -> None:
    sequences = {"a.b": LinearEncoderConfig(), "a_b": LinearEncoderConfig()}
    model = build(ModelConfig(dim=4, sequences=sequences), {"x.y": 1, "x_y": 1})
    assert (len(model.sequences), len(model.heads)) == (2, 2)


def test_labels_reach_the_head_of_their_task() -> None:
    model = build(ModelConfig(dim=4, sequences=TWO), {"funny": 1, "mood": 3}, hidden=(4,), batch_norm=True).train()
    labelled = {"funny": torch.tensor([True, True, False]), "mood": torch.tensor([False, False, True])}
    model({"video": sequence(3, 2), "audio": sequence(3, 3)}, labelled)
    seen = [model.heads[f"{task}_head"].norms[0].num_batches_tracked.item() for task in ("funny", "mood")]
    assert seen == [1, 0]


def test_parameters_are_counted() -> None:
    model = build(ModelConfig(dim=4, sequences={"audio": LinearEncoderConfig()}), {"funny": 1})
    model.sequences.requires_grad_(False)
    # linear 3 x 4 + 4 and norm 8; fusion's norm 8; head 4 + 1
    count = count_parameters(model)
    assert (count.trainable, count.total) == (13, 37)


def test_config_errors() -> None:
    with pytest.raises(ValidationError, match="the model reads nothing: give `text` an encoder, or name a modality"):
        ModelConfig()
    with pytest.raises(ValidationError, match="may not hold a modality called 'text'"):
        ModelConfig(sequences={"text": LinearEncoderConfig()})
    unknown = r"fusion.order \[audio, face\] names 'face', which the model does not read; write the modalities video, audio"
    with pytest.raises(ValidationError, match=unknown):
        ModelConfig(sequences=TWO, fusion={"name": "hca", "order": ["audio", "face"]})
    with pytest.raises(ValidationError, match=r"fusion.order \[audio\] does not name each one once"):
        ModelConfig(sequences=TWO, fusion=HcaFusionConfig(order=("audio",)))
    with pytest.raises(
        ValidationError, match="`modality_dropout` names 'face', which the model does not read; it reads video"
    ):
        ModelConfig(sequences=TWO, modality_dropout={"face": 0.5})
    with pytest.raises(ValidationError, match="'concat', 'sum', 'mean'"):
        ModelConfig(sequences=TWO, fusion={"name": "add"})


def test_build_errors() -> None:
    with pytest.raises(ConfigError, match=r"model.sequences.face: no store has this modality \(there are: audio, video"):
        build(ModelConfig(sequences={"face": LinearEncoderConfig()}), {"funny": 1})
    with pytest.raises(ConfigError, match="dim 6 is not a multiple of heads 4; heads that fit: 1, 2, 3, 6"):
        MultiHeadAttention(dim=6, heads=4, dropout=0.0)
    with pytest.raises(ConfigError, match=r"^model\.fusion: dim 8 is not a multiple of heads 3; heads that fit: 1, 2, 4, 8"):
        build(ModelConfig(dim=8, sequences=TWO, fusion={"name": "attention", "heads": 3}), {"funny": 1})
    with pytest.raises(ConfigError, match=r"^model\.sequences\.video: dim 8 is not a multiple of heads 3"):
        build(ModelConfig(dim=8, sequences={"video": {"name": "transformer", "heads": 3}}), {"funny": 1})


def test_configs_import_neither_transformers_nor_torchvision() -> None:
    code = "import sys, mmtrain.models.model; print({'transformers', 'torchvision'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # torch's word on its own LSTM
@pytest.mark.parametrize(("encoder", "rows"), [("linear", 7), ("transformer", 7), ("bilstm", 4)])
def test_models_can_be_exported(encoder: str, rows: int) -> None:
    """For any number of samples and rows; torch.export unrolls an LSTM, so that its number of rows stays as exported."""
    sequences = {"video": {"name": encoder}, "audio": {"name": encoder}}
    model = build(ModelConfig(dim=8, sequences=sequences, fusion=HcaFusionConfig()), {"funny": 1}).eval()
    inputs = {"video": sequence(2, 2), "audio": sequence(2, 3)}
    any_size = {0: torch.export.Dim.AUTO} | ({1: torch.export.Dim.AUTO} if rows != 4 else {})
    shapes = ({name: MaskedSequence(any_size, any_size) for name in inputs},)
    program = torch.export.export(Logits(model), (inputs,), dynamic_shapes=shapes, strict=False).module()
    mask = torch.arange(rows) < torch.tensor([[4], [3], [1]])
    other = {name: MaskedSequence(torch.randn(3, rows, item.values.shape[2]), mask) for name, item in inputs.items()}
    torch.testing.assert_close(program(other), model(other).logits)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FUSIONS, ids=lambda kind: kind.model_fields["name"].default)
def test_every_fusion_can_be_exported(kind, tiny_bert) -> None:
    """For any number of samples and rows."""
    fusion = kind(modality="text") if "modality" in kind.model_fields else kind()
    is_pair = kind.model_fields["name"].default.startswith("pair")
    text = None if is_pair else {"path": str(tiny_bert), "weights": "random", "max_tokens": 16}
    model = build(ModelConfig(dim=8, text=text, sequences=TWO, fusion=fusion), {"funny": 1}).eval()

    def inputs(samples: int, rows: int) -> dict[str, MaskedSequence]:
        mask = torch.arange(rows) < torch.arange(rows, rows - samples, -1)[:, None]
        found = {name: MaskedSequence(torch.randn(samples, rows, DIMS[name]), mask) for name in TWO}
        return found if is_pair else {"text": MaskedSequence(torch.randint(5, 40, (samples, rows)), mask), **found}

    any_size = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    shapes = ({name: MaskedSequence(any_size, any_size) for name in inputs(2, 4)},)
    program = torch.export.export(Logits(model), (inputs(2, 4),), dynamic_shapes=shapes, strict=False).module()
    other = inputs(3, 7)
    torch.testing.assert_close(program(other), model(other).logits)


def test_logits_are_single_precision_under_autocast() -> None:
    model = build(ModelConfig(dim=4, sequences=TWO), {"funny": 1})
    with torch.autocast("cpu", torch.bfloat16):
        assert model({"video": sequence(5, 2), "audio": sequence(5, 3)}).logits["funny"].dtype == torch.float32
