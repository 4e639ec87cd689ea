"""`mmtrain compress` on a whole run: packages that predict, and the table of what they gain and lose."""

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from lives import live

import mmtrain
from mmtrain import extras
from mmtrain.cli import main
from mmtrain.data.store import FeatureStore
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.inference.compression import METHODS
from mmtrain.inference.compression.record import Compression, read_compression
from mmtrain.inference.export import export

NAMES = [method.name for method in METHODS]
# of logits around one; half and int8 round weights of up to one to two or three digits
TOLERANCES = {"fold": 1e-5, "int8": 0.1, "bf16": 0.1, "fp16": 0.01}
# of a sample alone and among others, where padding makes sums of float32 round otherwise: a number beside the border between
# two of eight bits, or of bfloat16, then falls on the other side
ALONE = {"fold": 1e-5, "int8": 0.01, "bf16": 0.02, "fp16": 1e-5}


@pytest.fixture(scope="module")
def packages(normed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By method, what the command wrote; `.txt` beside it is what it printed."""
    folder = tmp_path_factory.mktemp("packages")
    for name in NAMES:
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed), pytest.raises(SystemExit) as end:
            main(["compress", str(normed), "--method", name, "--out", str(folder / name)])
        assert end.value.code == 0, printed.getvalue()
        (folder / f"{name}.txt").write_text(printed.getvalue())
    return {name: folder / name for name in NAMES}


def record_of(package: Path) -> Compression:
    found = read_compression(package)
    assert found is not None
    assert found.compared is not None
    return found


def ragged(store: FeatureStore) -> dict[str, list[Any]]:
    """Samples of all lengths; the first three lack one modality each."""
    given: dict[str, list[Any]] = {"text": [store.text(index) or None for index in range(20)]}
    given |= {name: [store.rows(name, index) for index in range(20)] for name in ("audio", "video")}
    for number, values in enumerate(given.values()):
        values[number] = None
    return given


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_compressed_package_predicts(name: str, packages: dict[str, Path], normed: Path, run_stores: Path) -> None:
    """In Python and by the command, alone and in a batch, nearly what the run says."""
    package, clips = packages[name], FeatureStore(run_stores / "clips")
    given = ragged(clips)
    model, run = mmtrain.load(package), mmtrain.load(normed)
    answers, expected = model.predict(**given), run.predict(**given)
    for task, answer in answers.items():
        np.testing.assert_allclose(answer.logits, expected[task].logits, atol=TOLERANCES[name])
        for number in range(6):
            alone = model.predict(**{modality: [values[number]] for modality, values in given.items()})
            np.testing.assert_allclose(alone[task].logits[0], answer.logits[number], atol=ALONE[name])
    if name != "fold":
        assert max(np.abs(answers[task].logits - expected[task].logits).max() for task in answers) > 0
    out = package.parent / f"{name}.parquet"
    done = live(["predict", str(package), "--store", str(clips.path), "--out", str(out)], cwd=package.parent)
    assert (done.code, done.err) == (0, "")
    found = np.array([row["funny.probability"] for row in pq.read_table(out).to_pylist()])
    samples = [model.read({"text": clips.text(i), **{m: clips.rows(m, i) for m in ("audio", "video")}}) for i in range(90)]
    logits, _ = model.logits(samples, batch_size=32)
    probability = model.decisions["funny"].probabilities(model.signature.tasks["funny"], logits["funny"])
    np.testing.assert_allclose(found, probability, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_table_says_what_was_measured(name: str, packages: dict[str, Path], normed: Path) -> None:
    found, printed = record_of(packages[name]), packages[name].with_suffix(".txt").read_text()
    compared = found.compared
    assert compared is not None
    weights = safetensors.torch.load_file(packages[name] / "model.safetensors")
    assert compared.bytes_after == sum(value.nbytes for value in weights.values())
    state = mmtrain.load(normed).model.state_dict()
    assert compared.bytes_before == sum(value.nbytes for value in state.values())
    assert compared.bytes_after < compared.bytes_before * (1 if name == "fold" else 0.7)
    evaluated = [json.loads(line) for line in (normed / "metrics.jsonl").read_text().splitlines()]
    of_run = next(record["metrics"] for record in reversed(evaluated) if record["kind"] == "evaluation")
    for metric in ("val/loss", "val/funny/average_precision", "val/mood/macro_f1", "val/pitch/mae"):
        assert compared.metrics_before[metric] == pytest.approx(of_run[metric], abs=1e-5)
        assert metric in printed
    assert compared.largest_difference <= TOLERANCES[name]
    assert compared.pace.ratio > 0
    assert "predictions per second" in printed
    products = {"fold": "float32", "int8": "int8", "bf16": "bfloat16", "fp16": "float32"}[name]  # on a CPU
    assert (compared.products_before, compared.products_after) == ("float32", products)
    card = (packages[name] / "README.md").read_text()
    for words in (f"Compressed by {name}, on val", "| weights on disk, MiB", "## Measured before the compression"):
        assert words in card
    assert all(note in card and note in printed for note in found.notes)
    assert list(packages[name].parent.glob(".*")) == []


@pytest.mark.slow
def test_metrics_after_are_those_of_the_package(packages: dict[str, Path], run_stores: Path) -> None:
    """The mean absolute error of `pitch`, of the package's own answers to the samples of validation."""
    calls, model = FeatureStore(run_stores / "calls"), mmtrain.load(packages["bf16"])
    table = pq.read_table(run_stores / "calls" / "samples.parquet").to_pylist()
    errors = []
    for index, row in enumerate(table):
        if row["split"] == "val" and row["pitch"] is not None:
            given = {"text": calls.text(index) or None, "audio": calls.rows("audio", index)}
            errors.append(abs(model.predict(**given)["pitch"].label - row["pitch"]))
    compared = record_of(packages["bf16"]).compared
    assert compared is not None
    assert compared.metrics_after["val/pitch/mae"] == pytest.approx(np.mean(errors), rel=1e-2)
    assert compared.metrics_after["val/pitch/mae"] != compared.metrics_before["val/pitch/mae"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_package_of_a_package_is_the_same(name: str, packages: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pack", str(packages[name]), "--out", str(tmp_path / "again")])
    assert end.value.code == 0
    first, second = mmtrain.load(packages[name]), mmtrain.load(tmp_path / "again")
    assert first.identity == second.identity
    assert first.compression == second.compression
    assert (tmp_path / "again/README.md").read_text() == (packages[name] / "README.md").read_text()
    text = {"text": "a very funny fish"}
    assert first.predict(**text)["funny"].logits == second.predict(**text)["funny"].logits


@pytest.mark.slow
def test_what_int8_cannot_do_is_said(packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mmtrain.load(packages["int8"])
    with pytest.raises(ConfigError, match="has int8 weights, whose products no exported graph here has; export the run"):
        export(model, tmp_path / "model.onnx", form="onnx")
    with pytest.raises(ConfigError, match="precision bf16: products of int8 weights are of integers; leave it out"):
        mmtrain.load(packages["int8"], precision="bf16")
    assert mmtrain.load(packages["bf16"], precision="fp32").products == "float32"
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'mmtrain\[compress\]'"):
        mmtrain.load(packages["int8"])


@pytest.mark.slow
def test_damaged_packages_are_refused(packages: dict[str, Path], tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(packages["fold"], copied)
    values = json.loads((copied / "compression.json").read_text())
    for change, words in (
        ({"method": "int4"}, "this mmtrain knows no compression 'int4', only fold, int8, bf16, fp16"),
        ({"layers": [["heads.none", "heads.no"]]}, "this model has no heads.none and heads.no to fold"),
        ({"layers": 3}, r"compression\.json is damaged"),
        ({"method": "bf16"}, "only in the model"),
    ):
        (copied / "compression.json").write_text(json.dumps(values | change))
        with pytest.raises(CheckpointError, match=words):
            mmtrain.load(copied)


def kill_when_half_written() -> None:
    from mmtrain.inference import pack

    pack.write_whole = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_kill_leaves_no_half_package(normed: Path, tmp_path: Path) -> None:
    words = ["compress", str(normed), "--method", "bf16", "--out", str(tmp_path / "small")]
    assert live(words, cwd=tmp_path, patch=kill_when_half_written).code == -signal.SIGKILL
    assert not (tmp_path / "small").exists()
    assert live(words, cwd=tmp_path).code == 0
    assert [path.name for path in tmp_path.iterdir() if "small" in path.name] == ["small"]
    assert mmtrain.load(tmp_path / "small").products == "bfloat16"


@pytest.mark.slow
def test_text_alone_of_an_encoder_that_began_at_random(normed: Path, tmp_path: Path) -> None:
    words = ["--text", "a very funny fish", "--without", "audio", "--without", "video", "--out", str(tmp_path / "a.jsonl")]
    done = live(["predict", str(normed), *words], cwd=tmp_path)
    assert done.code == 0, done.err
    (row,) = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    assert row["funny.probability"] == pytest.approx(
        mmtrain.load(normed).predict(text="a very funny fish")["funny"].probability, abs=1e-6
    )


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def refuse(*words: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert ended.value.code == 2
        return capsys.readouterr().err.strip()

    return refuse


def test_what_cannot_be_compressed_is_said(
    trained: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert refused("compress", trained, "--method", "int4", "--out", out) == (
        "error: --method int4: write one of fold, int8, bf16, fp16"
    )
    assert "fold: there is no batch normalization in this model, so nothing to fold" in refused(
        "compress", trained, "--method", "fold", "--out", out
    )
    assert "is not a run folder" in refused("compress", tmp_path, "--method", "bf16", "--out", out)
    assert "--split: 'validation' is none of train, val, test" in refused(
        "compress", trained, "--method", "bf16", "--out", out, "--split", "validation"
    )
    assert "has no checkpoint 'step-9'" in refused(
        "compress", trained, "--method", "bf16", "--out", out, "--checkpoint", "step-9"
    )
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained, unfinished, ignore=shutil.ignore_patterns("checkpoints"))
    assert "checkpoint" in refused("compress", unfinished, "--method", "bf16", "--out", out)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/a.tex").touch()
    words = ["compress", trained, "--method", "bf16", "--out", tmp_path / "thesis"]
    assert "exists already; pass --overwrite" in refused(*words)
    assert "is no package and is not replaced" in refused(*words, "--overwrite")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/model.safetensors").touch()
    assert "is a package, and what it lost is measured over a run's stores" in refused(
        "compress", tmp_path / "package", "--method", "bf16", "--out", out
    )
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert "--method int8 needs torchao" in refused("compress", trained, "--method", "int8", "--out", out)
    assert not out.exists()
    assert list(tmp_path.glob(".*")) == []
    assert torch.is_grad_enabled()
