"""What is imported when: help needs nothing heavy, the config tree only what sections are made of."""

import json
import subprocess
import sys

import pytest

import mmtrain

_SCRIPT = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    {}
print(json.dumps(list(sys.modules)))
"""


def modules_after(statement):
    """What a fresh Python has imported."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT.format(statement)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def after_config():
    return modules_after("import mmtrain.config")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["config", "show", "--help"], ["evaluate", "--help"]]
)
def test_help_imports_nothing_heavy(arguments):
    modules = modules_after(f"from mmtrain.cli import main\n    with contextlib.suppress(SystemExit): main({arguments})")
    assert "mmtrain.cli" in modules
    heavy = {"torch", "numpy", "pydantic", "pydantic_core", "omegaconf", "yaml", "pyarrow", "accelerate", "wandb", "sklearn"}
    typers = {"pydantic", "pydantic_core"} if arguments != ["--help"] else set()  # typer's own, where it reads arguments
    assert modules & heavy <= typers
    parts = ("cli", "cli_ablate", "cli_analysis", "cli_data", "cli_inference", "cli_options", "cli_tune")
    parts += ("errors", "quick_start", "standard_streams")
    doors = {"mmtrain", *(f"mmtrain.{part}" for part in parts)}
    assert {name for name in modules if name.startswith("mmtrain")} == doors


@pytest.mark.parametrize("library", ["transformers", "torchvision", "wandb", "torchmetrics", "av", "accelerate", "sklearn"])
def test_the_config_tree_leaves_out(after_config, library):
    assert "mmtrain.curriculum.samplers" in after_config
    assert library not in after_config


def test_importing_the_package_is_light():
    assert "torch" not in modules_after("import mmtrain")


def test_the_package_gives_history_when_asked():
    assert "mmtrain.engine.history" in modules_after("import mmtrain; mmtrain.history")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(mmtrain, "nothing")  # noqa: B009 - what is asked for is not there
