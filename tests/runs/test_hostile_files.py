"""Files that try to run something when they are read, in every place where one is read; an audit hook watches."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from lives import CONTEXT, live

FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class")


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


def watch(log: Path) -> None:
    """Write down every event that runs something but `git` and `uname`, which environment.json is made with."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in FORBIDDEN and not (event == "subprocess.Popen" and arguments[0] in ("git", "uname")):
            with log.open("a") as file:
                file.write(f"{event} {arguments!r}\n")

    sys.addaudithook(note)


def vouch(folder: Path) -> None:
    """A manifest for whatever lies in a checkpoint's folder."""
    from mmtrain.engine.checkpoint import _record

    files = {file.name: _record(file) for file in folder.iterdir() if file.name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps(files))


def try_all(attempts: dict[str, Callable[[], object]], log: Path, said: Path) -> None:
    """In a process of its own: each attempt, watched; what it raised goes to `said`."""
    watch(log)
    answers = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            answers[name] = "read"
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"
    said.write_text(json.dumps(answers))


def answers_of(attempts: dict[str, Callable[[], object]], folder: Path) -> tuple[dict[str, str], str]:
    """What each attempt said, and the events of all of them."""
    log, said = folder / "events.txt", folder / "said.json"
    process = CONTEXT.Process(target=try_all, args=(attempts, log, said))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    return json.loads(said.read_text()), log.read_text() if log.exists() else ""


def read_pickle(file: Path) -> object:
    return pickle.loads(file.read_bytes())  # noqa: S301 - the control


def read_store(folder: Path) -> None:
    from mmtrain.data.check import check_store
    from mmtrain.data.store import FeatureStore

    assert check_store(folder), "a store with such a file has a defect"
    store = FeatureStore(folder)
    store.labels(next(iter(store.schema.tasks)))
    store.rows("video", 0)


def read_checkpoint(folder: Path) -> None:
    from mmtrain.engine.checkpoint import read_checkpoint

    read_checkpoint(folder)


def read_experiment(file: Path) -> None:
    from mmtrain.config import load_experiment

    load_experiment(file)


def read_predictions(file: Path) -> None:
    from mmtrain.evaluation.prediction_file import read_predictions

    read_predictions(file)


def load_encoder(folder: Path) -> None:
    from mmtrain.models.encoders.hub import load_encoder, load_tokenizer

    load_tokenizer(str(folder))
    load_encoder(str(folder), weights="pretrained", dropout=None)


def read_image_weights(file: Path) -> None:
    from mmtrain.weight_file import read_weights

    read_weights(file, key="weights")


