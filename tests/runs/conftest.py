"""What the tests of whole runs share: two tiny stores, experiment files over them, and a clean Accelerate for each."""

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import Write, live

from mmtrain.engine.run import Run


@pytest.fixture(scope="session")
def run_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the stores `clips` (text, audio, video; two tasks) and `calls` (text, audio; one task shared)."""
    from data_prep.synth import synthesize

    root = tmp_path_factory.mktemp("stores")
    gaps = {"missing": 0.25, "unlabelled": 0.3}
    tasks = {"funny": "binary", "mood": "multiclass"}
    synthesize(root / "clips", name="clips", samples=90, modalities={"audio": 6, "video": 5}, tasks=tasks, seed=1, **gaps)
    tasks = {"funny": "binary", "pitch": "regression"}
    synthesize(root / "calls", name="calls", samples=60, modalities={"audio": 6}, tasks=tasks, seed=2, **gaps)
    return root


@pytest.fixture(scope="session")
def base_experiment(run_stores: Path, tiny_bert: Path) -> dict[str, Any]:
    """Dropout, dynamic difficulty, missing modalities and labels, micro-batches, checkpoints inside windows."""
    return {
        "name": "run",
        "seed": 3,
        "datasets": {name: {"store": str(run_stores / name)} for name in ("clips", "calls")},
        "streams": {
            "clips": {"dataset": "clips", "tasks": ["funny", "mood"]},
            "calls": {"dataset": "calls", "tasks": ["funny", "pitch"]},
        },
        "tasks": {"mood": {"head": {"name": "mlp", "hidden": [8], "dropout": 0.1}}},
        "model": {
            "dim": 8,
            "text": {"name": "transformers", "path": str(tiny_bert), "max_tokens": 12, "dropout": 0.1},
            "sequences": {"audio": {"name": "bilstm", "hidden": 4, "layers": 2}, "video": {"name": "linear"}},
            "fusion": {"name": "attention", "layers": 1, "heads": 2, "dropout": 0.1},
        },
        "regularizers": {"anchor": {"name": "l2_initial", "strength": 0.01}},
        "curriculum": {"window": 4, "sampler": {"name": "dynamic_difficulty", "temperature": 0.3, "floor": 0.1}},
        "batch": {"size": 7, "micro": 3, "evaluation": 16},
        "training": {
            "epochs": 2,
            "steps_per_epoch": 10,
            "checkpoint_every": 3,
            "eval_every": 8,
            "optimizer": {"lr": 0.01, "text_lr": 0.001},
        },
        "curve": {"every": 25},
        "selection": {"metric": "val/loss", "mode": "max"},  # so that the best is not the last one
    }


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`; a section that names another component replaces it."""
    result = deepcopy(below)
    for key, value in above.items():
        known = result.get(key)
        same = isinstance(value, dict) and isinstance(known, dict) and value.get("name", None) in (None, known.get("name"))
        result[key] = merged(known, value) if same else value
    return result


@pytest.fixture
def write_experiment(base_experiment: dict[str, Any], tmp_path: Path) -> Write:
    """Write the base experiment with changes as a file; its runs go below tmp_path/runs."""

    def write(file: str = "experiment.yaml", **changes: Any) -> Path:
        path = tmp_path / file
        path.write_text(yaml.safe_dump(merged(base_experiment, {"runs": str(tmp_path / "runs"), **changes})))
        return path

    return write


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its state for the life of a process; each test starts and ends without."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    warnings.filterwarnings("error")


@pytest.fixture
def small_run(write_experiment: Write) -> Iterator[Callable[..., Run]]:
    """Build the base experiment in this process without text, dropout and penalty, with changes."""
    from mmtrain.build import build_run
    from mmtrain.config import load_experiment
    from mmtrain.engine.console import main_console
    from mmtrain.training import build_accelerator

    built: list[Run] = []

    def build(**changes: Any) -> Run:
        file = write_experiment(f"small-{len(built)}.yaml", name=f"small-{len(built)}", **changes)
        values = yaml.safe_load(file.read_text())
        values["model"]["text"] = changes.get("model", {}).get("text")
        values["regularizers"] = changes.get("regularizers", {})
        values["model"]["sequences"] = {"audio": {"name": "linear"}, "video": {"name": "linear"}}
        values["model"]["fusion"] = changes.get("model", {}).get("fusion", {"name": "concat", "dropout": 0.0})
        values["tasks"] = changes.get("tasks", {})
        file.write_text(yaml.safe_dump(values))
        experiment = load_experiment(file)
        accelerator = build_accelerator(experiment)
        built.append(build_run(experiment, accelerator, main_console(accelerator)))
        return built[-1]

    yield build
    for run in built:
        run.close()


@pytest.fixture
def fields(write_experiment: Write) -> Path:
    """A short experiment of two linear encoders."""
    file = write_experiment(training={"epochs": 1, "steps_per_epoch": 4, "eval_every": None, "checkpoint_every": 2})
    values = yaml.safe_load(file.read_text())
    values["model"] = {"dim": 8, "sequences": {"audio": {"name": "linear"}}}
    values["regularizers"], values["tasks"] = {}, {}
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture(scope="session")
def trained(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps over both stores, evaluated on its test split; not to be changed."""
    folder = tmp_path_factory.mktemp("inference")
    experiment = deepcopy(base_experiment) | {"runs": str(folder), "name": "run"}
    experiment["training"] |= {"epochs": 1, "steps_per_epoch": 4, "eval_every": 4, "checkpoint_every": 4}
    experiment["selection"] = {"metric": "val/loss", "mode": "min"}
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment))
    assert live(["train", "--config", str(file)], cwd=folder).code == 0
    scored = live(["evaluate", str(folder / "run"), "--split", "test"], cwd=folder)
    assert scored.code == 0, scored.err
    return folder / "run"


@pytest.fixture(scope="session")
def normed(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps whose heads have batch normalization and whose text encoder began at random; not to be changed."""
    folder = tmp_path_factory.mktemp("normed")
    experiment = deepcopy(base_experiment) | {"runs": str(folder), "name": "run", "regularizers": {}}
    experiment["tasks"] = {
        task: {"head": {"name": "mlp", "hidden": [8], "batch_norm": True}} for task in ("funny", "mood", "pitch")
    }
    experiment["model"]["text"]["weights"] = "random"
    experiment["training"] |= {"epochs": 1, "steps_per_epoch": 4, "eval_every": 4, "checkpoint_every": 4}
    experiment["selection"] = {"metric": "val/loss", "mode": "min"}
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment))
    done = live(["train", "--config", str(file)], cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"
