"""`mmtrain tune search`: trials by several processes, what a killed one leaves, early stopping, and the best one's words."""

import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import CONTEXT, Life, cut, live, weights

from mmtrain.cli import main
from mmtrain.errors import ConfigError
from mmtrain.tuning.search_space import Range
from mmtrain.tuning.study import Candidate, Study

NEEDS = "optuna is not installed: pip install 'mmtrain[search]'"
SPACE = {"training.optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "model.dim": {"choices": [4, 8]}}


@pytest.fixture
def searched(fields: Path) -> tuple[Path, Path]:
    """An experiment with two evaluations, and a search file."""
    values = yaml.safe_load(fields.read_text())
    values["training"]["epochs"], values["selection"] = 2, {"metric": "val/loss", "mode": "min"}
    fields.write_text(yaml.safe_dump(values))
    space = fields.with_name("search.yaml")
    space.write_text(yaml.safe_dump(SPACE))
    return fields, space


def search(files: tuple[Path, Path], *words: str, **named: Any) -> Life:
    return live(["tune", "search", *map(str, files), *words], cwd=files[0].parent, **named)


def cut_in_second_trial(at: int) -> None:
    from mmtrain.tuning import search

    whole, begun = search.train_loaded, []

    def train_loaded(*arguments: Any, **named: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            cut(at=at, how=signal.SIGKILL)
        return whole(*arguments, **named)

    search.train_loaded = train_loaded


@pytest.mark.slow
def test_killed_and_started_again_it_ends_as_if_nothing_had_been(searched: tuple[Path, Path]) -> None:
    pytest.importorskip("optuna", reason=NEEDS)
    words = ["--trials", "3", "--startup", "9"]
    whole = search(searched, "name=whole", *words)
    assert whole.code == 0, whole.err
    assert search(searched, "name=parted", *words, patch=partial(cut_in_second_trial, 5)).code == -signal.SIGKILL
    again = search(searched, "name=parted", *words)
    assert again.code == 0, again.err
    assert "resumed from" in again.out
    folder = searched[0].parent / "runs"
    for number in (1, 2, 3):
        assert len({weights(searched[0], f"{name}/trial-{number:04d}") for name in ("whole", "parted")}) == 1
    found = [json.loads((folder / name / "search.json").read_text()) for name in ("whole", "parted")]
    assert found[0] == found[1]
    assert [trial["state"] for trial in found[0]] == ["complete"] * 3
    best = min(found[0], key=lambda trial: trial["value"])
    said = again.out.splitlines()
    assert said[-2] == f"best of 3: trial-{best['trial']:04d}, val/loss {best['value']:.4f}"
    lr = best["values"]["training.optimizer.lr"]
    assert said[-1] == f"model.dim={best['values']['model.dim']} training.optimizer.lr={lr}"
    check_trial(searched[0], folder / "whole", best, said[-1].split())


def check_trial(file: Path, folder: Path, best: dict[str, Any], words: list[str]) -> None:
    """A trial is a run: its config holds its values, and the printed overrides train the same weights."""
    run = folder / f"trial-{best['trial']:04d}"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["training"]["optimizer"]["lr"] == best["values"]["training.optimizer.lr"]
    alone = live(["train", "--config", str(file), *words, "name=alone"], cwd=file.parent)
    assert alone.code == 0, alone.err
    assert weights(file, "alone") == weights(file, f"whole/{run.name}")


@pytest.mark.slow
def test_two_processes_share_the_trials(searched: tuple[Path, Path]) -> None:
    pytest.importorskip("optuna", reason=NEEDS)
    workers = []
    for number in (1, 2):
        place = searched[0].parent / f"worker-{number}"
        place.mkdir()
        words = ["tune", "search", *map(str, searched), "--trials", "5", "--startup", "9"]
        workers.append(CONTEXT.Process(target=live_in, args=(words, place)))
        workers[-1].start()
    for worker in workers:
        worker.join(150)
        assert worker.exitcode == 0
    folder = searched[0].parent / "runs" / "run"
    assert sorted(path.name for path in folder.glob("trial-*")) == [f"trial-{number:04d}" for number in range(1, 6)]
    found = json.loads((folder / "search.json").read_text())
    assert [trial["state"] for trial in found] == ["complete"] * 5


def live_in(words: list[str], place: Path) -> None:
    from lives import _life

    _life(words, place, 0, {}, None)


def small(folder: Path, **settings: Any) -> Study:
    return Study(folder, **{"origin": {"a": 1}, "mode": "min", "startup": 2, "seed": 3, **settings})


def test_a_trial_is_one_processes_and_is_taken_over_when_it_is_let_go(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason=NEEDS)
    space = {"lr": Range(low=0.1, high=0.9)}
    one, other = small(tmp_path), small(tmp_path)
    with one.next(space, 2) as first:
        assert first is not None
        with other.next(space, 2) as second:
            assert second is not None
            assert (first.name, first.begun, second.name, second.begun) == ("trial-0001", False, "trial-0002", False)
            assert first.values != second.values
            with other.next(space, 2) as third:
                assert third is None
            other.finish(second, 1.0)
    with other.next(space, 2) as taken:  # as after a kill: running in the study, and held by nobody
        assert taken is not None
        assert (taken.name, taken.begun, taken.values) == ("trial-0001", True, first.values)
        other.finish(taken, 2.0)
    best = one.best()
    assert best is not None
    assert best.value == 1.0


def drawn(folder: Path, *, reopened: bool) -> list[float]:
    study, values = small(folder), []
    for _ in range(3):
        study = small(folder) if reopened else study
        with study.next({"lr": Range(low=0.1, high=0.9)}, 9) as candidate:
            assert candidate is not None
            values.append(candidate.values["lr"])
            study.finish(candidate, None)
    return values


def test_what_is_drawn_does_not_depend_on_restarts(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason=NEEDS)
    assert drawn(tmp_path / "a", reopened=False) == drawn(tmp_path / "b", reopened=True)
    assert len(set(drawn(tmp_path / "c", reopened=False))) == 3


def test_a_trial_below_the_median_is_stopped(tmp_path: Path) -> None:
    """Complete ones reached 1, 2 and 9 at their first evaluation: the median is 2."""
    pytest.importorskip("optuna", reason=NEEDS)
    study, space = small(tmp_path), {"lr": Range(low=0.1, high=0.9)}

    def trial(value: float, use: Callable[[Candidate], None]) -> bool:
        with study.next(space, 9) as candidate:
            assert candidate is not None
            prunes = candidate.prunes(1, value)
            use(candidate)
            return prunes

    for value in (1.0, 2.0, 9.0):
        trial(value, lambda candidate, value=value: study.finish(candidate, value))
    assert not trial(2.0, lambda candidate: study.finish(candidate, 2.0))
    assert trial(2.1, lambda candidate: study.finish(candidate, 2.1, pruned=True))
    assert study.trials()[-1].state.name == "PRUNED"


def stop_second_trial() -> None:
    """Let the second trial be told to stop at its first evaluation."""
    Candidate.prunes = lambda self, *_: self.number == 2


def test_a_stopped_trial_ends_there(searched: tuple[Path, Path]) -> None:
    pytest.importorskip("optuna", reason=NEEDS)
    life = search(searched, "--trials", "2", patch=stop_second_trial)
    assert life.code == 0, life.err
    assert "trial-0002: stopped, below the median of the others" in life.out
    folder = searched[0].parent / "runs" / "run"
    states = [trial["state"] for trial in json.loads((folder / "search.json").read_text())]
    assert states == ["complete", "pruned"]
    ends = [(folder / f"trial-000{number}" / "checkpoints" / "last").resolve().name for number in (1, 2)]
    assert ends == ["step-00000008", "step-00000004"]
    assert "pruned" in (folder / "search.md").read_text()


def test_refusals_and_failed_trials(searched: tuple[Path, Path]) -> None:
    pytest.importorskip("optuna", reason=NEEDS)
    file, space = searched
    space.write_text("training.optimizer.lrr: {low: 1, high: 2}")
    assert "unknown key; did you mean" in search(searched).err
    assert not (file.parent / "runs").exists()
    space.write_text("model.fusion: {choices: [{name: concat}, {name: attention, heads: 3}]}")
    life = search(searched, "--trials", "6")
    assert life.code == 0, life.err
    assert "failed: model.fusion: dim 8 is not a multiple of heads 3" in life.out
    assert """'model.fusion={"name": "concat"}'""" in life.out.splitlines()[-1], life.out
    refused = search(searched, "--trials", "9", "training.clipping.max_norm=3")
    assert refused.code == 2
    assert "study.db was made from another experiment or search file" in refused.err
    with pytest.raises(ConfigError, match="choose another name"):
        small(file.parent / "runs" / "run")


def second_trial_is_too_large(error: str) -> None:
    import torch

    from mmtrain.tuning import search

    whole, begun = search.train_loaded, []

    def train_loaded(*arguments: Any, **named: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            raise torch.OutOfMemoryError(error) if error.startswith("CUDA") else RuntimeError(error)
        return whole(*arguments, **named)

    search.train_loaded = train_loaded


@pytest.mark.parametrize(
    ("error", "code"), [("CUDA out of memory. Tried to allocate 2 GiB", 0), pytest.param("a bug", 1, marks=pytest.mark.slow)]
)
def test_a_trial_that_does_not_fit_in_memory_fails_alone(searched: tuple[Path, Path], error: str, code: int) -> None:
    """Left under way, it would be taken up again by whoever goes on with the study, and end that one too."""
    pytest.importorskip("optuna", reason=NEEDS)
    life = search(searched, "--trials", "2", patch=partial(second_trial_is_too_large, error))
    assert life.code == code, life.err
    if code == 0:
        assert f"trial-0002 failed: {error}" in life.out
        records = json.loads((searched[0].parent / "runs" / "run" / "search.json").read_text())
        assert [record["state"] for record in records] == ["complete", "fail"]


def test_without_optuna(
    searched: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit):
        main(["tune", "search", *map(str, searched)])
    assert "pip install 'mmtrain[search]'" in capsys.readouterr().err
