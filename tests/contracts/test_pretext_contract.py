"""What every row of the table of pretext tasks promises: masks, missing modalities, processes, precision, learning."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.data.schema import TaskSchema
from mmtrain.evaluation.evaluate import sample_values
from mmtrain.evaluation.metrics import is_lower_better
from mmtrain.evaluation.split_metrics import known_metrics
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.linear import LinearEncoderConfig
from mmtrain.models.fusion.concat import ConcatFusionConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.objectives.losses.binary import BinaryLoss
from mmtrain.objectives.objective import LossTerms, Objective
from mmtrain.objectives.pretext import PRETEXTS
from mmtrain.objectives.pretext.contrastive_margin import ContrastiveMarginConfig
from mmtrain.objectives.pretext.masked_modelling import MaskedModellingConfig
from mmtrain.objectives.pretext.matching import MatchingConfig
from mmtrain.objectives.pretext.triplet_hardest import TripletHardestConfig
from mmtrain.objectives.pretext.triplet_semi_hard import TripletSemiHardConfig
from mmtrain.section import Section

DIMS = {"audio": 5, "video": 4, "face": 3}
B = 8
TASKS = {"funny": TaskSchema(kind="binary")}
REQUIRED: dict[str, dict[str, Any]] = {"supervised_contrastive": {"task": "funny"}}
# whether two rows belong together is no linear question, so what is fused needs a hidden layer, and more steps
FUSED = {"matching": (64,)}
STEPS = {"matching": 300}
# whose samples of one group are not compared
EXCLUDING = (TripletHardestConfig, TripletSemiHardConfig, ContrastiveMarginConfig, MatchingConfig)
every_row = pytest.mark.parametrize("row", PRETEXTS, ids=lambda row: row.model_fields["name"].default)


def config_of(row: type[Section]) -> Any:
    small = {key: value for key, value in {"dim": 6, "hidden": (7,)}.items() if key in row.model_fields}
    return row.model_validate(small | REQUIRED.get(row.model_fields["name"].default, {}))


def built(row: type[Section], *, labels: bool = False) -> tuple[MultimodalModel, Objective]:
    """A model in eval mode with the one pretext task `t`, and with a task of its own where `labels`."""
    config = config_of(row)
    torch.manual_seed(0)
    model = build_model(
        ModelConfig(
            dim=6,
            sequences={name: LinearEncoderConfig() for name in DIMS},
            fusion=ConcatFusionConfig(hidden=FUSED.get(config.name, ()), dropout=0.0),
        ),
        dims=DIMS,
        outputs={"funny": 1} if labels else {},
        heads={"funny": LinearHeadConfig()} if labels else {},
        scalar_tasks=["funny"],
        pretext={"t": lambda **shape: config.build_module(**shape, input_dims=DIMS, tokenizer=None)},
    )
    loss = config.build_loss(modalities=tuple(DIMS), tasks=TASKS)
    return model.eval(), Objective(losses={"funny": BinaryLoss()} if labels else {}, pretext={"t": loss})


def batch_of(*, lacking: dict[str, list[int]] | None = None, spoken: Tensor | None = None, more: int = 0) -> Batch:
    """B samples whose modalities have 1 to 3 rows; NaN under the mask. `lacking`: samples by modality; `more`: padding."""
    inputs = {}
    for number, (name, dim) in enumerate(DIMS.items()):
        lengths = torch.arange(B).roll(number) % 3 + 1
        lengths[(lacking or {}).get(name, [])] = 0
        values = torch.randn(B, 3, dim, generator=torch.Generator().manual_seed(number))
        values = torch.cat([values, torch.zeros(B, more, dim)], dim=1)
        mask = torch.arange(3 + more) < lengths[:, None]
        inputs[name] = MaskedSequence(values.masked_fill(~mask[..., None], torch.nan), mask)
    rows = torch.arange(B)
    return Batch(
        ids=tuple(map(str, range(B))),
        stream=rows,
        index=rows,
        inputs=inputs,
        targets={"funny": (rows % 2).float(), "t": torch.zeros(B)},
        labelled={
            "funny": torch.ones(B, dtype=torch.bool),
            "t": torch.ones(B, dtype=torch.bool) if spoken is None else spoken,
        },
        group=rows,
        text_key=rows * 7919,
    )


def terms(model: MultimodalModel, objective: Objective, batch: Batch, **settings: Any) -> LossTerms:
    return objective(model(batch.inputs, batch.labelled, batch.keys), batch, **settings)


@every_row
@pytest.mark.parametrize("labels", [True, False])
def test_every_parameter_has_a_gradient_also_where_no_sample_counts(row: type[Section], labels: bool) -> None:
    """What the losses do not reach gets zeros: all processes reduce the same gradients."""
    model, objective = built(row, labels=labels)
    model.train()
    none = torch.zeros(B, dtype=torch.bool)
    for batch, active in ((batch_of(), {"t"}), (batch_of(spoken=none), {"t"}), (batch_of(), set())):
        model.zero_grad()
        found = terms(model, objective, batch, active=active)
        torch.stack([value.sum() for value in found.training.values()]).sum().backward()
        assert [name for name, value in model.named_parameters() if value.grad is None] == []
        silent = all(not value.grad.any() for value in model.head("t").parameters() if value.grad is not None)
        assert silent == (not active or batch.labelled["t"].sum() == 0)
    model.zero_grad()
    terms(model, objective, batch_of()).training["t"].sum().backward()
    still = [name for name, value in model.head("t").named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


@every_row
def test_padding_is_invisible_and_a_missing_modality_finite(row: type[Section]) -> None:
    model, objective = built(row)
    lacking = {"audio": [0, 1, 5], "video": [1, 2], "face": [7]}
    plain = terms(model, objective, batch_of(lacking=lacking))
    padded = terms(model, objective, batch_of(lacking=lacking, more=4))
    torch.testing.assert_close(plain.training["t"], padded.training["t"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(plain.reported["t"], padded.reported["t"], rtol=1e-5, atol=1e-6)
    for batch in (batch_of(lacking=lacking), batch_of(lacking={name: list(range(B)) for name in DIMS})):
        model.zero_grad()
        found = terms(model, objective, batch)
        found.training["t"].sum().backward()
        assert found.training["t"].isfinite().all()
        assert found.reported["t"].isfinite().all()
        assert not found.reported["t"].requires_grad
        assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


@every_row
def test_what_it_does_not_speak_for_does_not_exist(row: type[Section]) -> None:
    """Samples of other streams are neither matches nor negatives, whatever they hold."""
    model, objective = built(row)
    spoken = torch.tensor([True, True, False, True, True, False, True, True])
    batch = batch_of(spoken=spoken)
    loud = {name: MaskedSequence(x.values.clone(), x.mask) for name, x in batch.inputs.items()}
    for sequence in loud.values():
        sequence.values[~spoken] = 100.0
    found, other = (terms(model, objective, each) for each in (batch, replace(batch, inputs=loud)))
    torch.testing.assert_close(found.training["t"], other.training["t"])
    assert (found.training["t"][~spoken] == 0).all()
    assert (found.reported["t"][~spoken] == 0).all()
    assert found.reported["t"][spoken].any()


@every_row
def test_a_sample_that_could_not_be_compared_has_no_loss(row: type[Section]) -> None:
    """One that is alone, or whose modalities are hidden: the 0 of its training loss is not taken for a success."""
    model, objective = built(row)
    compares, of_classes = config_of(row).compares, bool(config_of(row).needed_tasks)
    one = torch.arange(B) == 2
    batch = batch_of(spoken=one)
    kept = sample_values(batch, {}, terms(model, objective, batch))
    assert kept["t/labelled"].tolist() == [not compares and bool(number == 2) for number in range(B)]
    assert kept["t/loss"].isfinite().all()
    batch = batch_of(lacking={name: [1, 4] for name in DIMS})
    found = terms(model, objective, batch)
    assert found.defined["t"].tolist() == [of_classes or number not in (1, 4) for number in range(B)]
    assert (found.reported["t"][~found.defined["t"]] == 0).all()
    crowd = replace(
        batch_of(), group=torch.zeros(B, dtype=torch.long), targets={"funny": torch.arange(B), "t": torch.zeros(B)}
    )
    excludes = bool(of_classes or row in EXCLUDING)
    assert terms(model, objective, crowd).defined["t"].tolist() == [not excludes] * B


@every_row
def test_the_order_of_a_batch_does_not_matter(row: type[Section]) -> None:
    model, objective = built(row)
    batch = batch_of(lacking={"audio": [3]})
    order = torch.randperm(B, generator=torch.Generator().manual_seed(3))
    turned = replace(
        batch,
        inputs={name: MaskedSequence(x.values[order], x.mask[order]) for name, x in batch.inputs.items()},
        targets={name: value[order] for name, value in batch.targets.items()},
        group=batch.group[order],
        text_key=batch.text_key[order],
    )
    plain, other = terms(model, objective, batch), terms(model, objective, turned)
    torch.testing.assert_close(plain.training["t"][order], other.training["t"], rtol=1e-5, atol=1e-6)


class Recorded:
    """Companions that know what every process has: what the whole batch gathered, call by call."""

    def __init__(self, start: int, whole: list[Tensor]) -> None:
        self.start, self._whole = start, iter(whole)

    def gather(self, rows: Tensor) -> Tensor:
        whole = next(self._whole)
        assert torch.equal(whole[self.start : self.start + len(rows)], rows)
        return whole


class Recording:
    def __init__(self) -> None:
        self.start, self.seen = 0, []

    def gather(self, rows: Tensor) -> Tensor:
        self.seen.append(rows)
        return rows


@every_row
def test_the_rows_of_two_processes_are_those_of_one(row: type[Section]) -> None:
    """In one graph: the values of the slices of 5 and 3 are those of the whole, and so are the summed gradients."""
    model, objective = built(row)
    model.double()
    loss = objective.pretext["t"]
    spoken = torch.tensor([True, True, False, True, True, True, True, True])
    batch = batch_of(lacking={"audio": [0], "face": [5, 6]}, spoken=spoken)
    batch.inputs.update({name: MaskedSequence(x.values.double(), x.mask) for name, x in batch.inputs.items()})
    gradients, values = [], []
    for slices in ([slice(0, 8)], [slice(0, 5), slice(5, 8)]):
        model.zero_grad()
        outputs = model(batch.inputs, batch.labelled, batch.keys).pretext["t"]
        recording = Recording()
        whole = loss(outputs, batch, spoken=spoken, companions=recording)
        parts = [whole]
        if len(slices) > 1:
            parts = [
                loss(
                    {name: value[part] if value.ndim else value for name, value in outputs.items()},
                    replace(
                        batch,
                        targets={name: value[part] for name, value in batch.targets.items()},
                        group=batch.group[part],
                        text_key=batch.text_key[part],
                    ),
                    spoken=spoken[part],
                    companions=Recorded(part.start, recording.seen),
                )
                for part in slices
            ]
        torch.stack([part.training.sum() for part in parts]).sum().backward()
        values.append(
            [torch.cat([getattr(part, name).detach() for part in parts]) for name in ("training", "reported", "defined")]
        )
        gradients.append([value.grad.clone() for value in model.parameters() if value.grad is not None])
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-12)


@every_row
def test_half_precision_is_brought_to_full(row: type[Section]) -> None:
    model, objective = built(row)
    batch = batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(batch.inputs, batch.labelled, batch.keys)
    found = objective(outputs, batch)
    assert {value.dtype for value in outputs.pretext["t"].values() if value.is_floating_point()} == {torch.float32}
    assert found.training["t"].dtype == found.reported["t"].dtype == torch.float32
    torch.testing.assert_close(found.reported["t"], terms(model, objective, batch).reported["t"], rtol=0.1, atol=0.2)


@every_row
def test_it_learns_to_align_eight_samples(row: type[Section]) -> None:
    """The modalities of a sample are views of one hidden vector, and its class a half space of it."""
    model, objective = built(row)
    hidden = torch.randn(B, 6, generator=torch.Generator().manual_seed(9))
    batch = batch_of()
    for number, (name, dim) in enumerate(DIMS.items()):
        view = torch.randn(6, dim, generator=torch.Generator().manual_seed(20 + number))
        values = (hidden @ view)[:, None].expand(B, 3, dim)
        batch.inputs[name] = MaskedSequence(values, torch.ones(B, 3, dtype=torch.bool))
    batch.targets["funny"] = (hidden[:, 0] > 0).float()
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.02)
    curve = []
    for _ in range(STEPS.get(config_of(row).name, 60)):
        optimizer.zero_grad()
        loss = terms(model, objective, batch).training["t"].mean()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    best = {"supervised_contrastive": 0.85}.get(config_of(row).name, 0.5)  # whose least value is above 0
    assert curve[-1] < best * curve[0], curve[::10]


@every_row
def test_chance_is_finite_and_knows_the_modalities(row: type[Section]) -> None:
    loss = config_of(row).build_loss(modalities=tuple(DIMS), tasks=TASKS)
    present = {"audio": np.ones(10, bool), "video": np.arange(10) < 4, "face": np.zeros(10, bool)}
    for companions in (1, 2, 32):
        assert 0 <= loss.chance(present, companions=companions) < 100
    found = config_of(row).speaks(present, {"funny": np.arange(10) % 2 == 0})
    pairs = [n % 2 == 0 if config_of(row).needed_tasks else n < 4 for n in range(10)]
    assert found.tolist() == (pairs if row is not MaskedModellingConfig else [True] * 10)  # which asks for one modality


@every_row
def test_which_end_of_its_metrics_is_the_better_one(row: type[Section]) -> None:
    """Recalls and accuracies are higher the better, losses and ranks lower; a matrix that picks the best goes by it."""
    loss = config_of(row).build_loss(modalities=tuple(DIMS), tasks=TASKS)
    names = [name.rpartition("/")[2] for name in known_metrics({}, {"t": loss})]
    higher = [name for name in names if not is_lower_better(name)]
    assert all("recall@" in name or name == "accuracy" for name in higher)
    assert sum("recall@" in name for name in names) == sum("recall@" in name for name in higher)
    assert ("accuracy" in names) == ("accuracy" in higher)
    assert {"loss", "loss_q95"} <= set(names) - set(higher)
