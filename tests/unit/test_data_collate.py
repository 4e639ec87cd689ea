"""Collate: right padding with zeros, boolean masks, and labels that are there or not."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Sample
from mmtrain.data.schema import TaskSchema
from mmtrain.data.tokenize import Tokenizer

TASKS = {
    "funny": TaskSchema(kind="binary"),
    "topic": TaskSchema(kind="multiclass", classes=("a", "b", "c")),
    "tags": TaskSchema(kind="multilabel", classes=("x", "y")),
}
ROWS = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-9, 9, width=32))
SAMPLES = st.lists(st.none() | ROWS, min_size=1, max_size=6)


def _sample(index: int, rows=None, text: str = "", **labels) -> Sample:
    labels = {task: np.asarray(label, np.float64) for task, label in labels.items()}
    features = {} if rows is None else {"audio": rows}
    return Sample(f"s{index}", index, text, features, labels, pretext=frozenset(), group=index % 2, text_key=index)


@settings(deadline=None)
@given(SAMPLES)
def test_every_row_is_kept_and_the_rest_is_masked_zeros(rows):
    batch = Collator(dims={"audio": 3}, tasks={}, tokenizer=None)(
        [_sample(i, r) for i, r in enumerate(rows)], [0] * len(rows)
    )
    values, mask = batch.inputs["audio"]
    lengths = [0 if item is None else len(item) for item in rows]
    assert values.dtype == torch.float32
    assert mask.dtype == torch.bool
    assert values.shape == (len(rows), max(1, *lengths), 3)
    assert mask.sum(dim=1).tolist() == lengths
    assert batch.inputs["audio"].present.tolist() == [length > 0 for length in lengths]
    assert (values[~mask] == 0).all()
    for place, item in enumerate(rows):
        if item is not None:
            np.testing.assert_array_equal(values[place, : len(item)].numpy(), item)
            assert mask[place, : len(item)].all()


@settings(deadline=None)
@given(SAMPLES, st.randoms(use_true_random=False))
def test_a_sample_is_collated_alike_in_any_company(rows, random):
    collate = Collator(dims={"audio": 3}, tasks={}, tokenizer=None)
    samples = [_sample(i, r) for i, r in enumerate(rows)]
    random.shuffle(samples)
    batch = collate(samples, [0] * len(samples))
    for place, sample in enumerate(samples):
        values, mask = collate([sample], [0]).inputs["audio"]
        width = values.shape[1]
        assert torch.equal(batch.inputs["audio"].values[place, :width], values[0])
        assert torch.equal(batch.inputs["audio"].mask[place, :width], mask[0])
        assert not batch.inputs["audio"].mask[place, width:].any()


def test_half_precision_rows_become_single():
    values, _ = Collator(dims={"audio": 1}, tasks={}, tokenizer=None)([_sample(0, np.ones((2, 1), np.float16))], [0]).inputs[
        "audio"
    ]
    assert values.dtype == torch.float32


def test_labels_where_there_are_some():
    samples = [_sample(0, funny=1, topic=2), _sample(1, tags=[0, 1]), _sample(2)]
    batch = Collator(dims={}, tasks=TASKS, tokenizer=None)(samples, [4, 0, 4])
    assert batch.targets["funny"].tolist() == [1, 0, 0]
    assert batch.targets["topic"].tolist() == [2, 0, 0]
    assert batch.targets["tags"].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert {task: flags.tolist() for task, flags in batch.labelled.items()} == {
        "funny": [True, False, False],
        "topic": [True, False, False],
        "tags": [False, True, False],
    }
    assert [batch.targets[task].dtype for task in TASKS] == [torch.float32, torch.int64, torch.float32]
    assert (batch.ids, batch.index.tolist(), batch.stream.tolist(), len(batch)) == (
        ("s0", "s1", "s2"),
        [0, 1, 2],
        [4, 0, 4],
        3,
    )


def test_text_is_padded_with_the_pad_token_and_empty_text_is_missing(tiny_bert):
    from transformers import AutoTokenizer

    tokenizer = Tokenizer(AutoTokenizer.from_pretrained(tiny_bert), max_tokens=8)
    samples = [_sample(0, text="a fish"), _sample(1, text=" "), _sample(2, text="the sad king")]
    ids, mask = Collator(dims={}, tasks={}, tokenizer=tokenizer)(samples, [0, 0, 0]).inputs["text"]
    assert mask.sum(dim=1).tolist() == [4, 0, 5]  # words and [CLS], [SEP]
    assert (ids[~mask] == tokenizer.pad_id).all()
    assert (ids[mask] != tokenizer.pad_id).all()


def test_a_batch_moves_whole():
    batch = Collator(dims={"audio": 3}, tasks=TASKS, tokenizer=None)([_sample(0, np.ones((1, 3)), funny=1)], [0])
    moved = batch.to(torch.device("meta"))
    assert {item.device.type for item in (*moved.targets.values(), *moved.labelled.values(), *moved.inputs["audio"])} == {
        "meta"
    }
    assert (moved.ids, moved.index.device.type) == (batch.ids, "meta")
