"""What is padding never changes a result: every fusion with every sequence encoder, pooling and number of modalities.

The slow suite runs every fusion x sequence encoder x number of modalities, each with one pooling; the fast suite a part in
which every two of a fusion, an encoder, a pooling and a number of modalities still meet. What a fusion adds to the loss as
batch terms (`Outputs.aux`) is one number for all samples of a batch, so companions do change it; it is held to the rest.
"""

import typing
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders import SEQUENCE_ENCODERS, TEXT_ENCODERS
from mmtrain.models.encoders.text import HubText
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.fusion.only import OnlyFusionConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.heads.mlp import MlpHeadConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.models.outputs import Outputs
from mmtrain.models.pooling import POOLINGS
from mmtrain.section import Section

Row = tuple[type[Section], type[Section], type[Section], int]
LENGTHS = {"text": [6, 3, 5, 2], "audio": [5, 2, 4, 1], "video": [3, 4, 1, 2], "face": [2, 5, 3, 4]}
DIMS = {"audio": 6, "video": 5, "face": 3}
MODALITIES = {1: ("audio",), 2: ("text", "audio"), 3: ("text", "audio", "video"), 4: ("text", "audio", "video", "face")}
# Where a row has such a field: small enough that hundreds of models run.
SMALL = {"hidden": 4, "heads": 2, "layers": 1, "self_layers": 1, "expansion": 2, "latents": 3, "reach": 2, "width": 3}
Rows = dict[str, list[Tensor]]


def small(kind: type[Section]) -> Section:
    settings: dict[str, typing.Any] = {"modality": "audio"} if kind is OnlyFusionConfig else {}
    for name in SMALL.keys() & kind.model_fields.keys():
        field = kind.model_fields[name]
        least = max((mark.ge for mark in field.metadata if hasattr(mark, "ge")), default=1)
        settings[name] = (SMALL[name],) if isinstance(field.default, tuple) else max(SMALL[name], least)
    return kind(**settings)


def fits(fusion: type[Section], count: int) -> bool:
    try:
        small(fusion).check(MODALITIES[count])
    except ConfigError:
        return False
    return True


