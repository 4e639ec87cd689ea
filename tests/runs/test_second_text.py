"""Runs over pairs of texts: from a store's column to Pearson and Spearman, and what is said where there are none."""

import json

import numpy as np
import pyarrow as pa
import pytest

from mmtrain.cli import main
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.models.encoders.text import TransformersTextConfig
from mmtrain.training import train_experiment
from mmtrain.tuning.worst_step import longest_samples

WORDS = ("fish", "king", "ship", "gold", "water", "sea")


def pairs_store(path, *, column="second_text", kind="string", fill=None):
    """Pairs of three words each; the score is the share of words that both have."""
    random = np.random.default_rng(0)
    tasks = {"similarity": TaskSchema(kind="regression")}
    with StoreWriter(path, name="pairs", tasks=tasks, columns={column: pa.type_for_alias(kind)}) as writer:
        for number in range(48):
            first = random.choice(WORDS, 3, replace=False)
            second = random.choice(WORDS, 3, replace=False)
            writer.add(
                id=f"p{number}",
                split="train" if number < 32 else "val",
                group=f"g{number}",
                text=" ".join(first),
                columns={column: " ".join(second) if fill is None else fill},
                labels={"similarity": len(set(first) & set(second)) / 3},
            )
    return path


@pytest.fixture
def experiment(tmp_path, tiny_bert):
    def write(store, **model):
        file = tmp_path / "pairs.yaml"
        text = {"name": "sentence", "path": str(tiny_bert), "max_tokens": 12, "projection": False, "lora": {"rank": 2}}
        values = {
            "name": "pairs",
            "runs": str(tmp_path / "runs"),
            "datasets": {"pairs": {"store": str(store)}},
            "streams": {"pairs": {"dataset": "pairs", "tasks": ["similarity"]}},
            "tasks": {"similarity": {"head": {"name": "scale"}}},
            "model": {"dim": 32, "text": text, "second_text": True, "fusion": {"name": "pair_cosine"}} | model,
            "batch": {"size": 8},
            "training": {"epochs": 2, "checkpoint_every": 3, "optimizer": {"lr": 0.05, "text_lr": 0.01}},
        }
        file.write_text(json.dumps(values))
        return file

    return write


def test_pairs_are_trained_and_scored(experiment, tmp_path):
    """The cosine of two random means already tells how many words a pair shares, and the head cannot turn it round."""
    result = train_experiment(experiment(pairs_store(tmp_path / "store")))
    assert (result.evaluations["val/similarity/pearson"] > 0.5).all()
    assert (result.evaluations["val/similarity/spearman"] > 0.5).all()
    assert len(result.steps["loss/similarity"]) == 8


def test_pairs_of_texts_are_contrasted_and_hidden_in_part(experiment, tmp_path, tiny_bert):
    """Without a label: which second text belongs to which first one, and hidden words of both."""
    text = {"path": str(tiny_bert), "max_tokens": 12}
    file = experiment(pairs_store(tmp_path / "store"), text=text, fusion={"name": "pair"})
    values = json.loads(file.read_text())
    values |= {
        "tasks": {},
        "streams": {"pairs": {"dataset": "pairs", "tasks": ["align", "mask"]}},
        "pretext": {
            "align": {"name": "info_nce", "pairs": [["text", "second_text"]]},
            "mask": {"name": "masked_modelling"},
        },
    }
    file.write_text(json.dumps(values))
    result = train_experiment(file)
    assert len(result.steps["loss/align"]) == 8
    assert np.isfinite(result.steps["loss/mask"]).all()
    assert {"val/align/text_to_second_text_recall@1", "val/mask/second_text_loss"} <= result.evaluations.keys()


def test_a_pair_of_texts_is_present_counted_and_measured(tmp_path):
    stream = Stream(
        "pairs",
        FeatureStore(pairs_store(tmp_path / "store")),
        split="train",
        tasks=["similarity"],
        modalities=["second_text"],
    )
    both = Stream("pairs", stream.store, split="train", tasks=["similarity"], modalities=["text", "second_text"])
    assert {name: mask.all() for name, mask in both.present().items()} == {"text": True, "second_text": True}
    assert list(stream.present()) == ["second_text"]
    sample = both.sample(5)
    assert both.lengths()[5] == len(sample.text) + len(sample.second_text)
    assert (stream.sample(5).text, stream.lengths()[5]) == ("", len(sample.second_text))


def test_the_longest_of_both_texts_is_found(tmp_path, tiny_bert):
    stream = Stream(
        "pairs",
        FeatureStore(pairs_store(tmp_path / "s")),
        split="train",
        tasks=["similarity"],
        modalities=["text", "second_text"],
    )
    tokenizer = TransformersTextConfig(path=str(tiny_bert), max_tokens=32).build_tokenizer()
    found = longest_samples([stream], tokenizer, 3)
    longest = max(len(tokenizer([stream.sample(position).second_text])[0]) for position in range(len(stream)))
    assert len(tokenizer([stream.sample(found["second_text"][0][1]).second_text])[0]) == longest


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"column": "other"}, "model.second_text: no store has a column 'second_text'; keep one in the table"),
        ({"kind": "int64", "fill": 3}, "column 'second_text': 3 is not a text, but the model reads it as one"),
    ],
)
def test_what_is_no_pair_of_texts_is_said(experiment, tmp_path, capsys, made, message):
    with pytest.raises(SystemExit):
        main(["train", "-c", str(experiment(pairs_store(tmp_path / "store", **made)))])
    assert message in capsys.readouterr().err


def test_so_it_is_beside_a_task_that_asks_who_has_one(experiment, tmp_path, capsys):
    file = experiment(pairs_store(tmp_path / "store", kind="int64", fill=3))
    words = ["pretext={near: {name: info_nce}}", "streams.pairs.tasks=[similarity, near]"]
    with pytest.raises(SystemExit) as end:
        main(["train", "-c", str(file), *words])
    assert end.value.code == 2
    assert "column 'second_text': 3 is not a text, but the model reads it as one" in capsys.readouterr().err


def test_a_stream_that_names_a_second_text_needs_the_column(experiment, tmp_path, capsys):
    file = experiment(pairs_store(tmp_path / "store", column="other"))
    with pytest.raises(SystemExit):
        main(["train", "-c", str(file), "streams.pairs.modalities=[text, second_text]"])
    assert "streams.pairs.modalities: store 'pairs' has no 'second_text'" in capsys.readouterr().err
