"""A run reads the tables that `mmtrain data map` has made, and does not depend on whether there are any."""

import signal
from functools import partial
from pathlib import Path

import yaml
from lives import Write, cut, live, results


def _refuse_decoding() -> None:
    from mmtrain.data.store import FeatureStore

    def decoded(file: Path) -> None:
        raise AssertionError(f"{file} is mapped, and need not be decoded")

    FeatureStore._decoded = staticmethod(decoded)


def test_folds_read_mapped_tables(write_experiment: Write, tmp_path: Path) -> None:
    file = write_experiment("folds.yaml", cache=str(tmp_path / "shared"), training={"epochs": 1, "steps_per_epoch": 2})
    for dataset in yaml.safe_load(file.read_text())["datasets"].values():
        assert live(["data", "map", dataset["store"], "--cache", str(tmp_path / "shared")], cwd=tmp_path).code == 0
    done = live(["crossval", str(file), "--folds", "2"], cwd=tmp_path, patch=_refuse_decoding)
    assert done.code == 0, done.err


def test_a_killed_run_goes_on_over_tables_that_were_mapped_meanwhile(write_experiment: Write, tmp_path: Path) -> None:
    cache = tmp_path / "shared"
    file = write_experiment("run.yaml", cache=str(cache))
    train = ["train", "--config", str(file)]
    assert live([*train, "name=whole"], cwd=tmp_path).code == 0
    assert live([*train, "name=killed"], cwd=tmp_path, patch=partial(cut, at=3, how=signal.SIGKILL)).code == -signal.SIGKILL
    for dataset in yaml.safe_load(file.read_text())["datasets"].values():
        done = live(["data", "map", dataset["store"], "--cache", str(cache)], cwd=tmp_path)
        assert done.code == 0, done.err
        assert "runs find it there" in done.out
    resumed = live([*train, "name=killed", "--resume"], cwd=tmp_path, patch=_refuse_decoding)
    assert resumed.code == 0, resumed.err
    assert "its sample table is mapped" in resumed.out
    assert results(tmp_path / "runs" / "killed") == results(tmp_path / "runs" / "whole")
