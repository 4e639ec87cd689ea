"""The files of cached texts: what goes in comes out bit for bit, damage never passes for rows, nothing half is left."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mmtrain.data.cached_column
from mmtrain.data.cached_block import CachedText, open_block, write_block
from mmtrain.data.cached_column import CachedColumn
from mmtrain.data.cached_texts import CachedTexts
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Sample
from mmtrain.data.store import FeatureStore
from mmtrain.data.tokenize import Tokenizer
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

WIDTH = 3
TEXTS = ("a fish", "the king", "", "ein Schiff, übers Meer", "  \n")


def entries(*texts: str, dtype: type = np.float32) -> list[CachedText]:
    """Of each text as many rows as it has characters, modulo 5; every second one is cut."""
    random = np.random.default_rng(len(texts))
    shape = [(len(text) % 5 + 1, WIDTH) for text in texts]
    rows = [random.standard_normal(size).astype(dtype) for size in shape]
    return [CachedText(text, own, bool(number % 2)) for number, (text, own) in enumerate(zip(texts, rows, strict=True))]


def write(file: Path, found: list[CachedText], dtype: type = np.float32) -> Path:
    write_block(file, found, width=WIDTH, dtype=np.dtype(dtype))
    return file


def reader(*files: Path) -> CachedTexts:
    return CachedTexts([open_block(file) for file in files], max_tokens=7, truncation_side="left", remedy="Mend it")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_come_back_bit_for_bit_in_the_order_asked(tmp_path: Path, dtype: type) -> None:
    first, second = entries(*TEXTS[:2], dtype=dtype), entries(TEXTS[3], dtype=dtype)
    texts = reader(write(tmp_path / "one", first, dtype), write(tmp_path / "two", second, dtype))
    found = texts([TEXTS[3], TEXTS[2], TEXTS[0], TEXTS[4], TEXTS[1], TEXTS[0]])
    expected = [second[0].rows, None, first[0].rows, None, first[1].rows, first[0].rows]
    counted = (texts.num_texts, texts.num_truncated)
    assert texts.lengths([TEXTS[3], TEXTS[2], TEXTS[0], TEXTS[4]]) == [len(rows) for rows in found[:4]]
    assert (texts.num_texts, texts.num_truncated) == counted
    for rows, own in zip(found, expected, strict=True):
        assert rows.dtype == dtype
        assert rows.shape == ((0, WIDTH) if own is None else own.shape)
        assert own is None or rows.tobytes() == own.tobytes()
    assert (texts.num_texts, texts.num_truncated) == (4, 1)  # "the king" alone was cut
    assert (texts.row_shape, texts.dtype) == ((WIDTH,), dtype)


def test_a_text_that_stands_twice_is_the_first_one(tmp_path: Path) -> None:
    twice = write(tmp_path / "one", entries("a", "b")), write(tmp_path / "two", entries("b"))
    np.testing.assert_array_equal(reader(*twice)(["b"])[0], entries("a", "b")[1].rows)
    np.testing.assert_array_equal(reader(*reversed(twice))(["b"])[0], entries("b")[0].rows)


def test_a_file_of_no_text_is_one(tmp_path: Path) -> None:
    texts = reader(write(tmp_path / "none", []), write(tmp_path / "one", entries("a")))
    assert [len(rows) for rows in texts(["", "a"])] == [0, 2]
    assert open_block(tmp_path / "none").holds([])


def test_a_batch_of_cached_texts_has_the_masks_of_tokens(tmp_path: Path) -> None:
    collate = Collator(dims={}, tasks={}, tokenizer=reader(write(tmp_path / "one", entries("a", "bcd"))))
    samples = [Sample(id=text, index=0, text=text, features={}, labels={}) for text in ("bcd", "", "a")]
    values, mask = collate(samples, [0, 0, 0]).inputs["text"]
    assert mask.tolist() == [[True] * 4, [False] * 4, [True, True, False, False]]
    assert values.shape == (3, 4, WIDTH)
    assert not values[~mask].any()


def test_a_missing_text_is_named_with_the_remedy(tmp_path: Path) -> None:
    texts = reader(write(tmp_path / "key" / "table" / "one", entries("a")))
    for other in ("b", "a ", "A"):
        with pytest.raises(DataError, match=f"the text '{other}' is not in the cache {tmp_path / 'key'}. Mend it"):
            texts([other])


def test_no_flipped_bit_passes_for_rows(tmp_path: Path) -> None:
    """Of every byte of the file: rows come out as they went in, or there is an error."""
    given = entries("a fish", "the king", "no")
    file = write(tmp_path / "one", given)
    whole, caught = file.read_bytes(), 0
    for place in range(len(whole)):
        file.unlink()  # what is mapped stays as it is
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = reader(file)([entry.text for entry in given])
        except DataError as error:
            caught += 1
            assert "damaged" in str(error) or "not in the cache" in str(error)  # noqa: PT017 - one of many
            continue
        for rows, entry in zip(found, given, strict=True):
            np.testing.assert_array_equal(rows, entry.rows)
    assert caught > sum(entry.rows.nbytes for entry in given)


def test_a_file_that_is_cut_or_another_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    file = write(tmp_path / "one", entries("a fish", "the king"))
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(DataError, match="cut is damaged"):
            open_block(tmp_path / "cut")
    with pytest.raises(DataError, match="nothing is missing"):
        open_block(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"cannot be read|is damaged"):
        open_block(tmp_path)


def test_a_damaged_row_is_named_when_it_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "one", entries("a fish", "the king"))
    data = bytearray(file.read_bytes())
    data[1024] ^= 1  # the first row
    file.write_bytes(data)
    texts = reader(file)
    texts(["the king"])
    with pytest.raises(DataError, match=r"one is damaged at the text 'a fish'. Mend it"):
        texts(["a fish"])
    block = open_block(file)
    assert not block.holds(["a fish", "the king"])
    assert not block.holds(["the king"])


def test_what_a_block_holds_is_known(tmp_path: Path) -> None:
    block = open_block(write(tmp_path / "one", entries("a", "b")))
    assert block.holds(["b", "a"])
    assert not block.holds(["a", "c"])
    assert not block.holds(["a"])
    assert not block.is_of(0, "c")  # also where another text has the same key


def test_a_writer_that_fails_leaves_nothing_and_the_old_file_stands(tmp_path: Path) -> None:
    def failing() -> Iterator[CachedText]:
        yield entries("b")[0]
        raise KeyboardInterrupt

    for file in (tmp_path / "new", write(tmp_path / "old", entries("a"))):
        with pytest.raises(KeyboardInterrupt):
            write_block(file, failing(), width=WIDTH, dtype=np.dtype(np.float32))
    assert [item.name for item in tmp_path.iterdir()] == ["old"]
    assert open_block(tmp_path / "old").holds(["a"])


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """The inner one finishes and clears up while the outer one is at work; either's file is whole."""
    file = tmp_path / "cache" / "one"

    def slow(*, clears: bool) -> Iterator[CachedText]:
        yield entries("a", "b")[0]
        write(file, entries("a", "b"))
        assert open_block(file).holds(["a", "b"])
        if clears:
            CachedColumn(None, "text", file.parent).clear_up()  # type: ignore[arg-type]
        yield entries("a", "b")[1]

    for clears in (False, True):
        write_block(file, slow(clears=clears), width=WIDTH, dtype=np.dtype(np.float32))
        assert open_block(file).holds(["a", "b"])
        assert [item.name for item in file.parent.iterdir()] == ["one"]


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"one cannot be written \(.*\); make room, or name another folder under `cache`"):
        write(tmp_path / "cache" / "one", entries("a"))


