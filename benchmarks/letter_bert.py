"""A BERT of random weights on disk, to which each letter of a text is a token: what benchmarks read texts with."""

from pathlib import Path

from transformers import BertConfig, BertModel, BertTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}


def write_bert(folder: Path, config: BertConfig) -> None:
    """Tokenizer and model, for texts of as many tokens as the model has positions."""
    longest = config.max_position_embeddings
    BertTokenizer(vocab=VOCABULARY, do_lower_case=True, model_max_length=longest).save_pretrained(folder)
    BertModel(config).save_pretrained(folder)