def grid() -> Iterator[tuple[Row, bool]]:
    """Every row, and whether it is one of the few; a number that a fusion refuses is replaced by the next that it takes."""
    for (i, fusion), (j, encoder) in product(enumerate(FUSIONS), enumerate(SEQUENCE_ENCODERS)):
        counts = [count for count in MODALITIES if fits(fusion, count)]
        chosen = next((count for count in counts if count > (i // 4 + j) % 4), counts[-1])
        for count in counts:
            yield (fusion, encoder, POOLINGS[(i + j) % len(POOLINGS)], count), count == chosen


CASES = [
    pytest.param(
        row,
        id="-".join(kind.model_fields["name"].default for kind in row[:3]) + f"-{row[3]}",
        marks=() if is_fast else pytest.mark.slow,
    )
    for row, is_fast in grid()
]


@pytest.fixture(scope="module", params=CASES)
def built(request: pytest.FixtureRequest, tiny_bert: Path) -> MultimodalModel:
    fusion, encoder, pooling, count = request.param
    read = MODALITIES[count]
    text = TEXT_ENCODERS[(FUSIONS.index(fusion) + SEQUENCE_ENCODERS.index(encoder)) % len(TEXT_ENCODERS)]
    config = ModelConfig(
        dim=8,
        text=text(path=str(tiny_bert), weights="random", max_tokens=16) if "text" in read else None,
        sequences={name: small(encoder) for name in read if name != "text"},
        fusion=small(fusion),
        pooling=small(pooling),
    )
    torch.manual_seed(0)
    heads = {"funny": LinearHeadConfig(), "mood": MlpHeadConfig(hidden=(4,), batch_norm=True)}
    model = build_model(config, dims=DIMS, outputs={"funny": 1, "mood": 3}, heads=heads, scalar_tasks=["funny"])
    for module in model.modules():
        if isinstance(module, HubText):  # without padding, as on a CPU, and with it, as on a GPU
            module.packs &= (FUSIONS.index(fusion) + POOLINGS.index(pooling)) % 2 == 0
    return model


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


def hidden(batch: Mapping[str, MaskedSequence], *, without: tuple[str, ...], samples: tuple[int, ...]) -> dict:
    """The batch with these samples' rows of these modalities masked out, and NaN (or an id that is none) under the mask."""
    result = dict(batch)
    for name in without:
        values, mask = batch[name].values.clone(), batch[name].mask.clone()
        mask[list(samples)] = False
        values[list(samples)] = -7 if name == "text" else float("nan")
        result[name] = MaskedSequence(values, mask)
    return result


def flat(outputs: Outputs) -> Tensor:
    """All that a sample gets from the model in one row: [B, ...]."""
    logits = [value if value.dim() == 2 else value[:, None] for value in outputs.logits.values()]
    return torch.cat([*logits, outputs.joint, *outputs.per_modality.values()], dim=1)


def terms(outputs: Outputs) -> Tensor:
    """The batch terms in one row."""
    return torch.stack([torch.zeros(()), *outputs.aux.values()])


def gradients(model: MultimodalModel, batch: dict[str, MaskedSequence]) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    outputs = model(batch)
    (flat(outputs).square().sum() + terms(outputs).sum()).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@torch.no_grad
def test_more_padding_is_invisible(model: MultimodalModel) -> None:
    expected = model(padded(real_rows()))
    for junk in (0.0, 1e4, float("nan")):
        found = model(padded(real_rows(), more=3, junk=junk))
        torch.testing.assert_close(flat(found), flat(expected), atol=1e-5, rtol=0)
        torch.testing.assert_close(terms(found), terms(expected), atol=1e-5, rtol=0)


@torch.no_grad
def test_companions_and_order_are_invisible(model: MultimodalModel) -> None:
    rows = real_rows(without=("audio",), samples=(1,))
    expected = flat(model(padded(rows)))
    backwards = flat(model(padded({name: values[::-1] for name, values in rows.items()})))
    torch.testing.assert_close(backwards.flip(0), expected, atol=1e-5, rtol=0)
    alone = [flat(model(padded({name: [values[sample]] for name, values in rows.items()}))) for sample in range(4)]
    torch.testing.assert_close(torch.cat(alone), expected, atol=1e-5, rtol=0)


def test_missing_modality_is_as_rows_masked_out(model: MultimodalModel) -> None:
    read = model.fusion.modalities
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    one, everyone = (1,), (0, 1, 2, 3)
    for without, samples in (*(((name,), one) for name in read), *(((name,), everyone) for name in read), (read, one)):
        missing = padded(real_rows(without=without, samples=samples))
        masked_out = hidden(padded(real_rows(), junk=float("nan")), without=without, samples=samples)
        expected, found = model.eval()(missing), model(masked_out)
        assert flat(expected).isfinite().all()
        assert terms(expected).isfinite().all()
        torch.testing.assert_close(flat(found), flat(expected), atol=1e-5, rtol=0)
        torch.testing.assert_close(terms(found), terms(expected), atol=1e-5, rtol=0)
        for name in without:
            assert not expected.per_modality[name][list(samples)].any()
        for batch in (missing, masked_out) if samples is everyone else (masked_out,):
            slopes = gradients(model.train(), batch)
            assert slopes.keys() == trained  # several processes wait for every gradient, also of what a slice lacks
            assert all(slope.isfinite().all() for slope in slopes.values())


def test_samples_without_anything_are_finite(model: MultimodalModel) -> None:
    batch = padded(real_rows(without=tuple(LENGTHS)))
    outputs = model(batch)
    assert flat(outputs).isfinite().all()
    assert terms(outputs).isfinite().all()
    slopes = gradients(model.train(), batch)
    assert slopes.keys() == {name for name, value in model.named_parameters() if value.requires_grad}
    assert all(slope.isfinite().all() for slope in slopes.values())


def test_nan_under_the_mask_does_not_reach_a_gradient(model: MultimodalModel) -> None:
    expected = gradients(model, padded(real_rows()))
    found = gradients(model, padded(real_rows(), more=2, junk=float("nan")))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_every_trained_parameter_has_a_gradient(model: MultimodalModel) -> None:
    """From logits and batch terms alone: what is compared between modalities is no part of most objectives."""
    outputs = model.train()(padded(real_rows()))
    (sum(value.square().sum() for value in outputs.logits.values()) + terms(outputs).sum()).backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []


@torch.no_grad
def test_real_rows_are_visible(model: MultimodalModel) -> None:
    expected = flat(model(padded(real_rows())))
    for modality in model.fusion.modalities:
        rows = real_rows()
        rows[modality][0] = rows[modality][0].flip(0)
        rows[modality][0][0] = 39 if modality == "text" else 3.0
        change = (flat(model(padded(rows))) - expected).abs().amax(dim=1)
        assert change[0] > 1e-3
        assert change[1:].max() < 1e-5


def test_the_fast_rows_hold_every_pair() -> None:
    every = [row for row in product(FUSIONS, SEQUENCE_ENCODERS, POOLINGS, MODALITIES) if fits(row[0], row[3])]
    fast = [row for row, is_fast in grid() if is_fast]
    for first, second in combinations(range(4), 2):
        assert {(row[first], row[second]) for row in every} == {(row[first], row[second]) for row in fast}
