"""The command line itself: help, options among overrides, `config show` and `config schema`, exit codes."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmtrain.stages
from mmtrain.cli import main
from mmtrain.config import Staged, load
from mmtrain.errors import ConfigError, Interrupted, Preempted

ROOT = Path(__file__).parents[2]
MINIMAL = """\
name: x
datasets: {a: {store: s}}
streams: {a: {dataset: a, tasks: [t]}}
model: {sequences: {audio: {name: linear}}}
"""


@pytest.fixture
def run(capsys):
    def run(*arguments):
        """Exit code, stdout, stderr."""
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return (ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def asked(monkeypatch):
    """What `train` passes on."""
    calls = []
    monkeypatch.setattr(mmtrain.stages, "train_file", lambda *given, **named: calls.append((given, named)))
    return calls


@pytest.mark.parametrize("arguments", [(), ("config",), ("data",)])
def test_no_command_shows_help(run, arguments):
    code, out, error = run(*arguments)
    assert code == 2
    assert "Usage: " in out + error
    assert "Commands" in out + error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("train", "evaluate", "datamap", "attention", "config", "data")),
        (("train",), ("--config", "--resume", "--overwrite", "--profile", "KEY=VALUE", "Experiment file")),
        (("evaluate",), ("--split", "--checkpoint", "run folder", "train, val or test")),
        (("evaluate",), ("--robustness", "--importance", "--groups", "--levels", "--repeats")),
        (("datamap",), ("run folder", "easy, hard or ambiguous")),
        (("attention",), ("run folder", "SAMPLE", "--split", "--stream", "--checkpoint", "--weights")),
        (("crossval",), ("--folds", "--evaluation", "--resume", "--overwrite", "KEY=VALUE", "no group on two sides")),
        (("ablate",), ("--jobs", "--dry-run", "--rerun-stale", "--final", "--slurm", "KEY=VALUE", "Matrix file")),
        (("ablate", "status"), ("--watch", "KEY=VALUE", "Matrix file", "Changes nothing")),
        (("ablate", "table"), ("KEY=VALUE", "Matrix file", "Runs nothing")),
        (("tune", "lr"), ("--start", "--end", "--steps", "--smoothing", "--out", "KEY=VALUE")),
        (("doctor",), ("--only", "--seconds", "--json", "CONFIG", "KEY=VALUE", "Leaves no run")),
        (("tune",), ("lr", "batch-size", "search")),
        (("tune", "batch-size"), ("--memory-limit", "KEY=VALUE")),
        (("tune", "search"), ("--trials", "--startup", "SEARCH", "CONFIG")),
        (("config",), ("show", "schema")),
        (("config", "show"), ("FILE", "KEY=VALUE", "Experiment file")),
        (("data",), ("check", "info")),
        (("data", "check"), ("Folder of a feature store",)),
    ],
)
def test_help_says_what_there_is(run, arguments, words):
    code, out, error = run(*arguments, "--help")
    assert (code, error) == (0, "")
    flat = " ".join(out.replace("│", " ").split())
    assert [word for word in words if word.lower() not in flat.lower()] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "c.yaml", "a.b=1", "c=[1, 2]", "--resume"),
        ("-c", "c.yaml", "--resume", "a.b=1", "c=[1, 2]"),
        ("a.b=1", "--resume", "c=[1, 2]", "--config=c.yaml"),
        ("--resume", "a.b=1", "-c", "c.yaml", "c=[1, 2]"),
    ],
)
def test_options_and_overrides_in_any_order(run, asked, arguments):
    assert run("train", *arguments)[0] == 0
    assert asked == [((Path("c.yaml"), ["a.b=1", "c=[1, 2]"]), {"resume": True, "overwrite": False, "profile_steps": None})]


@pytest.mark.parametrize(
    ("options", "steps"), [((), None), (("--profile",), 20), (("--profile", "--profile-steps", "7"), 7)]
)
def test_a_profile_has_twenty_steps_where_nobody_says_otherwise(run, asked, options, steps):
    assert run("train", "-c", "c.yaml", *options)[0] == 0
    assert asked[0][1]["profile_steps"] == steps


def test_steps_without_a_profile_are_refused(run, asked):
    code, out, error = run("train", "-c", "c.yaml", "--profile-steps", "7")
    assert (code, out, asked) == (2, "", [])
    assert error == "error: --profile-steps: nothing is measured without --profile; write both\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "Missing option '--config'"),
        (("train", "-c", "c.yaml", "--lr=3"), "No such option: --lr"),
        (("train", "-c", "c.yaml", "-batch.size=3"), "No such option: -b"),
        (("evaluate",), "Missing argument 'RUN'"),
        (("config", "show"), "Missing argument 'FILE'"),
        (("trian",), "No such command 'trian'"),
        (("data", "check"), "Missing argument 'STORE'"),
    ],
)
def test_wrong_usage(run, arguments, message):
    code, out, error = run(*arguments)
    assert (code, out) == (2, "")
    assert message.lower() in " ".join(error.replace("│", " ").split()).lower()


def test_an_override_that_begins_with_a_dash(run, tmp_path):
    (tmp_path / "c.yaml").write_text(MINIMAL)
    code, out, error = run("config", "show", str(tmp_path / "c.yaml"), "--", "-seed=3")
    assert (code, out) == (2, "")
    assert error == "error: command line: '-seed=3' is not an override; write key.path=value\n"


def test_values_may_begin_with_a_dash(run, tmp_path):
    (tmp_path / "c.yaml").write_text(MINIMAL)
    code, _, error = run("config", "show", str(tmp_path / "c.yaml"), "seed=-3")
    assert (code, error) == (2, "error: command line: seed: input should be greater than or equal to 0 (found -3)\n")


EXPERIMENTS = sorted(file for file in (ROOT / "configs").rglob("*.yaml") if file.parent.name not in ("search", "ablations"))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.name)
def test_what_show_prints_loads_to_an_equal_experiment(run, tmp_path, file):
    overrides = [
        "batch.size=16",
        "curriculum.sampler.name=uniform",
        "training.clipping.name=none",
        "training.optimizer.lr=1e-5",
    ]
    code, out, error = run("config", "show", str(file), *overrides)
    assert (code, error) == (0, "")
    (tmp_path / "shown.yaml").write_text(out)
    shown = load(tmp_path / "shown.yaml")
    assert shown == load(file, overrides)
    experiments = list(shown.stages.values()) if isinstance(shown, Staged) else [shown]
    assert 16 in [experiment.batch.size for experiment in experiments]
    assert {experiment.curriculum.sampler.name for experiment in experiments} == {"uniform"}


def test_schema_is_json(run):
    code, out, error = run("config", "schema")
    assert (code, error) == (0, "")
    assert {"datasets", "streams", "model", "base"} <= set(json.loads(out)["properties"])


def test_a_users_error_is_one_message_and_2(run, monkeypatch):
    def fail(*_, **__):
        raise ConfigError("batch.size: 0")

    monkeypatch.setattr(mmtrain.stages, "train_file", fail)
    assert run("train", "-c", "c.yaml") == (2, "", "error: batch.size: 0\n")


def test_evaluating_what_is_no_run(run, tmp_path):
    for folder in (tmp_path, tmp_path / "no"):
        code, out, error = run("evaluate", str(folder))
        assert (code, out) == (2, "")
        assert error == f"error: {folder} is not a run folder: it has no config.yaml\n"


def test_an_interrupted_run_ends_with_130(run, monkeypatch):
    def stop(*_, **__):
        raise Interrupted("saved; continue with --resume")

    monkeypatch.setattr(mmtrain.stages, "train_file", stop)
    assert run("train", "-c", "c.yaml") == (130, "", "saved; continue with --resume\n")


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "No space left"), (errno.EACCES, "place: Permission denied")]
)
def test_what_the_disk_refuses_is_one_message(run, monkeypatch, number, message):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number), *(["place"] if number == errno.EACCES else []))

    monkeypatch.setattr(mmtrain.stages, "train_file", fail)
    code, out, error = run("train", "-c", "c.yaml")
    assert (code, out, error.startswith(f"error: {message}")) == (2, "", True)


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise KeyError("ours")

    monkeypatch.setattr(mmtrain.stages, "train_file", fail)
    with pytest.raises(KeyError):
        main(["train", "-c", "c.yaml"])


@pytest.mark.parametrize(
    "command",
    [
        ["mmtrain/train.py"],
        pytest.param(["-m", "mmtrain.train"], marks=pytest.mark.slow),
        pytest.param(["-m", "mmtrain.cli", "train"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_door_says_a_bad_config_once(tmp_path, command):
    (tmp_path / "c.yaml").write_text(MINIMAL + "epochs: 3\n")
    done = subprocess.run(
        [sys.executable, *command, "--config", str(tmp_path / "c.yaml")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}/c.yaml:5: epochs: unknown key; did you mean training.epochs?")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("m.yaml", "--slurm", "a=1"), ("--slurm", "m.yaml", "a=1"), ("run", "m.yaml", "a=1", "--slurm")]
)
def test_a_matrix_stands_where_a_command_could(run, monkeypatch, arguments):
    import mmtrain.ablation.ablate as module

    calls = []
    monkeypatch.setattr(module, "ablate", lambda *given, **named: calls.append((*given, named["slurm"].throttle)) or True)
    assert run("ablate", *arguments) == (0, "", "")
    assert calls == [(Path("m.yaml"), ["a=1"], None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--throttle", "2"), "error: --throttle, --sbatch-args: they are about jobs of Slurm; write --slurm too"),
        (("--sbatch-args", "--time=1"), "error: --throttle, --sbatch-args: they are about jobs of Slurm; write --slurm too"),
        (("--slurm", "--jobs", "2"), "error: --slurm: it submits runs, and goes with none of --jobs, --dry-run and --final"),
    ],
)
def test_options_that_do_not_go_together(run, options, message):
    code, _, error = run("ablate", "m.yaml", *options)
    assert code == 2
    assert error.startswith(message)


def test_without_slurm_it_is_one_line(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, error = run("ablate", "m.yaml", "--slurm")
    assert (code, out) == (2, "")
    assert error == (
        "error: --slurm: there is no Slurm here: sbatch is not found. Call it on a login node, or leave --slurm out\n"
    )


def test_a_preempted_run_leaves_the_marker_that_was_asked_for(run, monkeypatch, tmp_path):
    def preempted(*_, **__):
        raise Preempted("saved; continue with --resume")

    monkeypatch.setattr(mmtrain.stages, "train_file", preempted)
    said = "saved; continue with --resume\n"
    assert run("train", "-c", "c.yaml") == (130, "", said)
    monkeypatch.setenv("MMTRAIN_MARKER", str(tmp_path / "PREEMPTED"))
    assert run("train", "-c", "c.yaml") == (0, "", said)
    assert (tmp_path / "PREEMPTED").is_file()
    nowhere = tmp_path / "nowhere" / "PREEMPTED"
    monkeypatch.setenv("MMTRAIN_MARKER", str(nowhere))
    code, _, error = run("train", "-c", "c.yaml")
    assert (code, error) == (2, f"{said}error: MMTRAIN_MARKER: {nowhere}: No such file or directory\n")
