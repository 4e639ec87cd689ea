"""kill -9 at random moments, also while a checkpoint is written: resumed, the run ends bit for bit as the one left alone."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import live, live_together, results

# mixed data, accumulation, a task that comes later: two epochs of ten steps, evaluations inside them, saves at 3, 6, ...
CHANGES: dict[str, Any] = {
    "curriculum": {
        "window": 4,
        "sampler": {"name": "dynamic_difficulty", "temperature": 0.3, "floor": 0.1},
        "schedule": {
            "name": "staged",
            "unit": "steps",
            "phases": [{"tasks": ["funny", "mood"]}, {"tasks": ["pitch"], "start": 8}],
        },
    }
}
KILLED = (-signal.SIGKILL, -signal.SIGALRM)


def count_down(seconds: float) -> None:
    """The kernel ends this process after so long, wherever it is, as kill -9 would: nothing in it hears of it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))


def doom(*, how: str, number: int, seconds: float) -> None:
    """Let this process die `seconds` after the `number`-th call (from 1) of what `how` names has begun."""
    from mmtrain.engine import loop, run_folder, saving, step, validation

    owner: Any
    owner, name = {
        "beginning": (run_folder.RunFolder, "begin"),
        "training": (loop, "train_epoch"),
        "step": (loop, "train_step"),
        "micro-batch": (step, "_forward"),
        "evaluation": (validation, "evaluate"),
        "window": (loop, "close_window"),
        "save": (saving, "save"),
        "checkpoint": (saving.files, "save_checkpoint"),
        "pruning": (saving.files, "prune"),
    }[how]
    function, calls = getattr(owner, name), [0]

    def doomed(*arguments: Any, **words: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            count_down(seconds)
        return function(*arguments, **words)

    setattr(owner, name, doomed)
    if how == "save":
        loop.save = validation.save = doomed  # type: ignore[assignment]


def draw(source: random.Random) -> Callable[[], None]:
    """A way to die. A checkpoint of these runs takes some 5 ms to write, a step 10, the training a fifth of a second."""
    how, most, seconds = source.choice(
        [
            ("beginning", 1, 0.0005),
            ("training", 1, 0.2),
            ("step", 12, 0.01),
            ("micro-batch", 40, 0.003),
            ("evaluation", 3, 0.02),
            ("window", 4, 0.005),
            *[("checkpoint", 6, 0.008)] * 3,
            ("save", 6, 0.01),
            ("pruning", 5, 0.001),
        ]
    )
    return partial(doom, how=how, number=source.randint(1, most), seconds=source.uniform(0, seconds))


@pytest.fixture(scope="module")
def whole(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The experiment's file, and the results of the run that nothing cut."""
    folder = tmp_path_factory.mktemp("kills")
    values = base_experiment | {"runs": str(folder / "runs")} | CHANGES
    values["model"] = {key: value for key, value in values["model"].items() if key != "text"}
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    life = live(["train", "--config", str(file), "name=whole"], cwd=folder)
    assert life.code == 0, life.err
    windows = [json.loads(line)["active"] for line in (folder / "runs/whole/curriculum.jsonl").read_text().splitlines()]
    assert "pitch" not in windows[0], "the tasks change, or this tests less than it says"
    assert "pitch" in windows[-1]
    return file, results(folder / "runs" / "whole")


def kill_often(whole: tuple[Path, dict[str, str]], name: str, *, kills: int, seed: int, folder: Path) -> None:
    """Runs that are killed at random until `kills` kills have struck, each to its end and compared."""
    file, expected = whole
    source = random.Random(seed)
    struck = number = 0
    while struck < kills:
        number += 1
        arguments = ["train", "--config", str(file), f"name={name}-{number}"]
        run = file.parent / "runs" / f"{name}-{number}"
        while True:
            resumes = ["--resume"] if run.exists() else []
            life = live([*arguments, *resumes], cwd=folder, patch=draw(source) if struck < kills else None)
            if life.code == 0:
                break
            assert life.code in KILLED, life
            struck += 1
        assert results(run) == expected, f"seed {seed}, run {number}, {struck} kills"
        assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
        shutil.rmtree(run)


def test_kills_at_random_change_nothing(whole: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    kill_often(whole, "few", kills=4, seed=0, folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_kills_at_random_change_nothing(whole: tuple[Path, dict[str, str]], tmp_path: Path, seed: int) -> None:
    kill_often(whole, f"many-{seed}", kills=10, seed=seed, folder=tmp_path)


def save_plainly() -> None:
    """A mutation: files are written where they are to stand, and whatever is newest is taken as it is."""
    from mmtrain.engine import checkpoint, saving

    def save(root: Path, step: int, content: checkpoint.Checkpoint) -> Path:
        final = checkpoint.step_folder(root, step)
        final.mkdir(parents=True, exist_ok=True)
        checkpoint._write(final, content)
        return final

    checkpoint.save_checkpoint = save
    checkpoint.verify = lambda _: None
    assert saving.files is checkpoint


def save_plainly_and_die(*, after: int) -> None:
    """... and die while the second checkpoint is written, when `after` of its files are there."""
    save_plainly()
    import safetensors.torch

    save_file, calls = safetensors.torch.save_file, [0]

    def dying(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == 5 + after + 1:  # five files to a checkpoint
            os.kill(os.getpid(), signal.SIGKILL)
        save_file(*arguments)

    safetensors.torch.save_file = dying


@pytest.mark.slow
def test_a_plain_save_does_not_survive_this(whole: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Control: such kills break a run that writes its checkpoints in place."""
    file, expected = whole
    for after in (0, 2, 4):
        arguments = ["train", "--config", str(file), f"name=plain-{after}"]
        assert live(arguments, cwd=tmp_path, patch=partial(save_plainly_and_die, after=after)).code == -signal.SIGKILL
        life = live([*arguments, "--resume"], cwd=tmp_path, patch=save_plainly)
        assert life.code != 0 or results(file.parent / "runs" / f"plain-{after}") != expected, after


def doom_one(*, rank: str, **words: Any) -> None:
    if os.environ["RANK"] == rank:
        doom(**words)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_of_two_that_is_killed_takes_the_other_with_it_and_the_run_goes_on(
    whole: tuple[Path, dict[str, str]], tmp_path: Path, rank: str
) -> None:
    file, _ = whole
    source = random.Random(int(rank))

    def together(name: str, *flags: str, patch: Callable[[], None] | None = None) -> list[int]:
        arguments = ["train", "--config", str(file), f"name={name}", *flags]
        return [life.code for life in live_together(arguments, cwd=tmp_path, world=2, patch=patch, timeout=60)]

    name, alone = f"two-{rank}", f"two-{rank}-whole"
    assert together(alone) == [0, 0]
    for how in ("step", "checkpoint", "evaluation", "micro-batch"):
        number = 1 if how == "evaluation" else source.randint(1, 4)
        words = {"how": how if rank == "0" else "step", "number": number, "seconds": source.uniform(0, 0.008)}
        resumes = ["--resume"] if (file.parent / "runs" / name).exists() else []
        codes = together(name, *resumes, patch=partial(doom_one, rank=rank, **words))
        assert codes[int(rank)] in KILLED, codes
        assert codes[1 - int(rank)] == 2, codes
    assert together(name, "--resume") == [0, 0]
    assert results(file.parent / "runs" / name) == results(file.parent / "runs" / alone)
