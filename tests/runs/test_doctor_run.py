"""`mmtrain doctor` on runs: what is well raises no alarm, every planted fault is found by its words, and nothing is left."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lives import live
from torch import Tensor, nn

from data_prep.synth import synthesize
from mmtrain.build import build_run
from mmtrain.config import load_experiment
from mmtrain.data.batch import MaskedSequence
from mmtrain.data.writer import StoreWriter
from mmtrain.doctor import CHECKS, overfitting
from mmtrain.doctor.case import Case, Deadline, unchanged
from mmtrain.doctor.examine import perform
from mmtrain.doctor.finding import Finding
from mmtrain.doctor.throughput import num_evaluations
from mmtrain.engine.step import train_step
from mmtrain.errors import DataError
from mmtrain.training import build_accelerator

Build = Callable[..., Case]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment file over one sound store of two tasks."""
    root = tmp_path_factory.mktemp("healthy")
    tasks: dict[str, Any] = {"funny": "binary", "mood": "multiclass"}
    synthesize(root / "clips", name="clips", samples=240, modalities={"audio": 6, "video": 5}, tasks=tasks, seed=1)
    return _write(root, ["funny", "mood"])


def _write(root: Path, tasks: list[str]) -> Path:
    experiment = {
        "name": "x",
        "runs": str(root / "runs"),
        "datasets": {"clips": {"store": str(root / "clips")}},
        "streams": {"clips": {"dataset": "clips", "tasks": tasks}},
        "model": {
            "dim": 16,
            "sequences": {"audio": {"name": "linear"}, "video": {"name": "linear"}},
            "fusion": {"name": "concat"},
        },
        "curriculum": {"window": 10},
        "batch": {"size": 16, "prefetch": 0},
        "training": {"epochs": 1, "optimizer": {"lr": 0.01}},
    }
    file = root / "x.yaml"
    file.write_text(yaml.safe_dump(experiment))
    return file


@pytest.fixture
def case_of(healthy: Path) -> Iterator[Build]:
    """The case of the sound experiment, with changes."""
    built: list[Case] = []

    def build(*words: str) -> Case:
        experiment = load_experiment(healthy, list(words))
        run = build_run(experiment, build_accelerator(experiment), None, on_disk=False)
        built.append(Case(experiment, run, seconds=20.0))
        return built[-1]

    yield build
    for case in built:
        case.run.close()


def alarms(findings: list[Finding]) -> list[str]:
    return [f"{finding.severity}: {finding.found}" for finding in findings if finding.severity in ("warning", "problem")]


class Squashed(nn.Module):
    """A head that ends in a softmax, or a sigmoid."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, joint: Tensor, labelled: Tensor | None = None) -> Tensor:
        logits = self.head(joint, labelled)
        return logits.softmax(dim=1) if logits.shape[1] > 1 else logits.sigmoid()


class Detached(nn.Module):
    """An encoder whose rows lead back to nothing."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, rows: MaskedSequence) -> MaskedSequence:
        values, mask = self.encoder(rows)
        return MaskedSequence(values.detach(), mask)