def store_of(path: Path, texts: list[str]) -> FeatureStore:
    with StoreWriter(path, name="texts") as writer:
        for number, text in enumerate(texts):
            writer.add(id=f"s{number}", split="train", group=f"g{number}", text=text)
    return FeatureStore(path)


def test_the_files_of_a_column_hold_each_of_its_texts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmtrain.data.cached_column, "_LEAST", 3)
    store = store_of(tmp_path / "store", ["a", "a", " ", "b", "", "a", "c", "d"])
    column = CachedColumn(store, "text", tmp_path / "cache")
    assert [column.texts(number) for number in range(3)] == [["a"], ["b", "a"], ["c", "d"]]
    assert [column.size(number) for number in range(3)] == [3, 3, 2]
    assert [file.name[:5] for file in column.files] == ["00001", "00002", "00003"]
    assert column.unsound(verify=False) == [0, 1, 2]
    for number in (0, 2):
        write(column.files[number], entries(*column.texts(number)))
    assert column.unsound(verify=True) == [1]
    write(column.files[1], entries("b", "z"))
    assert (column.unsound(verify=False), column.unsound(verify=True)) == ([], [1])
    column.files[2].unlink()
    with pytest.raises(DataError, match=r"00003-of-00003.safetensors is missing. Mend it"):
        column.open(remedy="Mend it")


def test_a_large_column_has_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path / "store", ["a"])
    for size, count in ((1, 1), (256, 1), (257, 2), (10_000_000, 64)):
        monkeypatch.setattr(FeatureStore, "__len__", lambda _, size=size: size)
        column = CachedColumn(store, "text", tmp_path)
        assert len(column.files) == count
        assert sum(column.size(number) for number in range(count)) == size


def test_a_store_without_a_record_of_its_table_says_so(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", ["a"])
    assert len(store.table_hash) == 64
    store.schema.files.clear()
    with pytest.raises(DataError, match=r"dataset.json: files: there is no entry of samples.parquet"):
        _ = store.table_hash


def test_a_tokenizer_is_known_by_what_it_does(tiny_bert: Path) -> None:
    from transformers import AutoTokenizer

    def fingerprint(*, max_tokens: int = 5, side: str = "right", **settings: object) -> str:
        return Tokenizer(AutoTokenizer.from_pretrained(tiny_bert, **settings), max_tokens, side).fingerprint  # type: ignore[arg-type]

    known = fingerprint()
    others = {fingerprint(max_tokens=6), fingerprint(side="left"), fingerprint(do_lower_case=False)}
    others.add(fingerprint(unk_token="fish"))  # noqa: S106 - a token
    assert len(others - {known}) == 4
    used = Tokenizer(AutoTokenizer.from_pretrained(tiny_bert), 5)
    used(["sad"])  # the library keeps the limit of its last call
    assert used.fingerprint == known == fingerprint()


def test_texts_that_are_cut_are_known_one_by_one(tiny_bert: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = Tokenizer(AutoTokenizer.from_pretrained(tiny_bert), 5)
    ids, cut = tokenizer.read(["the fish is", "", "the fish is good", "sad", "a very good fish is here"])
    assert [len(item) for item in ids] == [5, 0, 5, 3, 5]
    assert cut == [False, False, True, False, True]
    assert tokenizer.num_texts == 0
