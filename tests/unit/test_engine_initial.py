"""Weights of an earlier run or a file in a new model: what fits, what is said of the rest, what is refused."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mmtrain.engine.checkpoint import Checkpoint, point, save_checkpoint
from mmtrain.engine.fitting import compare
from mmtrain.engine.initial import InitialWeights, read_initial
from mmtrain.engine.initial_config import InitialConfig
from mmtrain.engine.saving import stray_links
from mmtrain.engine.state import VERSION
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.models.encoders.text import TransformersTextConfig

ALONE: Any = SimpleNamespace(is_main_process=True, num_processes=1)


class Model(nn.Module):
    """An encoder with batch normalization, and two heads."""

    def __init__(self, width: int = 3, heads: tuple[str, ...] = ("funny", "mood")) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
        self.heads = nn.ModuleDict({name: nn.Linear(width, 1) for name in heads})


def weights(model: nn.Module, **named: Any) -> InitialWeights:
    state = {name: torch.full_like(value, 7) for name, value in model.state_dict().items()}
    return InitialWeights(state, origin="runs/a, step 3", source={}, **{"match": "strict", **named})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose best checkpoint is of step 2 and whose last one is of step 4; the second holds an average."""
    folder = tmp_path / "first"
    for step in (2, 4):
        model = {name: torch.full_like(value, step) for name, value in Model().state_dict().items()}
        average = {name: value + 1 for name, value in model.items()} if step == 4 else {}
        saved = Checkpoint({"model": model, "average": average}, {"version": VERSION, "step": step}, {})
        point(folder / "checkpoints", "best" if step == 2 else "last", save_checkpoint(folder / "checkpoints", step, saved))
    for name in ("config.yaml", "environment.json"):
        (folder / name).write_text("{}")
    return folder


def read(own: Path = Path("nowhere"), **named: Any) -> InitialWeights:
    return read_initial(InitialConfig.model_validate(named), own=own, accelerator=ALONE)


def complaint(own: Path = Path("nowhere"), **named: Any) -> str:
    with pytest.raises((ConfigError, CheckpointError)) as error:
        read(own, **named)
    return str(error.value)


def test_strict_copies_all_of_it_running_statistics_too() -> None:
    model = Model()
    fit = weights(model).load(model)
    assert all((value == 7).all() for value in model.state_dict().values())
    assert "encoder.1.running_mean" in fit.fitting
    assert fit.words() == f"{len(model.state_dict())} of {len(model.state_dict())} tensors"


