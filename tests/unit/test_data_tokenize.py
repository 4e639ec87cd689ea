"""The tokenizer: special tokens, truncation at a stated side, and every truncation counted once."""

import pytest

from mmtrain.data.tokenize import Tokenizer


@pytest.fixture
def bert(tiny_bert):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


def test_truncation_is_counted_exactly(bert):
    tokenizer = Tokenizer(bert, max_tokens=5)
    ids = tokenizer(["the fish is", "", "the fish is good", "sad"])  # 5, none, 6 and 3 tokens
    assert [len(item) for item in ids] == [5, 0, 5, 3]
    assert (tokenizer.num_texts, tokenizer.num_truncated) == (3, 1)
    assert tokenizer.lengths(["the fish is", "", "the fish is good", " ", "sad"]) == [5, 0, 5, 0, 3]
    assert (tokenizer.num_texts, tokenizer.num_truncated) == (3, 1)
    tokenizer(["a fish is not very good"])
    assert (tokenizer.num_texts, tokenizer.num_truncated) == (4, 2)


@pytest.mark.parametrize(("side", "kept"), [("right", "the fish is"), ("left", "fish is good")])
def test_the_side_is_the_one_asked_for(bert, side, kept):
    tokenizer = Tokenizer(bert, max_tokens=5, truncation_side=side)
    assert bert.decode(tokenizer(["the fish is good"])[0], skip_special_tokens=True) == kept


def test_texts_without_words_give_no_tokens(bert):
    assert Tokenizer(bert, max_tokens=5)(["", " \n"]) == [[], []]