class Deaf(nn.Module):
    """A fusion that multiplies what it is given of audio by 0."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, encoded: dict[str, MaskedSequence]) -> Any:
        audio = encoded["audio"]
        return self.fusion({**encoded, "audio": MaskedSequence(audio.values * 0, audio.mask)})


def test_a_sound_run_raises_no_alarm_and_is_left_as_it_was(case_of: Build, healthy: Path) -> None:
    before = sorted(healthy.parent.rglob("*"))
    case = case_of()
    weights = {name: value.clone() for name, value in case.run.model.state_dict().items()}
    curriculum = json.dumps(case.run.curriculum.state_dict())
    for name in CHECKS:
        findings = perform(name, case)
        assert findings
        assert {finding.check for finding in findings} == {name}
        assert alarms(findings) == [], name
    assert all(torch.equal(value, weights[name]) for name, value in case.run.model.state_dict().items())
    assert json.dumps(case.run.curriculum.state_dict()) == curriculum
    assert case.run.optimizer.state_dict()["state"] == {}
    assert all(parameter.grad is None for parameter in case.run.model.parameters())
    assert sorted(healthy.parent.rglob("*")) == before


def test_what_was_tried_on_a_run_is_put_back(case_of: Build) -> None:
    """The run trains, behind a check, as one that was never looked at."""
    found = []
    for looks in (False, True):
        case = case_of("curriculum.weighting={name: gradnorm}", "training.average={name: ema}")
        if looks:
            for name in ("gradient_reach", "overfit", "lr_range", "throughput"):
                perform(name, case)
        torch.manual_seed(0)
        case.run.model.train()
        for inputs in case.batches(3):
            values, _ = train_step(case.run, inputs)
        found.append((float(values.objective), case.run.average.count if case.run.average else 0, dict(values.lr)))
    assert found[0] == found[1]


def test_random_numbers_and_modes_are_put_back_too(case_of: Build) -> None:
    run = case_of().run
    run.model.eval()
    run.model.get_submodule("fusion").train()
    state = torch.get_rng_state()
    with unchanged(run):
        run.model.train()
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert not run.model.training
    assert run.model.get_submodule("fusion").training


@pytest.mark.parametrize("seconds", [20.0, 0.0])
def test_a_softmax_before_the_cross_entropy(case_of: Build, seconds: float) -> None:
    case = case_of()
    heads: Any = case.run.model.get_submodule("heads")
    heads["mood_head"] = Squashed(heads["mood_head"])
    case = Case(case.experiment, case.run, seconds=seconds)  # a batch is read even where there is no time at all
    (found,) = alarms(perform("initial_loss", case))
    assert found.startswith("problem: mood: every row of its ")
    assert found.endswith(
        "logits lies from 0 to 1 and sums to 1: a softmax stands before the cross-entropy, whose loss then cannot fall "
        "below 0.55"
    )


@pytest.mark.slow
def test_a_sigmoid_before_the_cross_entropy(case_of: Build) -> None:
    case = case_of("training.optimizer.lr=0.1")
    heads: Any = case.run.model.get_submodule("heads")
    heads["funny_head"] = Squashed(heads["funny_head"])
    (found,) = alarms(perform("overfit", case))
    assert found.startswith("problem: funny: one batch cannot be learned by heart")
    assert found.endswith("all logits lie from 0 to 1: a softmax or sigmoid stands before the loss")


def test_what_is_frozen_detached_or_ignored(case_of: Build) -> None:
    case = case_of()
    model: Any = case.run.model
    model.sequences["audio_encoder"] = Detached(model.sequences["audio_encoder"])
    assert any(
        "get no gradient from any task: sequences.audio_encoder" in words
        for words in alarms(perform("gradient_reach", case))
    )
    deaf = case_of()
    deaf_model: Any = deaf.run.model
    deaf_model.fusion = Deaf(deaf_model.fusion)
    found = alarms(perform("gradient_reach", deaf))
    assert any("modality 'audio' has no influence" in words for words in found)
    assert any("get a gradient of exactly 0 from every task: sequences.audio_encoder" in words for words in found)
    deaf_model.requires_grad_(False)
    assert alarms(perform("gradient_reach", deaf))[0].endswith("parameters is trained: all are frozen")
    for name in ("overfit", "lr_range", "throughput"):
        (finding,) = perform(name, deaf)
        assert finding.found.endswith("no parameter is trained; see gradient_reach")


def test_a_batch_is_learned_without_dropout_at_the_rate_that_is_tried(
    case_of: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def step(run: Any, inputs: Any) -> Any:
        values, updated = train_step(run, inputs)
        seen.append((run.model.training, list(values.lr.values())))
        return values, updated

    monkeypatch.setattr(overfitting, "train_step", step)
    case = case_of("model.fusion={name: concat, dropout: 0.5}", "training.optimizer.lr=0.02")
    with unchanged(case.run) as run:
        run.model.train()
        inputs = case.batches(1)[0]
        goals = {"funny": 0.0}
        attempt = overfitting.overfit(run, inputs, factor=3.0, lr=0.06, goals=goals, deadline=Deadline(0.0))
    assert attempt.steps == len(seen) == 20  # the fewest, where there is no time
    assert all(rates == [pytest.approx(0.06)] * len(rates) and not training for training, rates in seen)


@pytest.mark.slow
def test_labels_that_no_input_tells_apart(case_of: Build) -> None:
    """Every sample has the same rows."""
    case = case_of()
    for stream in case.run.train_streams:
        whole = stream.samples
        rows = {name: np.ones((2, dim), np.float32) for name, dim in (("audio", 6), ("video", 5))}

        def samples(positions: Any, whole: Any = whole, rows: Any = rows) -> Any:
            from dataclasses import replace

            return [replace(sample, features=rows) for sample in whole(positions)]

        stream.samples = samples  # type: ignore[method-assign]
    found = alarms(perform("overfit", case))
    assert len(found) == 2
    assert all("one batch cannot be learned by heart" in words for words in found)


@pytest.mark.slow
def test_a_learning_rate_of_ten_and_one_of_a_ten_millionth(case_of: Build) -> None:
    found = alarms(perform("lr_range", case_of("training.optimizer.lr=10")))
    assert any("training.optimizer.lr is 10, and the loss diverges at" in words for words in found)
    case = case_of("training.optimizer.lr=1e-7")
    (finding,) = perform("lr_range", case)
    assert "times below the fastest fall, so learning may be slow" in finding.found
    assert alarms(perform("overfit", case))[0].endswith("the rate may be low")


def test_a_length_that_is_not_grouped(case_of: Build) -> None:
    (finding,) = perform("padding", case_of("curriculum.group_by_length=false"))
    assert (finding.severity, finding.fix) == ("note", "curriculum.group_by_length: true")


def test_evaluations_are_counted_as_the_loop_makes_them(case_of: Build) -> None:
    for words in (
        (),
        ("training.eval_every=10", "training.epochs=3"),
        ("training.steps_per_epoch=25", "training.eval_every=10"),
    ):
        settings = case_of(*words).run.settings
        step = count = 0
        while step < settings.total_steps:
            step, count = settings.next_evaluation(step), count + 1
        assert num_evaluations(settings) == count


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of many faults: groups on two sides, copied samples, large features, one class, an absent class."""
    root, random = tmp_path_factory.mktemp("faulty"), np.random.default_rng(0)
    modalities: Any = {
        name: {"dim": 4, "dtype": "float32", "extractor": "e", "extractor_version": "1"} for name in ("audio", "video")
    }
    tasks: Any = {"same": {"kind": "binary"}, "mood": {"kind": "multiclass", "classes": ["a", "b", "c"]}}
    copied = 1e4 * random.standard_normal((3, 4))
    with StoreWriter(root / "clips", name="clips", modalities=_specs(modalities), tasks=_tasks(tasks)) as writer:
        for number in range(60):
            split = "train" if number < 40 else "val" if number < 50 else "test"
            rows = copied if number in (5, 45) else 1e4 * random.standard_normal((3, 4))
            video = random.standard_normal((2, 4))
            video[0] = 0.0
            labels: Any = {"same": 1, "mood": number % 3 if number < 40 else number % 2}
            writer.add(
                id=f"c{number}",
                split=split,
                group=f"film-{number % 20}",
                text="",
                features={"audio": rows, "video": video},
                labels=labels,
            )
    return _write(root, ["same", "mood"])


