"""What is padding never changes a result: every text and sequence encoder x fusion x pooling, as the tables list them."""

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders import SEQUENCE_ENCODERS, TEXT_ENCODERS
from mmtrain.models.encoders.bilstm import BiLstmEncoderConfig
from mmtrain.models.encoders.transformer import TransformerEncoderConfig
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.fusion.attention import AttentionFusionConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.fusion.hca import HcaFusionConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.model import ModelConfig, MultimodalModel, build_model
from mmtrain.models.outputs import Outputs
from mmtrain.models.pooling import POOLINGS

# A row that is not here is built with its defaults.
SMALL = {
    BiLstmEncoderConfig: {"hidden": 4},
    TransformerEncoderConfig: {"heads": 2, "layers": 1, "expansion": 2},
    AttentionFusionConfig: {"heads": 2, "layers": 1, "expansion": 2},
    ConcatFusionConfig: {"hidden": [8]},
    HcaFusionConfig: {"heads": 2},
}
GRID = list(product(TEXT_ENCODERS, SEQUENCE_ENCODERS, FUSIONS, POOLINGS))
NAMES = ["-".join(kind.model_fields["name"].default for kind in row) for row in GRID]
LENGTHS = {"text": [6, 3, 5, 2], "audio": [5, 2, 4, 1], "video": [3, 4, 1, 2]}
DIMS = {"audio": 6, "video": 5}
EVERY = tuple(LENGTHS)
Rows = dict[str, list[Tensor]]


@pytest.fixture(scope="module", params=GRID, ids=NAMES)
def built(request: pytest.FixtureRequest, tiny_bert: Path) -> MultimodalModel:
    text, encoder, fusion, pooling = request.param
    config = ModelConfig(
        dim=8,
        text=text(path=str(tiny_bert), weights="random", max_tokens=16),
        sequences={name: encoder(**SMALL.get(encoder, {})) for name in DIMS},
        fusion=fusion(**SMALL.get(fusion, {})),
        pooling=pooling(**SMALL.get(pooling, {})),
    )
    torch.manual_seed(0)
    heads = {"funny": LinearHeadConfig(), "mood": MlpHeadConfig(hidden=(4,), batch_norm=True)}
    return build_model(config, dims=DIMS, outputs={"funny": 1, "mood": 3}, heads=heads, scalar_tasks=["funny"])


@pytest.fixture
def model(built: MultimodalModel) -> MultimodalModel:
    built.zero_grad(set_to_none=True)
    return built.eval()


def real_rows(*, without: tuple[str, ...] = (), samples: tuple[int, ...] = (0, 1, 2, 3)) -> Rows:
    """Four samples of ragged rows; `samples` lack the modalities `without`."""
    generator = torch.Generator().manual_seed(1)
    rows: Rows = {name: [] for name in LENGTHS}
    for name, lengths in LENGTHS.items():
        for sample, length in enumerate(lengths):
            if name == "text":
                values = torch.randint(5, 40, (length,), generator=generator)
            else:
                values = torch.randn(length, DIMS[name], generator=generator)
            rows[name].append(values[: 0 if name in without and sample in samples else length])
    return rows


def padded(rows: Rows, *, more: int = 0, junk: float = 0.0) -> dict[str, MaskedSequence]:
    """A batch with `more` rows of padding than it needs, and junk under the mask (ids have no NaN: any number will do)."""
    batch = {}
    for name, samples in rows.items():
        longest = max(1, *map(len, samples)) + more
        fill = {0.0: 0, 1e4: 10**6}.get(junk, -7) if name == "text" else junk
        values = torch.full((len(samples), longest, *samples[0].shape[1:]), fill, dtype=samples[0].dtype)
        mask = torch.zeros(len(samples), longest, dtype=torch.bool)
        for number, sample in enumerate(samples):
            values[number, : len(sample)], mask[number, : len(sample)] = sample, True
        batch[name] = MaskedSequence(values, mask)
    return batch


def flat(outputs: Outputs) -> Tensor:
    """All that a sample gets from the model in one row: [B, ...]."""
    logits = [value if value.dim() == 2 else value[:, None] for value in outputs.logits.values()]
    return torch.cat([*logits, outputs.joint, *outputs.per_modality.values()], dim=1)


def gradients(model: MultimodalModel, batch: dict[str, MaskedSequence]) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    flat(model(batch)).square().sum().backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@torch.no_grad
@pytest.mark.parametrize("junk", [0.0, 1e4, float("nan")])
def test_more_padding_is_invisible(model: MultimodalModel, junk: float) -> None:
    expected = flat(model(padded(real_rows())))
    torch.testing.assert_close(flat(model(padded(real_rows(), more=3, junk=junk))), expected, atol=1e-5, rtol=0)


@torch.no_grad
def test_companions_and_order_are_invisible(model: MultimodalModel) -> None:
    rows = real_rows(without=("audio",), samples=(1,))
    expected = flat(model(padded(rows)))
    backwards = flat(model(padded({name: values[::-1] for name, values in rows.items()})))
    torch.testing.assert_close(backwards.flip(0), expected, atol=1e-5, rtol=0)
    alone = [flat(model(padded({name: [values[sample]] for name, values in rows.items()}))) for sample in range(4)]
    torch.testing.assert_close(torch.cat(alone), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("without", [("text",), ("audio",), ("video",), ("text", "video"), EVERY], ids="+".join)
@pytest.mark.parametrize("samples", [(1,), (0, 1, 2, 3)], ids=["one sample", "all samples"])
def test_missing_modality_is_as_rows_masked_out(
    model: MultimodalModel, without: tuple[str, ...], samples: tuple[int, ...]
) -> None:
    missing, masked_out = padded(real_rows(without=without, samples=samples)), padded(real_rows(), junk=float("nan"))
    for name in without:
        mask = masked_out[name].mask.clone()
        mask[list(samples)] = False
        values = masked_out[name].values.clone()
        values[list(samples)] = -7 if name == "text" else float("nan")
        masked_out[name] = MaskedSequence(values, mask)
    expected = model(missing)
    assert flat(expected).isfinite().all()
    torch.testing.assert_close(flat(model(masked_out)), flat(expected), atol=1e-5, rtol=0)
    for name in without:
        assert not expected.per_modality[name][list(samples)].any()
    model.train()
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    for batch in (missing, masked_out):
        found = gradients(model, batch)
        assert found.keys() == trained  # several processes wait for every gradient, also of what a slice lacks
        assert all(gradient.isfinite().all() for gradient in found.values())


def test_nan_under_the_mask_does_not_reach_a_gradient(model: MultimodalModel) -> None:
    expected = gradients(model, padded(real_rows()))
    found = gradients(model, padded(real_rows(), more=2, junk=float("nan")))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_every_trained_parameter_has_a_gradient(model: MultimodalModel) -> None:
    logits = model.train()(padded(real_rows())).logits
    sum(value.square().sum() for value in logits.values()).backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []


@torch.no_grad
@pytest.mark.parametrize("modality", EVERY)
def test_real_rows_are_visible(model: MultimodalModel, modality: str) -> None:
    rows = real_rows()
    expected = flat(model(padded(rows)))
    rows[modality][0] = rows[modality][0].flip(0)
    rows[modality][0][0] = 39 if modality == "text" else 3.0
    change = (flat(model(padded(rows))) - expected).abs().amax(dim=1)
    assert change[0] > 1e-3
    assert change[1:].max() < 1e-5