def test_strict_refuses_what_differs_on_either_side_and_changes_nothing() -> None:
    model, before = Model(width=3, heads=("funny", "mood")), {}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = weights(Model(width=3, heads=("funny", "sad")))
    with pytest.raises(ConfigError) as error:
        other.load(model)
    assert str(error.value) == (
        "initial: runs/a, step 3 is of another model, which fits 9 of 11 tensors; not in the checkpoint: heads.mood (2); "
        "only in the checkpoint: heads.sad (2). Write initial.match=shapes to begin with what fits"
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for heads in (("funny",), ("funny", "mood", "sad")):
        with pytest.raises(ConfigError, match="of another model"):
            weights(Model(heads=heads)).load(model)
    with pytest.raises(ConfigError, match=r"encoder\.0\.weight \[4, 2\] there, \[3, 2\] here"):
        weights(Model(width=4)).load(model)


def test_shapes_loads_what_fits_by_name_and_shape_and_leaves_the_rest() -> None:
    model = Model(width=3, heads=("funny", "mood"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = Model(width=3, heads=("funny", "sad"))
    other.heads["funny"] = nn.Linear(3, 2)
    fit = weights(other, match="shapes").load(model)
    for name, value in model.state_dict().items():
        assert (value == 7).all() if name.startswith("encoder") else torch.equal(value, before[name]), name
    record = json.loads(json.dumps(fit.record()))
    assert record["not_in_the_checkpoint"] == ["heads.mood.weight", "heads.mood.bias"]
    assert record["only_in_the_checkpoint"] == ["heads.sad.weight", "heads.sad.bias"]
    assert record["of_another_shape"]["heads.funny.bias"] == {"there": [2], "here": [1]}
    assert len(record["loaded"]) == 7
    assert fit.words() == (
        "7 of 11 tensors; not in the checkpoint: heads.mood (2); of another shape: heads.funny.weight [2, 3] there, [1, 3] "
        "here, heads.funny.bias [2] there, [1] here; only in the checkpoint: heads.sad (2)"
    )


def test_names_are_gathered_by_the_highest_module_that_is_theirs_alone() -> None:
    def tensors(*names: str) -> dict[str, Tensor]:
        return {name: torch.zeros(1) for name in names}

    fit = compare(tensors("a.b.c.x", "a.b.c.y", "a.b.d.x", "a.e", "f.g.x", "h"), tensors("a.b.d.x"))
    assert fit.words() == "1 of 6 tensors; not in the checkpoint: a.b.c (2), a.e, f (1), h"
    many = compare(tensors("x", *(f"m{n}.w" for n in range(9))), tensors("x"))
    assert many.words().endswith("m0 (1), m1 (1), m2 (1), m3 (1), m4 (1), m5 (1) and 3 more")


def encoder(path: Path, lora: dict[str, Any] | None = None) -> nn.Module:
    return nn.ModuleDict({"text": TransformersTextConfig(path=str(path), max_tokens=16, lora=lora).build(dim=8)})


def test_a_layer_that_gets_an_adapter_begins_with_its_weights(tiny_bert: Path) -> None:
    plain, adapted = encoder(tiny_bert), encoder(tiny_bert, {"rank": 2, "targets": ["query"]})
    fit = weights(plain, match="shapes").load(adapted)
    assert {name for name in fit.fitting if "base_layer" in name} == {
        f"text.encoder.encoder.layer.{layer}.attention.self.query.base_layer.{part}"
        for layer in (0, 1)
        for part in ("weight", "bias")
    }
    assert all((value == 7).all() for name, value in adapted.state_dict().items() if "lora" not in name)
    assert (fit.unused, len(fit.absent), len(fit.fitting)) == ((), 4, len(plain.state_dict()))
    assert weights(adapted, match="strict").load(encoder(tiny_bert, {"rank": 2, "targets": ["query"]})).is_whole


@pytest.mark.parametrize("targets", [None, ["value"]])
def test_what_an_adapter_learned_is_not_lost_silently(tiny_bert: Path, targets: list[str] | None) -> None:
    adapted = encoder(tiny_bert, {"targets": ["query"]})
    model = encoder(tiny_bert, targets and {"targets": targets})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        weights(adapted, match="shapes").load(model)
    assert str(error.value) == (
        "initial: runs/a, step 3 has LoRA adapters in 2 layers that have none here (text.encoder.encoder.layer.0.attention."
        "self.query, ...); what they learned would be lost, and the file does not say by which factor it counts. Write "
        "text.lora as it was there, or begin with other weights"
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nothing_that_fits_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"nothing of runs/a, step 3 fits this model: 2 tensors \(weight, bias, \.\.\.\)"):
        weights(nn.Linear(2, 2), match="shapes").load(Model())


def test_the_checkpoint_and_the_weights_that_are_named_are_read(run: Path) -> None:
    best, last, step = (read(run=str(run), checkpoint=name) for name in ("best", "last", "step-00000002"))
    assert (best.source["step"], last.source["step"], best.origin) == (2, 4, f"{run}, step 2")
    assert (best.source, best.source["manifest"] == last.source["manifest"]) == (step.source, False)
    assert float(last.tensors["encoder.0.bias"][0]) == 4
    averaged = read(run=str(run), checkpoint="last", weights="average")
    assert float(averaged.tensors["encoder.0.bias"][0]) == 5
    assert averaged.source != last.source


def test_refusals_of_a_run(run: Path, tmp_path: Path) -> None:
    assert complaint(run, run=str(run)) == f"initial.run: {run} is this run itself; name an earlier one"
    assert complaint(run=str(tmp_path)) == (
        f"initial.run: {tmp_path} is not a run folder: it has no config.yaml; it holds the runs {run}: name one of them; "
        "train it first, or name another"
    )
    assert complaint(run=str(run), checkpoint="step-00000003") == (
        f"initial.checkpoint: {run} has no checkpoint 'step-00000003'; it has best, last, step-00000002, step-00000004"
    )
    assert complaint(run=str(run), weights="average") == (
        f"initial.weights: {run}: checkpoint 'best', of step 2, holds no average; training.average was null or had not "
        "begun; write trained"
    )


def test_a_damaged_or_hostile_checkpoint_is_not_read(run: Path, tmp_path: Path) -> None:
    model = run / "checkpoints/step-00000002/model.safetensors"
    whole = bytearray(model.read_bytes())
    whole[-1] ^= 1
    model.write_bytes(whole)
    assert "model.safetensors is damaged (its sha256 differs from the manifest)" in complaint(run=str(run))
    mark = tmp_path / "mark"
    model.write_bytes(pickle.dumps(Bomb(mark)))
    assert "model.safetensors is" in complaint(run=str(run))
    bomb = tmp_path / "weights.safetensors"
    bomb.write_bytes(pickle.dumps(Bomb(mark)))
    assert f"initial.file: {bomb} is damaged, or no safetensors file (" in complaint(file=str(bomb))
    assert not mark.exists()


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.mkdir, (self.mark,)


def test_a_file_of_weights(tmp_path: Path) -> None:
    model, other = Model(), Model()
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    initial = read(file=str(file))
    initial.load(other)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    assert set(initial.source) == {"sha256"}
    assert complaint(file=str(tmp_path / "no")) == f"initial.file: there is no file {tmp_path / 'no'}"
    assert complaint(file=str(tmp_path)) == f"initial.file: {tmp_path} cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "name either the folder of a `run` or a `file`, and not both"),
        ({"run": "a", "file": "b"}, "name either the folder of a `run` or a `file`, and not both"),
        ({"file": "b", "checkpoint": "last"}, "`checkpoint` and `weights` belong to a `run`"),
        ({"file": "b", "weights": "average"}, "`checkpoint` and `weights` belong to a `run`"),
    ],
)
def test_one_source(named: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InitialConfig.model_validate(named)


def test_links_that_a_kill_left_behind_are_seen(run: Path) -> None:
    """Behind the last checkpoint's writing `last` and `best` lead elsewhere for a moment."""
    root = run / "checkpoints"
    two, four = root / "step-00000002", root / "step-00000004"
    assert stray_links(four, best_step=2) == {}
    assert stray_links(four, best_step=4) == {"best": four}
    assert stray_links(two, best_step=2) == {"last": two}
    assert stray_links(four, best_step=3) == {}, "a checkpoint that could not be written is nothing to lead to"
    (root / "best").unlink()
    assert stray_links(four, best_step=2) == {"best": two}
