"""Shared fixtures: one torch thread a worker, and a random tiny BERT with a word-piece vocabulary, made on the spot."""

import gc
import os
import shutil

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "disabled")
# runs wait for the disk at every checkpoint: temporary folders in memory, where there is plenty, halve the time they take
if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 4 * 2**30:  # noqa: S108
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")  # noqa: S108

from pathlib import Path

import pytest
import torch

WORDS = [
    "the",
    "a",
    "fish",
    "clip",
    "is",
    "was",
    "not",
    "very",
    "good",
    "bad",
    "funny",
    "sad",
    "red",
    "blue",
    "big",
    "small",
    "who",
    "what",
    "you",
    "i",
    "we",
    "go",
    "stop",
    "look",
    "here",
    "there",
    "never",
    "always",
    "water",
    "sea",
    "king",
    "ship",
    "gold",
    "dance",
    "sing",
    "laugh",
    "cry",
]


def pytest_collection_finish() -> None:
    """What was imported and collected stays: nobody need look for garbage in it."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that AutoModel and AutoTokenizer load: 2 layers of 32, 2 heads, 64 positions, random weights."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("tiny-bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abcdefghijklmnopqrstuvwxyz.,?!"]
    pieces += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder
