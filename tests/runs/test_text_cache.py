"""Runs over cached texts: the numbers of the run without, no call of the encoder, and one cache for all who ask for it."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lives import CONTEXT, Write, _life, cut, live, live_together, results, weights
from safetensors.numpy import load_file
from test_second_text import pairs_store

import mmtrain.data.cached_column
import mmtrain.text_cache
from mmtrain.cli import main
from mmtrain.crossval import cross_validate
from mmtrain.data.cached_block import open_block
from mmtrain.engine.history import history
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step
from mmtrain.errors import CheckpointError, DataError
from mmtrain.evaluation.evaluate import evaluate
from mmtrain.scoring import score_run
from mmtrain.stages import train_file
from mmtrain.training import train_experiment

# the bias of attention's keys has no gradient but rounding, which AdamW would divide by itself: hence its eps
SHORT: dict[str, Any] = {
    "epochs": 1,
    "steps_per_epoch": 4,
    "eval_every": None,
    "checkpoint_every": 2,
    "optimizer": {"lr": 0.01, "eps": 1e-3},
}


@pytest.fixture
def write(write_experiment: Write, tmp_path: Path) -> Write:
    """The base experiment with a frozen encoder, short, its cache below tmp_path; `text`: changes of the encoder."""

    def write_frozen(name: str, *, text: dict[str, Any] | None = None, **changes: Any) -> Path:
        changes = {"training": SHORT, "cache": str(tmp_path / "cache"), "name": name} | changes
        return write_experiment(f"{name}.yaml", model={"text": {"trainable_layers": 0} | (text or {})}, **changes)

    return write_frozen


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        """Exit code, and all that was said."""
        with pytest.raises(SystemExit) as end:
            main(list(map(str, arguments)))
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every call of an encoder."""
    from transformers import BertModel

    forward, found = BertModel.forward, []

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        found.append(1)
        return forward(self, *arguments, **named)

    monkeypatch.setattr(BertModel, "forward", counted)
    return found


def files(tmp_path: Path) -> dict[str, bytes]:
    """Every file of the cache."""
    return {str(file.relative_to(tmp_path)): file.read_bytes() for file in (tmp_path / "cache").rglob("*") if file.is_file()}


def assert_alike(one: Path, other: Path, *, tolerance: float) -> None:
    """Every logged number and weight."""
    for part in ("steps", "evaluations", "curve"):
        columns = getattr(history(one), part), getattr(history(other), part)
        assert list(columns[0]) == list(columns[1])
        for name, value in columns[0].items():
            assert columns[1][name] == pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True), name
    expected, found = (load_file(run / "checkpoints" / "last" / "model.safetensors") for run in (one, other))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def test_a_cached_run_is_that_of_the_encoder_and_never_calls_it(
    write: Write, tmp_path: Path, command: Callable[..., tuple[int, str]], calls: list[int]
) -> None:
    plain, cached = write("plain"), write("cached", text={"cache": True})
    train_experiment(plain)
    assert command("evaluate", tmp_path / "runs/plain", "--split", "test")[0] == 0
    calls.clear()
    code, said = command("cache-text", plain)  # it need not ask for it
    assert code == 0
    assert "2 of 2 files were made now" in said
    assert len(calls) == 2  # few texts: a pass for each store
    few = len(files(tmp_path))
    for other in ("training.precision=bf16", "training.tf32=true", "model.text.max_tokens=11"):
        assert "2 of 2 files were made now" in command("cache-text", cached, other)[1]
    made = files(tmp_path)
    assert len(made) == 4 * few
    calls.clear()
    said = command("cache-text", cached)[1]
    assert "cached texts: " in said
    assert "made now" not in said
    train_experiment(cached)
    assert command("evaluate", tmp_path / "runs/cached", "--split", "test")[0] == 0
    assert not calls
    assert files(tmp_path) == made
    assert_alike(tmp_path / "runs/plain", tmp_path / "runs/cached", tolerance=1e-4)
    tables = [json.loads((tmp_path / f"runs/{name}/evaluation/test.json").read_text()) for name in ("plain", "cached")]
    numbers = [{name: value for name, value in table["metrics"].items() if value is not None} for table in tables]
    assert len(numbers[0]) > 8
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-4)