def _specs(modalities: Any) -> Any:
    from mmtrain.data.schema import FeatureSpec

    return {name: FeatureSpec.model_validate(values) for name, values in modalities.items()}


def _tasks(tasks: Any) -> Any:
    from mmtrain.data.schema import TaskSchema

    return {name: TaskSchema.model_validate(values) for name, values in tasks.items()}


def test_the_command_finds_what_is_wrong_with_a_store(faulty: Path, tmp_path: Path) -> None:
    words = [
        "--only",
        "group_leakage",
        "--only",
        "label_balance",
        "--only",
        "input_scale",
        "--json",
        str(tmp_path / "found.json"),
    ]
    life = live(["doctor", str(faulty), *words], cwd=tmp_path)
    assert (life.code, life.err) == (1, "")
    for expected in (
        "label_balance: problem: same: all 40 training labels are of class 1: there is nothing to learn",
        "label_balance: warning: mood: no validation label is of class c: metrics say nothing of it",
        "group_leakage: problem: clips: 20 of 20 groups stand in more than one split, such as 'film-0'",
        "group_leakage: warning: audio rows: 1 of 20 samples of val and test (5.0%) have the audio rows of a training "
        "sample, such as 'c45' those of 'c5'",
        "where layers are made for about 1: too large",
        "input_scale: warning: clips/video: 50.0% of the rows are all zero",
        "    fix: divide anew: python -m data_prep split STORE --out NEW --stratify mood",
    ):
        assert expected in life.out, life.out
    assert "label_balance: ok: clips/same" not in life.out  # beside a problem of the same task
    assert "label_balance: ok: clips/mood" in life.out
    record = json.loads((tmp_path / "found.json").read_text())
    assert (record["experiment"], record["worst"]) == ("x", "problem")
    assert set(record["findings"][0]) == {"check", "severity", "found", "fix"}
    assert {finding["check"] for finding in record["findings"]} == {"group_leakage", "label_balance", "input_scale"}
    assert not (faulty.parent / "runs").exists()


