"""A run that was cut, anywhere, and resumed in a new process ends as the run that was not."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lives import cut, live, results

LAST = (
    20  # steps of the base experiment: windows of 4 in epochs of 10, evaluations at 8, 10, 18, ..., checkpoints at 3, 6, ...
)
KILL, INTERRUPT = signal.SIGKILL, signal.SIGINT


def train(file: Path, name: str, *flags: str, patch: Callable[[], Any] | None = None) -> tuple[int, str]:
    life = live(["train", "--config", str(file), *flags, f"name={name}"], cwd=file.parent, patch=patch)
    return life.code, life.out + life.err


@pytest.fixture(scope="module")
def whole(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The experiment's file, and the results of the run that nothing cut."""
    import yaml

    folder = tmp_path_factory.mktemp("resume")
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(base_experiment | {"runs": str(folder / "runs")}))
    code, said = train(file, "whole")
    assert code == 0, said
    found = results(folder / "runs" / "whole")
    assert found["best"] != f"step-{LAST:08d}"
    return file, found


def cut_and_resume(whole: tuple[Path, dict[str, str]], name: str, cuts: list[tuple[int, int]]) -> None:
    """One life for every (step, signal), and a last one to the end."""
    file, expected = whole
    for number, (at, how) in enumerate(cuts):
        code, said = train(file, name, *(["--resume"] if number else []), patch=partial(cut, at=at, how=how))
        assert code == (130 if how == INTERRUPT else -how), said
        if how == INTERRUPT:
            assert f"stopped at step {at + 1}; the run is saved. Continue with the same command and --resume" in said
            last = (file.parent / "runs" / name / "checkpoints" / "last").resolve().name
            assert last == f"step-{at + 1:08d}"
    code, said = train(file, name, "--resume")
    assert code == 0, said
    assert results(file.parent / "runs" / name) == expected


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param(
            [(4, KILL)], id="killed in the middle of a window, one step after its checkpoint", marks=pytest.mark.slow
        ),
        pytest.param([(7, INTERRUPT)], id="interrupted where an evaluation falls"),
        pytest.param([(12, INTERRUPT), (16, KILL)], id="twice within the second epoch"),
        pytest.param([(4, INTERRUPT), (9, INTERRUPT)], id="within a window, then at an epoch's end", marks=pytest.mark.slow),
        pytest.param([(1, KILL)], id="killed before the first checkpoint: starts anew", marks=pytest.mark.slow),
    ],
)
def test_resumed_run_equals_whole_run(whole: tuple[Path, dict[str, str]], cuts: list[tuple[int, int]]) -> None:
    cut_and_resume(whole, "cut-" + "-".join(f"{at}.{how}" for at, how in cuts), cuts)


@pytest.mark.slow
@pytest.mark.parametrize("how", [KILL, INTERRUPT])
@pytest.mark.parametrize("at", [0, 3, 5, 8, 9, 13, 15, 18])
def test_resumed_run_equals_whole_run_wherever_it_was_cut(whole: tuple[Path, dict[str, str]], at: int, how: int) -> None:
    cut_and_resume(whole, f"at-{at}-{how}", [(at, how)])


def forget_random_state() -> None:
    from mmtrain.engine import saving

    saving.put_back_random_state = lambda *_, **__: None


def forget_rewind() -> None:
    from mmtrain.engine.jsonl import JsonLines

    JsonLines.rewind = lambda *_: None


def forget_optimizer() -> None:
    from mmtrain.engine import saving

    saving.load_optimizer_state = lambda *_: None


def forget_samples() -> None:
    from mmtrain import training

    resume = training.resume_run

    def resume_without_samples(run: Any) -> Any:
        state = resume(run)
        state.log.clear()
        return state

    training.resume_run = resume_without_samples


@pytest.mark.parametrize(
    ("mutation", "differs"),
    [
        (forget_random_state, "model.safetensors"),
        pytest.param(forget_optimizer, "model.safetensors", marks=pytest.mark.slow),
        pytest.param(forget_rewind, "metrics.jsonl", marks=pytest.mark.slow),
        pytest.param(forget_samples, "curriculum.jsonl", marks=pytest.mark.slow),
    ],
)
def test_what_a_resume_forgets_is_seen(
    whole: tuple[Path, dict[str, str]], mutation: Callable[[], None], differs: str
) -> None:
    """Controls: each part of the state matters to the comparison above."""
    file, expected = whole
    name = mutation.__name__
    assert train(file, name, patch=partial(cut, at=4, how=KILL))[0] == -KILL
    code, said = train(file, name, "--resume", patch=mutation)
    assert code == 0, said
    assert results(file.parent / "runs" / name)[differs] != expected[differs]


def test_save_load_save_changes_nothing(whole: tuple[Path, dict[str, str]]) -> None:
    """A finished run resumed: it says so, trains nothing, and its checkpoint stays as it was."""
    file, _ = whole
    last = file.parent / "runs" / "whole" / "checkpoints" / "last" / "manifest.json"
    before = last.read_text()
    code, said = train(file, "whole", "--resume", patch=save_at_once)
    assert code == 0
    assert f"the run is finished already, at step {LAST}" in said
    assert last.read_text() == before


def save_at_once() -> None:
    from mmtrain import training
    from mmtrain.engine.saving import save

    resume = training.resume_run

    def resume_and_save(run: Any) -> Any:
        state = resume(run)
        save(run, state)
        return state

    training.resume_run = resume_and_save


@pytest.mark.slow
@pytest.mark.parametrize("how", [KILL, INTERRUPT])
def test_a_stage_that_ends_inside_a_window_resumes_to_the_same_end(
    whole: tuple[Path, dict[str, str]], tmp_path: Path, how: int
) -> None:
    """`exhausted: stop`, cut in its very last step: there the window's end is none that the settings know."""
    import yaml

    values = yaml.safe_load(whole[0].read_text())
    values["runs"] = str(tmp_path / "runs")
    values["curriculum"] |= {"window": 3, "exhausted": "stop", "sampler": {"name": "uniform"}}
    values["training"] |= {"checkpoint_every": 1, "eval_every": None}
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    code, said = train(file, "whole")
    assert code == 0, said
    expected = results(tmp_path / "runs" / "whole")
    end = json.loads(expected["state"])["step"]
    assert end < LAST
    assert end % 10 % 3, "the end lies inside a window, or this tests nothing"
    code, said = train(file, "parted", patch=partial(cut, at=end - 1, how=how))
    assert code == (0 if how == INTERRUPT else -how), said  # interrupted in the last step, it has nothing left to do
    code, said = train(file, "parted", "--resume")
    assert code == 0, said
    assert results(tmp_path / "runs" / "parted") == expected
