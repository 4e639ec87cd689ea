"""Modality dropout: how often, never everything, masks only, and only in training."""

import pytest
import torch

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.modality_dropout import ModalityDropout


def batch(present: list[list[bool]], repeats: int = 1) -> dict[str, MaskedSequence]:
    """Rows of audio, video and face; sample i has those that `present[i]` says, `repeats` times over."""
    rows = torch.tensor(present * repeats)
    values = torch.randn(len(rows), 2, 3)
    return {
        name: MaskedSequence(values + number, rows[:, number, None] & torch.tensor([[True, False]]))
        for number, name in enumerate(("audio", "video", "face"))
    }


def kept(found: dict[str, MaskedSequence]) -> torch.Tensor:
    return torch.stack([sequence.present for sequence in found.values()], dim=1)


def test_each_modality_is_hidden_as_often_as_asked() -> None:
    torch.manual_seed(0)
    found = kept(ModalityDropout({"audio": 0.3, "video": 0.6}).train()(batch([[True, True, True]], 20_000)))
    # face always stays, so nothing has to be given back
    assert found.float().mean(dim=0).tolist() == pytest.approx([0.7, 0.4, 1.0], abs=0.015)
    assert found[:, :2].all(dim=1).float().mean().item() == pytest.approx(0.7 * 0.4, abs=0.015)


def test_a_sample_never_loses_all_that_it_has() -> None:
    torch.manual_seed(0)
    present = [[True, True, True], [True, True, False], [False, False, True], [False, False, False]]
    module = ModalityDropout({"audio": 0.99, "video": 0.99, "face": 0.99}).train()
    found = kept(module(batch(present, 3000))).reshape(3000, 4, 3)
    had = torch.tensor(present)
    assert not (found & ~had).any()
    assert found[:, :3].any(dim=2).all()
    # where it would lose all, each of its modalities is as likely to stay
    assert found[:, 0].float().mean(dim=0).tolist() == pytest.approx([0.333 + 0.007] * 3, abs=0.03)
    assert found[:, 1].float().mean(dim=0).tolist() == pytest.approx([0.5, 0.5, 0.0], abs=0.03)


def test_masks_alone_change_and_rows_that_were_hidden_stay_so() -> None:
    torch.manual_seed(0)
    before = batch([[True, True, False], [True, False, True]], 50)
    after = ModalityDropout({"audio": 0.5, "face": 0.5}).train()(before)
    for name, sequence in after.items():
        assert sequence.values is before[name].values
        assert sequence.mask.dtype == torch.bool
        assert not (sequence.mask & ~before[name].mask).any()
        assert ((sequence.mask == before[name].mask).all(dim=1) | ~sequence.present).all()
    assert torch.equal(after["video"].mask, before["video"].mask)


@pytest.mark.parametrize(("probabilities", "training"), [({"audio": 0.9}, False), ({}, True), ({"audio": 0.0}, True)])
def test_nothing_is_drawn_where_nothing_can_be_hidden(probabilities: dict[str, float], training: bool) -> None:
    before, state = batch([[True, True, True]], 20), torch.get_rng_state()
    after = ModalityDropout(probabilities).train(training)(before)
    assert all(torch.equal(after[name].mask, before[name].mask) for name in before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_hides_in_training_and_reads_all_in_evaluation() -> None:
    linear = {name: {"name": "linear"} for name in ("audio", "video", "face")}
    config = ModelConfig(dim=4, sequences=linear, fusion={"name": "sum", "dropout": 0}, modality_dropout={"video": 0.5})
    model = build_model(
        config,
        dims=dict.fromkeys(linear, 3),
        outputs={"funny": 1},
        heads={"funny": LinearHeadConfig(dropout=0)},
        scalar_tasks=["funny"],
    )
    torch.manual_seed(0)
    inputs = batch([[True, True, True]], 40)
    hidden = ~model.train()(inputs).per_modality["video"].any(dim=1)
    assert 10 < hidden.sum() < 30
    assert model(inputs).per_modality["audio"].any(dim=1).all()
    assert model.eval()(inputs).per_modality["video"].any(dim=1).all()