def test_the_watch_sees_a_bomb(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    said, events = answers_of({"bomb": partial(read_pickle, tmp_path / "bomb")}, tmp_path)
    assert said == {"bomb": "read"}
    assert "pickle.find_class" in events
    assert (tmp_path / "mark").exists()


def test_no_file_of_a_checkpoint_a_store_or_an_experiment_runs(run_stores: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    torch.save({"weight": torch.zeros(1), "x": Bomb(mark)}, tmp_path / "bomb.pt")
    np.save(tmp_path / "bomb.npy", np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    payloads = {"pickle": bomb, "zip": (tmp_path / "bomb.pt").read_bytes(), "npy": (tmp_path / "bomb.npy").read_bytes()}
    attempts: dict[str, Callable[[], object]] = {}
    names = [f"{group}.safetensors" for group in ("model", "optimizer", "regularizers", "random", "samples")]
    foreign = ["custom_checkpoint_0.pkl", "optimizer.bin", "pytorch_model.bin", "random_states_0.pkl", "scheduler.bin"]
    for kind, payload in payloads.items():
        for name in [*names, *foreign, "state.json", "manifest.json", "config.yaml"]:
            folder = tmp_path / "checkpoints" / kind / name
            folder.mkdir(parents=True)
            for group in names:
                safetensors.torch.save_file({"weight": torch.zeros(1)}, folder / group)
            (folder / "state.json").write_text("{}")
            (folder / name).write_bytes(payload)
            if name != "manifest.json":
                vouch(folder)
            attempts[f"checkpoint {kind} {name}"] = partial(read_checkpoint, folder)
        for name in ("dataset.json", "samples.parquet", "video.safetensors", "audio.safetensors"):
            store = shutil.copytree(run_stores / "clips", tmp_path / "stores" / kind / name)
            (store / name).write_bytes(payload)
            attempts[f"store {kind} {name}"] = partial(read_store, store)
        for suffix in (".safetensors", ".pth"):
            (tmp_path / f"{kind}{suffix}").write_bytes(payload)
            attempts[f"image encoder {kind} {suffix}"] = partial(read_image_weights, tmp_path / f"{kind}{suffix}")
        (tmp_path / f"{kind}.parquet").write_bytes(payload)
        attempts[f"predictions {kind}"] = partial(read_predictions, tmp_path / f"{kind}.parquet")
        (tmp_path / f"{kind}.yaml").write_bytes(payload)
        attempts[f"experiment {kind}"] = partial(read_experiment, tmp_path / f"{kind}.yaml")
    for number, tag in enumerate(("object/apply:os.mkdir", "object/new:os.mkdir", "name:os.mkdir", "module:os", "tuple")):
        for place, text in enumerate(("!!python/{} ['{}']", "name: !!python/{} ['{}']", "? !!python/{} ['{}']\n: 1")):
            file = tmp_path / f"tag-{number}-{place}.yaml"
            file.write_text(text.format(tag, mark))
            attempts[f"experiment tag {tag} {place}"] = partial(read_experiment, file)
    said, events = answers_of(attempts, tmp_path)
    assert (events, mark.exists()) == ("", False)
    assert len(said) == len(attempts) > 60
    harmless = {f"checkpoint {kind} {name}" for kind in payloads for name in foreign}  # never opened, only hashed
    for name, answer in said.items():
        refused = answer.startswith(("CheckpointError: ", "DataError: ", "ConfigError: "))
        assert refused != (name in harmless), (name, answer)


def test_a_run_folder_full_of_bombs_is_resumed_and_evaluated_without_one(fields: Path, tmp_path: Path) -> None:
    arguments, mark, log = ["train", "--config", str(fields)], tmp_path / "mark", tmp_path / "events.txt"
    clean = live(arguments, cwd=tmp_path, patch=partial(watch, log))
    assert clean.code == 0, clean
    assert not log.exists(), log.read_text()  # an honest run causes no event either
    run = tmp_path / "runs" / "run"
    bomb = pickle.dumps(Bomb(mark))
    newest, before = run / "checkpoints/step-00000004", run / "checkpoints/step-00000002"
    (newest / "optimizer.safetensors").write_bytes(bomb)
    for name in ("custom_checkpoint_0.pkl", "random_states_0.pkl", "model.pkl"):
        (before / name).write_bytes(bomb)
        (run / name).write_bytes(bomb)
    vouch(newest)
    vouch(before)
    resumed = live([*arguments, "--resume"], cwd=tmp_path, patch=partial(watch, log))
    assert resumed.code == 2
    assert resumed.err.startswith(f"error: checkpoint {newest}: "), resumed.err
    shutil.rmtree(newest)
    assert live([*arguments, "--resume"], cwd=tmp_path, patch=partial(watch, log)).code == 0
    values: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(values) + f"seed: !!python/object/apply:os.mkdir ['{mark}']\n")
    scored = live(["evaluate", str(run)], cwd=tmp_path, patch=partial(watch, log))
    assert scored.code == 2
    assert (mark.exists(), log.exists()) == (False, False)


@pytest.mark.slow
def test_no_file_of_a_text_encoder_runs(tiny_bert: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    torch.save({"weight": torch.zeros(1), "x": Bomb(mark)}, tmp_path / "bomb.pt")
    attempts: dict[str, Callable[[], object]] = {"honest": partial(load_encoder, tiny_bert)}
    for name in ("pytorch_model.bin", "model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"):
        for kind, payload in {"pickle": bomb, "zip": (tmp_path / "bomb.pt").read_bytes()}.items():
            folder = shutil.copytree(tiny_bert, tmp_path / f"{kind}-{name}")
            if name == "pytorch_model.bin":
                (folder / "model.safetensors").unlink()
            (folder / name).write_bytes(payload)
            attempts[f"{kind} {name}"] = partial(load_encoder, folder)
    folder = shutil.copytree(tiny_bert, tmp_path / "remote")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Config: ...\nclass Model: ...\n")
    attempts["remote code"] = partial(load_encoder, folder)
    said, events = answers_of(attempts, tmp_path)
    assert said.pop("honest") == "read"
    assert all(answer.startswith("ConfigError: text.path") for answer in said.values()), said
    assert not mark.exists()
    assert "mkdir" not in events