@pytest.mark.slow
def test_the_command_says_nothing_bad_of_a_sound_store_and_leaves_nothing(healthy: Path, tmp_path: Path) -> None:
    before = sorted(healthy.parent.rglob("*"))
    changes = ["training.optimizer.lr=0.005", "training.compile=true"]  # of which single modules would tell nothing
    life = live(["doctor", str(healthy), *changes, "--seconds", "15"], cwd=tmp_path)
    assert (life.code, life.err) == (0, "")
    lines = [line for line in life.out.splitlines() if not line.startswith("    fix: ")]
    assert list(dict.fromkeys(line.split(":")[0] for line in lines[:-1])) == list(CHECKS)
    assert lines[-1].startswith("0 problems, 0 warnings, ")
    assert sorted(healthy.parent.rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {"out-0.txt", "err-0.txt"}


def test_refusals(healthy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmtrain.cli import main

    def doctor(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["doctor", *words])
        assert end.value.code == 2
        return capsys.readouterr().err

    assert "--only paddin: there is no such check" in doctor(str(healthy), "--only", "paddin")
    assert "training.epochs" in doctor(str(healthy), "training.epochs=0")
    assert "none.yaml" in doctor(str(tmp_path / "none.yaml"))
    nowhere = tmp_path / "no" / "x.json"
    assert f"--json {nowhere}: there is no folder {nowhere.parent}; make it" in doctor(str(healthy), "--json", str(nowhere))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("sample 'c1': NaN or Inf in audio"), "sample 'c1': NaN or Inf in audio"),
        (RuntimeError("shapes"), "a step fails with RuntimeError: shapes"),
        (ValueError("logits"), "a step fails with ValueError: logits"),
    ],
)
def test_what_a_check_cannot_go_past_is_its_finding(
    case_of: Build, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fails(_case: Case) -> list[Finding]:
        raise error

    monkeypatch.setitem(CHECKS, "overfit", fails)
    (finding,) = perform("overfit", case_of())
    assert (finding.severity, finding.found) == ("problem", words)


class Averaged:
    """A loss that reduces over the batch."""

    kind = "binary"

    def __init__(self, loss: Any) -> None:
        self.reported, self.chance, self._loss = loss.reported, loss.chance, loss

    def training(self, logits: Tensor, targets: Tensor) -> Tensor:
        mean: Tensor = self._loss.training(logits, targets).mean()
        return mean


def test_a_wrong_reduction(case_of: Build) -> None:
    case = case_of()
    case.run.objective.losses["funny"] = Averaged(case.run.objective.losses["funny"])  # type: ignore[assignment]
    (found,) = alarms(perform("initial_loss", case))
    assert found.startswith("problem: funny: its loss does not give one value a sample: shape [] for ")


def test_a_step_that_takes_too_long_is_not_tried(case_of: Build) -> None:
    case = case_of()
    case.__dict__["seconds_per_step"] = 10.0
    for name in ("overfit", "lr_range"):
        (finding,) = perform(name, case)
        assert (finding.severity, finding.found[:10]) == ("note", "not tried:")


def test_a_text_encoder_is_read_without_its_cache(healthy: Path, tiny_bert: Path, tmp_path: Path) -> None:
    from mmtrain.doctor.examine import as_examined

    text = f"model.text={{name: transformers, path: {tiny_bert}, trainable_layers: 0, cache: true, max_tokens: 12}}"
    experiment = load_experiment(healthy, [text, f"cache={tmp_path / 'cache'}"])
    plain = as_examined(experiment)
    assert plain.model.text is not None
    assert not plain.model.text.cache
    assert as_examined(plain) == plain
    run = build_run(plain, build_accelerator(plain), None, on_disk=False)
    case = Case(plain, run, seconds=20.0)
    assert alarms(perform("gradient_reach", case) + perform("padding", case) + perform("group_leakage", case)) == []
    assert any(finding.found.startswith("frozen parameters: text.encoder") for finding in perform("gradient_reach", case))
    assert "text " in perform("padding", case)[0].found
    assert not (tmp_path / "cache").exists()
    run.close()