def test_a_damaged_cache_is_mended_or_refused_and_never_used(
    write: Write, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    file = write("run", text={"cache": True})
    train_experiment(file, ["name=first"])
    made = files(tmp_path)
    names = sorted(tmp_path / name for name in made)
    names[0].write_bytes(names[0].read_bytes()[:-9])
    train_experiment(file, ["name=second"])  # which sees that it is cut
    assert files(tmp_path) == made
    assert weights(file, "first") == weights(file, "second")
    for name in names:
        data = bytearray(name.read_bytes())
        for start in range(1024, 1024 + open_block(name).rows.nbytes, 128):
            data[start] ^= 1
        name.unlink()
        name.write_bytes(data)
    with pytest.raises(
        DataError, match=r"is damaged at the text '.*'. Write `mmtrain cache-text CONFIG` with the run's config"
    ):
        train_experiment(file, ["name=third"])
    assert "2 of 2 files were made now" in command("cache-text", file)[1]
    assert files(tmp_path) == made


def test_what_was_killed_goes_on_with_the_files_that_are_not_there(
    write: Write, tmp_path: Path, command: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmtrain.data.cached_column, "_LEAST", 16)  # 6 files and 4
    file = write("run")
    assert "10 of 10 files were made now" in command("cache-text", file)[1]
    made = files(tmp_path)
    shutil.rmtree(tmp_path / "cache")
    whole, done = mmtrain.text_cache.write_block, []

    def killed(path: Path, entries: Any, **named: Any) -> None:
        def until(number: int) -> Any:
            for entry in entries:
                yield entry
                if len(done) == number:
                    raise OSError(28, "No space left on device")

        whole(path, until(7), **named)
        done.append(path)

    monkeypatch.setattr(mmtrain.text_cache, "write_block", killed)
    code, said = command("cache-text", file)
    assert code == 2
    assert "cannot be written (No space left on device); make room, or name another folder under `cache`" in said
    assert len(files(tmp_path)) == 7
    monkeypatch.setattr(mmtrain.text_cache, "write_block", whole)
    stray = next((tmp_path / "cache").glob("*/*-text")) / ".tmp-of-a-killed-one.part"
    stray.touch()
    os.utime(stray, (1, 1))  # long ago
    assert "3 of 10 files were made now" in command("cache-text", file)[1]
    assert files(tmp_path) == made


def test_the_encoder_need_not_be_there_in_training_and_evaluation(
    small_run: Callable[..., Run], tiny_bert: Path, tmp_path: Path
) -> None:
    text = {"path": str(tiny_bert), "max_tokens": 12, "trainable_layers": 0, "cache": True}
    run = small_run(
        model={"text": text}, cache=str(tmp_path / "cache"), regularizers={"anchor": {"name": "l2_initial", "strength": 0.1}}
    )
    run.model.text.encoder.to("meta")  # type: ignore[union-attr, operator]
    before = run.model.text.projection.weight.clone()  # type: ignore[union-attr, operator]
    inputs = next(iter(run.loader.steps(run.curriculum.next_window(0, 4), first=0)))
    assert inputs.micro_batches[0].inputs["text"].values.shape[2:] == (32,)
    run.model.train()
    train_step(run, inputs)
    assert not torch.equal(run.model.text.projection.weight, before)  # type: ignore[union-attr, operator]
    evaluate(
        run.model,
        run.val_streams,
        objective=run.objective,
        collate=run.loader.collate,
        accelerator=run.accelerator,
        batch_size=16,
    )


def test_pairs_of_texts_are_cached_by_column(tmp_path: Path, tiny_bert: Path, calls: list[int]) -> None:
    text = {"name": "sentence", "path": str(tiny_bert), "max_tokens": 12, "projection": False, "trainable_layers": 0}
    values = {
        "name": "pairs",
        "runs": str(tmp_path / "runs"),
        "cache": str(tmp_path / "cache"),
        "datasets": {"pairs": {"store": str(pairs_store(tmp_path / "store"))}},
        "streams": {"pairs": {"dataset": "pairs", "tasks": ["similarity"]}},
        "tasks": {"similarity": {"head": {"name": "scale"}}},
        "model": {"dim": 32, "text": text, "second_text": True, "fusion": {"name": "pair_cosine"}},
        "batch": {"size": 8},
        "training": {"epochs": 1, "optimizer": {"lr": 0.05}},
    }
    file = tmp_path / "pairs.yaml"
    file.write_text(yaml.safe_dump(values))
    train_experiment(file)
    calls.clear()
    train_experiment(file, ["name=cached", "model.text.cache=true"])
    assert len(calls) == 2
    assert {file.parent.name.partition("-")[2] for file in (tmp_path / "cache").rglob("*.safetensors")} == {
        "text",
        "second_text",
    }
    assert_alike(tmp_path / "runs/pairs", tmp_path / "runs/cached", tolerance=1e-4)


def test_a_cache_belongs_to_the_run_but_its_folder_does_not(write: Write, tmp_path: Path) -> None:
    file = write("run", text={"cache": True})
    train_experiment(file)
    with pytest.raises(CheckpointError, match=r"config.model.text.cache: was True, is False"):
        train_experiment(file, ["model.text.cache=false"], resume=True)
    train_experiment(file, [f"cache={tmp_path / 'other'}"], resume=True)
    assert {name.split("/", 1)[1] for name in files(tmp_path)} == {
        str(path.relative_to(tmp_path / "other")) for path in (tmp_path / "other").rglob("*.safetensors")
    }


def test_what_has_no_texts_is_refused(fields: Path, write: Write, command: Callable[..., tuple[int, str]]) -> None:
    code, said = command("cache-text", fields)
    assert (code, said) == (2, f"error: {fields}: the model reads no text; there is nothing to cache\n")
    code, said = command("cache-text", write("run"), "streams.clips.modalities=[audio]", "streams.calls.modalities=[audio]")
    assert code == 2
    assert "no stream reads a text through the encoder; there is nothing to cache" in said
    only = "model.fusion={name: only, modality: audio}"
    assert command("cache-text", write("run"), only)[1] == said
    assert command("train", "-c", write("run", text={"cache": True}), only)[0] == 0
    assert (
        "model.text.cache: only what a frozen encoder"
        in command("cache-text", write("run", text={"trainable_layers": 1}))[1]
    )


def double() -> None:
    """Everything in float64, the encoder too."""
    from test_processes_equal import double

    from mmtrain.models.encoders.text import TextEncoderSection

    double()
    load = TextEncoderSection.load
    TextEncoderSection.load = lambda self: load(self).double()  # type: ignore[method-assign]


@pytest.mark.slow
def test_in_float64_the_weights_of_both_runs_are_equal(write: Write, tmp_path: Path) -> None:
    for name, cache in (("plain", False), ("cached", True)):
        file = write(name, text={"cache": cache}, regularizers={})
        life = live(["train", "--config", str(file)], cwd=tmp_path, patch=double)
        assert life.code == 0, life.out + life.err
    assert_alike(tmp_path / "runs/plain", tmp_path / "runs/cached", tolerance=1e-11)


@pytest.mark.slow
def test_killed_and_resumed_over_a_cache_made_anew(write: Write, tmp_path: Path) -> None:
    file = write("run", text={"cache": True}, training={})
    assert live(["train", "--config", str(file), "name=whole"], cwd=tmp_path).code == 0
    assert live(["train", "--config", str(file)], cwd=tmp_path, patch=partial(cut, at=7, how=signal.SIGKILL)).code == -9
    shutil.rmtree(tmp_path / "cache")
    life = live(["train", "--config", str(file), "--resume"], cwd=tmp_path)
    assert life.code == 0, life.out + life.err
    assert results(tmp_path / "runs/run") == results(tmp_path / "runs/whole")


def many_files() -> None:
    mmtrain.data.cached_column._LEAST = 4


@pytest.mark.slow
def test_two_that_start_together_make_one_cache(write: Write, tmp_path: Path) -> None:
    file = write("run")
    assert live(["cache-text", str(file)], cwd=tmp_path, patch=many_files).code == 0
    expected = files(tmp_path)
    shutil.rmtree(tmp_path / "cache")
    processes = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        arguments = (["cache-text", str(file)], tmp_path / str(number), 0, {}, many_files)
        processes.append(CONTEXT.Process(target=_life, args=arguments))
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert files(tmp_path) == expected


@pytest.mark.slow
def test_two_processes_read_what_the_first_one_makes(write: Write, tmp_path: Path) -> None:
    plain = {"tasks": {"mood": {"head": {"dropout": 0.0}}}, "batch": {"micro": None}}
    file = write("run", text={"cache": True}, **plain)
    for name, world in (("one", 1), ("two", 2)):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        lives = live_together(["train", "--config", str(file), f"name={name}"], cwd=tmp_path, world=world)
        assert [life.code for life in lives] == [0] * world, "\n".join(life.out + life.err for life in lives)
        assert "2 of 2 files were made now" in lives[0].out
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").touch()
    lives = live_together(["train", "--config", str(file), "name=refused"], cwd=tmp_path, world=2)
    assert [life.code for life in lives] == [2, 2]
    assert all("cannot be written" in life.err for life in lives)


@pytest.mark.slow
def test_a_stage_caches_the_encoder_that_the_one_before_has_trained(write: Write, tmp_path: Path) -> None:
    file = write("stages")
    values = yaml.safe_load(file.read_text())
    first = {"run": str(tmp_path / "runs/stages/train")}
    values["stages"] = {
        "train": {"model": {"text": {"trainable_layers": 1}}},
        "plain": {"initial": first},
        "cached": {"initial": first, "model": {"text": {"cache": True}}},
    }
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    train_file(file)
    assert_alike(tmp_path / "runs/stages/plain", tmp_path / "runs/stages/cached", tolerance=1e-4)
    own = load_file(Path(values["model"]["text"]["path"]) / "model.safetensors")
    found = load_file(tmp_path / "runs/stages/cached/checkpoints/last/model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    assert np.abs(found[f"text.encoder.{name}"] - own[name]).max() > 1e-4
    made = files(tmp_path)
    train_file(file, ["stage=cached"], resume=True)  # its encoder is that of the checkpoint, not that of the path
    assert files(tmp_path) == made


@pytest.mark.slow
def test_folds_share_one_cache_and_an_average_goes_over_its_encoder(write: Write, tmp_path: Path) -> None:
    file = write("folds", text={"cache": True}, training=SHORT | {"average": {"name": "ema"}})
    cross_validate(file, [], num_folds=2, choice="best", resume=False, overwrite=False)
    assert len(list((tmp_path / "cache").glob("*"))) == 1
    assert len(files(tmp_path)) == 2  # of either store
    made = files(tmp_path)
    score_run(tmp_path / "runs/folds/fold-1", split="test", weights="average")
    assert files(tmp_path) == made


@pytest.mark.slow
def test_the_memory_of_a_step_is_measured_without_the_encoders_work(
    write: Write, tmp_path: Path, command: Callable[..., tuple[int, str]], calls: list[int]
) -> None:
    code, said = command("tune", "batch-size", write("run", text={"cache": True}), "--memory-limit", 8000, "batch.size=1")
    assert (code, len(calls)) == (0, 2), said  # in this process, before the steps in theirs
    assert "batch.micro=1" in said
    assert len(files(tmp_path)) == 2
