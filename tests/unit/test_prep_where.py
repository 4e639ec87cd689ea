"""`filter --where`: what an expression keeps, told by a loop, and every way to get one wrong, with its position."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.where import Column, compile_where
from mmtrain.errors import ConfigError

COLUMNS = {
    "id": Column("text"),
    "funny": Column("number", whole=True),
    "mood": Column("number", whole=True, classes=("glad", "sad")),
    "score": Column("number"),
    "flag": Column("truth"),
    "tags": Column("other"),
    "audio.rows": Column("number", whole=True),
    "audio-2.rows": Column("number", whole=True),
}
TABLE = pa.table(
    {
        "id": ["a", "b", "c", "d"],
        "funny": pa.array([1, 0, None, 1], pa.int8()),
        "mood": pa.array([0, 1, 1, None], pa.int32()),
        "score": pa.array([0.5, -1.5, 3.0, None], pa.float64()),
        "flag": pa.array([True, False, None, True]),
        "tags": pa.array([[1], [0], None, [1]], pa.list_(pa.int8())),
        "audio.rows": pa.array([0, 5, 10, 20], pa.int64()),
        "audio-2.rows": pa.array([1, 1, 2, 2], pa.int64()),
    }
)


def _kept(where: str) -> str:
    return "".join(TABLE.filter(compile_where(where, COLUMNS).expression)["id"].to_pylist())


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("funny == 1", "ad"),
        ("funny != 1", "b"),  # an empty cell is neither
        ("not funny == 1", "b"),
        ("funny is None", "c"),
        ("funny is not None", "abd"),
        ("tags is None", "c"),
        ("id in ('a', 'c', 'z')", "ac"),
        ("id not in ['a', 'c']", "bd"),
        ("funny in (0, 300)", "b"),
        ("funny not in (0, 300)", "ad"),
        ("not funny in (0, 300)", "ad"),
        ("funny == 1 or score > 1", "acd"),
        ("funny == 1 and score > 0", "a"),
        ("(funny == 1 or funny == 0) and not audio.rows == 0", "bd"),
        ("0 < audio.rows <= 10", "bc"),
        ('column("audio-2.rows") == 2', "cd"),
        ("score >= -1.5 and score < +3", "ab"),
        ("score == - -0.5", "a"),
        ("funny > 0.5", "ad"),
        ("funny < score", ""),
        ("score < audio.rows", "bc"),
        ("mood == 'sad'", "bc"),
        ("'glad' == mood", "a"),
        ("mood != 'sad'", "a"),
        ("mood in ('glad', 'sad')", "abc"),
        ("mood == 1", "bc"),
        ("flag == True", "ad"),
        ("flag != True", "b"),
        ("id > 'b'", "cd"),
        (r"id != '\d'", "abcd"),
        ("  funny\n== 1 ", "ad"),
    ],
)
def test_what_is_kept(where, kept):
    assert _kept(where) == kept


def test_only_the_columns_named_are_read():
    assert compile_where("funny == 1 and audio.rows > 2 or funny is None", COLUMNS).columns == ("funny", "audio.rows")


NUMBERS = st.sampled_from(["funny", "score", "audio.rows"])
COMPARISONS = st.tuples(NUMBERS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.integers(-2, 12))
TREES = st.recursive(
    COMPARISONS,
    lambda inner: st.tuples(st.just("not"), inner) | st.tuples(inner, st.sampled_from(["and", "or"]), inner),
    max_leaves=6,
)


def _is_leaf(tree) -> bool:
    return len(tree) == 3 and isinstance(tree[2], int)


def _write(tree) -> str:
    if _is_leaf(tree):
        return f"{tree[0]} {tree[1]} {tree[2]}"
    return f"not ({_write(tree[1])})" if tree[0] == "not" else f"({_write(tree[0])}) {tree[1]} ({_write(tree[2])})"


def _truth(tree, row) -> bool | None:
    """Three-valued logic by hand."""
    if _is_leaf(tree):
        left, right = row[tree[0]], tree[2]
        if left is None:
            return None
        order = (left > right) - (left < right)
        return {"==": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[
            tree[1]
        ]
    if tree[0] == "not":
        inner = _truth(tree[1], row)
        return None if inner is None else not inner
    sides = (_truth(tree[0], row), _truth(tree[2], row))
    decisive = tree[1] == "or"
    return decisive if decisive in sides else None if None in sides else not decisive


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_any_expression_keeps_what_a_loop_keeps(tree):
    expected = [row["id"] for row in TABLE.to_pylist() if _truth(tree, row)]
    assert _kept(_write(tree)) == "".join(expected)


@pytest.mark.parametrize(
    ("where", "position", "message"),
    [
        ("spilt == 'train'", 1, "unknown column 'spilt'; the columns are id, funny, mood, score, flag, tags, audio.rows"),
        ("  funny == 1 and video.rows > 2", 18, "unknown column 'video.rows'"),
        ("id == 'é' and fun == 1", 15, "unknown column 'fun'"),
        ("(funny == 1", 1, "not an expression ('(' was never closed)"),
        ("funny == 1 and", 15, "not an expression (invalid syntax"),
        ("funny = 1", 7, "not an expression (invalid syntax"),
        ("", 1, "not an expression (invalid syntax"),
        ("funny\0 == 1", 12, "not an expression (source code string cannot contain null bytes)"),
        ("funny", 1, "'funny' is no comparison; write comparisons (== !="),
        ("__import__('os').system('true')", 1, "is no comparison"),
        ("funny == __import__('os')", 10, "__import__('os')' is neither a column"),
        ("id == open('x').read", 7, "is neither a column, a number nor a text"),
        ("funny == 1 + 1", 10, "'1 + 1' is neither a column, a number nor a text in quotes"),
        ("funny == 1j", 10, "'1j' is neither a column"),
        ("funny == None", 10, "'None' is neither a column"),
        ("funny == -True", 10, "'-True' is neither a column"),
        ("funny == [1]", 10, "'[1]' is neither a column"),
        ("funny == 9223372036854775808", 10, "is too large"),
        ("score < 1e999", 9, "is too large"),
        ("1 == 1", 1, "'1' and '1' are both values; compare a column"),
        ("funny == '1'", 10, "funny is a number, '1' a text; compare like with like"),
        ("id < 3", 6, "id is a text, 3 a number"),
        ("id in ('a', 3)", 13, "id is a text, 3 a number"),
        ("mood == 'angry'", 9, "'angry' is no class of 'mood'; it has glad, sad"),
        ("mood < 'sad'", 8, "mood is a number, 'sad' a text"),
        ("tags == 1", 1, "'tags' holds neither numbers nor texts; only `is None` reads it"),
        ("flag < True", 1, "True and False have no order; write == or !="),
        ("funny is 1", 10, "'is' and 'is not' are followed by None"),
        ("1 is None", 1, "a column was expected before 'is'"),
        ("1 in (1, 2)", 1, "a column was expected before 'in'"),
        ("id in 'abc'", 7, "a list of values was expected behind 'in', such as ('a', 'b')"),
        ("id in ()", 7, "a list of values was expected"),
        ("id in (id, 'a')", 8, "a value was expected in the list"),
        ("column(id) == 1", 1, 'write column("name")'),
        ("column('x') == 1", 1, "unknown column 'x'"),
    ],
)
def test_a_wrong_expression_is_shown_where_it_is_wrong(where, position, message):
    with pytest.raises(ConfigError) as error:
        compile_where(where, COLUMNS)
    assert f", position {position}: " in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "where", ["not " * 20_000 + "funny == 1", "(" * 20_000 + "funny == 1", " and ".join(["-" * 9_000 + "1 < funny"] * 2)]
)
def test_depth_without_end_is_refused(where):
    with pytest.raises(ConfigError, match="--where"):
        compile_where(where, COLUMNS)


def test_many_comparisons_are_read():
    assert _kept(" or ".join(["funny == 1"] * 2000)) == "ad"
