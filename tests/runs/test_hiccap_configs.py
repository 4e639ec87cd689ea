"""configs/hiccap: every file builds the paper's model at full size behind a thin BERT, counted by hand, and trains."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from data_prep.synth import synthesize
from mmtrain.build import build_run
from mmtrain.config import Experiment, load_experiment
from mmtrain.engine.history import history
from mmtrain.engine.step import train_step
from mmtrain.parts import build_parts
from mmtrain.stages import train_file
from mmtrain.training import build_accelerator

CONFIGS = Path(__file__).parents[2] / "configs" / "hiccap"
STAGES = ("contrast", "matching", "binary")
FOUR = ("mature", "gory", "slapstick", "sarcasm")
FILES = {"binary.yaml": ("binary",), "four_tasks.yaml": FOUR}
HEAD = (2304 * 200 + 200) + 2 * 200 + (200 * 40 + 40) + 2 * 40 + (40 * 20 + 20) + (20 + 1)
LSTM_OF_1024, LSTM_OF_128 = (4 * 512 * (width + 512) + 2 * 4 * 512 for width in (1024, 128))  # one direction, two biases
BEHIND_THE_LSTM = 2 * 1024 + (1024 * 768 + 768) + 2 * 768
READER = 3 * (768 * 768 + 768) + 2 * 2 * 768 + (768 * 768 + 768) + 768 + 2 * 768
PARTS = {
    "sequences.video_encoder": 4 * LSTM_OF_1024 + BEHIND_THE_LSTM,
    "sequences.audio_encoder": 2 * LSTM_OF_128 + 2 * LSTM_OF_1024 + BEHIND_THE_LSTM,
    "fusion.readers.text_reader": READER,
    "fusion.readers.audio_reader": READER,
    "fusion.readers.video_reader": READER,
}


@pytest.fixture(scope="module")
def hiccap_store(tmp_path_factory) -> Path:
    """What docs/hiccap.md expects of a store, on a small scale."""
    tasks = dict.fromkeys(("binary", *FOUR), "binary")
    folder = tmp_path_factory.mktemp("hiccap") / "store"
    return synthesize(folder, samples=60, modalities={"audio": 128, "video": 1024}, tasks=tasks, max_rows=4, seed=1)


@pytest.fixture(scope="module")
def thin_bert(tmp_path_factory, tiny_bert) -> Path:
    """As wide as BERT base, and next to nothing besides."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder, tokenizer = tmp_path_factory.mktemp("thin-bert"), AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 4}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=500, **sizes)).save_pretrained(folder)
    return folder


def test_every_file_is_tested() -> None:
    assert {file.name for file in CONFIGS.iterdir()} == {"model.yaml", "pretraining.yaml", *FILES}


def load(name: str, store: Path, bert: Path, runs: Path) -> Experiment:
    overrides = [f"datasets.hiccap.store={store}", f"model.text.path={bert}", "batch.size=4", f"runs={runs}"]
    return load_experiment(CONFIGS / name, overrides)


@pytest.mark.parametrize("name", FILES)
def test_a_config_is_the_papers_model(name, hiccap_store, thin_bert, tmp_path) -> None:
    assert load_experiment(CONFIGS / name).model.text.path == "bert-base-uncased"  # a name on a hub, which no test may ask
    model = build_parts(load(name, hiccap_store, thin_bert, tmp_path), weights=False).model
    counted: Counter[str] = Counter()
    for parameter, value in model.named_parameters():
        counted[".".join(parameter.split(".")[: 3 if parameter.startswith("fusion") else 2])] += value.numel()
    del counted["text.encoder"]
    assert counted == PARTS | {f"heads.{task}_head": HEAD for task in FILES[name]}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_config_trains(name, hiccap_store, thin_bert, tmp_path) -> None:
    experiment = load(name, hiccap_store, thin_bert, tmp_path)
    run = build_run(experiment, build_accelerator(experiment), None)
    try:
        inputs = next(iter(run.loader.steps(run.curriculum.next_window(0, 2), first=0)))
        before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        run.model.train()
        train_step(run, inputs)
        still = [name for name, value in run.model.named_parameters() if torch.equal(value, before[name])]
    finally:
        run.close()
    # every table and matrix moved somewhere
    assert still == []


@pytest.mark.slow
def test_the_pretraining_is_three_stages_by_one_command(hiccap_store, thin_bert, tmp_path, capsys) -> None:
    folders = [f"datasets.{name}.store={hiccap_store}" for name in ("hiccap", "kinetics", "howto100m")]
    short = [word for stage in STAGES for word in (f"stages.{stage}.training.epochs=1", f"stages.{stage}.batch.size=8")]
    words = [*folders, *short, f"model.text.path={thin_bert}", f"runs={tmp_path}", "training.steps_per_epoch=1"]
    train_file(CONFIGS / "pretraining.yaml", words)
    told = " ".join(capsys.readouterr().out.split())
    for before, stage in pairwise(STAGES):
        assert f"initial: {tmp_path}/hiccap/pretraining/{before}, step 1: loaded" in told
        assert len(history(tmp_path / "hiccap" / "pretraining" / stage).steps["objective"]) == 1
    assert "val/contrast/text_to_audio_recall@10" in history(tmp_path / "hiccap" / "pretraining" / "contrast").evaluations
