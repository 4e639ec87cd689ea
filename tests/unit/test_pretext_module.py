"""What a pretext module sees of the model and gives back: views of the pass, means to run it again, learned scalars."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mmtrain.data.batch import Keys, MaskedSequence
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.models.views import ModelViews
from mmtrain.objectives.pretext.projection import PairHead, Scalar

DIMS = {"audio": 3, "video": 2}


class Looking(nn.Module):
    """Keeps what it is shown, and gives halves."""

    def forward(self, views: ModelViews, spoken: Tensor | None) -> dict[str, Tensor]:
        self.views, self.spoken = views, spoken
        return {"half": views.fused.joint.half(), "whole": views.fused.joint.double(), "flag": views.inputs["audio"].present}


@pytest.fixture
def model() -> MultimodalModel:
    torch.manual_seed(0)
    return build_model(
        ModelConfig(
            dim=4,
            sequences={name: LinearEncoderConfig() for name in DIMS},
            fusion=ConcatFusionConfig(dropout=0.0),
            modality_dropout={"audio": 0.9},
        ),
        dims=DIMS,
        outputs={},
        heads={},
        scalar_tasks=[],
        pretext={"look": lambda **shape: Looking() if shape["dim"] == 4 and set(shape["modalities"]) == set(DIMS) else None},
    )


def inputs_of(count: int) -> dict[str, MaskedSequence]:
    return {
        name: MaskedSequence(torch.randn(count, 3, dim), torch.tensor([[True, True, False]]).expand(count, 3))
        for name, dim in DIMS.items()
    }


def test_a_module_sees_the_pass_and_can_run_it_again(model: MultimodalModel) -> None:
    inputs, spoken = inputs_of(5), torch.tensor([True, False, True, True, True])
    keys = Keys(torch.arange(5), torch.arange(5) + 7)
    outputs = model.eval()(inputs, {"look": spoken}, keys)
    module = model.head("look")
    assert isinstance(module, Looking)
    views = module.views
    assert module.spoken is spoken
    assert views.keys is keys
    assert {name: value.dtype for name, value in outputs.pretext["look"].items()} == {
        "half": torch.float32,
        "whole": torch.float64,
        "flag": torch.bool,
    }
    torch.testing.assert_close(views.pooled("video"), views.encoded["video"].values[:, :2].mean(dim=1))
    assert views.pooled("video") is views.pooled("video")
    torch.testing.assert_close(views.fuse(views.encode(inputs)).joint, outputs.joint)
    assert set(views.encode({"audio": inputs["audio"]})) == {"audio"}
    turned = {name: MaskedSequence(x.values.flip(0), x.mask) for name, x in views.encoded.items()}
    torch.testing.assert_close(views.fuse(turned).joint, outputs.joint.flip(0))
    model(inputs)
    assert module.spoken is module.views.keys is None


def test_a_module_sees_what_modality_dropout_has_left(model: MultimodalModel) -> None:
    outputs = model.train()(inputs_of(40))
    assert 0 < int((~outputs.pretext["look"]["flag"]).sum()) < 40


def views_of(values: Tensor) -> SimpleNamespace:
    sequence = MaskedSequence(values[:, None], torch.ones(len(values), 1, dtype=torch.bool))
    return SimpleNamespace(encoded={"audio": sequence}, pooled=lambda _: values)


def test_a_learned_scale_stays_below_its_bound_and_can_come_back() -> None:
    head = PairHead(modalities=["audio"], input_dim=2, dim=2, scalars={"log_scale": Scalar(1.0, math.log(100))})
    views = views_of(torch.randn(3, 2))
    assert float(head(views)["log_scale"].detach()) == 1.0
    with torch.no_grad():
        head.scalars["log_scale"].fill_(7.0)
    assert float(head.eval()(views)["log_scale"].detach()) == pytest.approx(math.log(100))
    assert float(head.scalars["log_scale"].detach()) == 7.0  # evaluation changes nothing
    head.train()(views)["log_scale"].backward()
    assert float(head.scalars["log_scale"].detach()) == pytest.approx(math.log(100))
    assert float(head.scalars["log_scale"].grad) == 1.0


def test_embeddings_have_length_one_where_there_is_something() -> None:
    head = PairHead(modalities=["audio"], input_dim=2, dim=5, hidden=(3,))
    outputs = head(views_of(torch.randn(4, 2)), torch.tensor([True, True, False, True]))
    assert outputs["embedding/audio"].norm(dim=1).tolist() == pytest.approx([1, 1, 0, 1])
    assert outputs["present/audio"].tolist() == [True, True, False, True]
