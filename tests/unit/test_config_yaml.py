"""YAML to plain values: what is read as what, and what is refused with its line."""

import pytest

from mmtrain.config_yaml import COMMAND_LINE, dump_yaml_text, parse_yaml
from mmtrain.errors import ConfigError


def read(text):
    return parse_yaml(text, "f.yaml")[0]


def complaint(text):
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "f.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),  # PyYAML alone reads a word
        ("1e4", 10000.0),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("12", 12),
        ("0x10", 16),
        ("2024-01-01", "2024-01-01"),  # PyYAML alone reads a date
        ("e4", "e4"),
        ("1e", "1e"),
        ("'1e-4'", "1e-4"),
        ("<<", "<<"),
        ("null", None),
        ("~", None),
        ("yes", True),
        ("", None),
        ("# only a comment", None),
        ("[1, [a, null]]", [1, ["a", None]]),
    ],
)
def test_values(text, value):
    found = read(text)
    assert found == value
    assert type(found) is type(value)


def test_infinities_are_read_so_that_they_can_be_refused_by_name():
    assert read("-.inf") == float("-inf")
    assert read(".nan") != read(".nan")


def test_every_key_has_its_line():
    _, lines = parse_yaml("a:\n  b: 1\n\n  c: {d: 2}\nl:\n  - x: 1\n  - x: 2\n", "f.yaml")
    assert lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 4,
        ("a", "c", "d"): 4,
        ("l",): 5,
        ("l", 0, "x"): 6,
        ("l", 1, "x"): 7,
    }


def test_an_alias_is_a_copy():
    values = read("a: &x {k: [1]}\nb: *x\n")
    assert values["b"] == {"k": [1]}
    assert values["a"]["k"] is not values["b"]["k"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "f.yaml:2: the key 'c' stands here twice (first in line 2)"),
        ("a: 1\n\na: 2", "f.yaml:3: the key 'a' stands here twice (first in line 1)"),
        ("a: 1\n5: 2", "f.yaml:2: a key is a word, and YAML reads 5 as another type; put it in quotes"),
        ("a:\n  off: 2", "f.yaml:2: a key is a word, and YAML reads off as another type; put it in quotes"),
        ("? [a]\n: 2", "f.yaml:1: a key is a word, and YAML reads a list or section as another type"),
        ("? {a: b}\n: 2", "f.yaml:1: a key is a word, and YAML reads a list or section as another type"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: the tag !!python/object/apply:os.system is not read"),
        ("a: !!python/name:os.system", "f.yaml:1: the tag !!python/name:os.system is not read"),
        ("!!python/name:os.system : 1", "f.yaml:1: the tag !!python/name:os.system is not read"),
        ("a: !mine 5", "f.yaml:1: the tag !mine is not read; a config holds plain values only"),
        ("a: !!set {x}", "f.yaml:1: the tag !!set is not read"),
        ("a: !!binary aGVsbG8=", "f.yaml:1: the tag !!binary is not read"),
        ("a: !!int word", "f.yaml:1: word cannot be read as a value"),
        ("a: !!bool word", "f.yaml:1: word cannot be read as a value"),
        ("a: " + "9" * 5000, "... cannot be read as a value"),
        ("a: 0x" + "f" * 5000, "... is larger than any number here"),
        ('a: "\\0"', "f.yaml:1: '\\x00' holds a character that no file may hold"),
        ('a: "\\ud800"', "f.yaml:1: '\\ud800' holds a character that no file may hold"),
        ("a: \x07", "f.yaml: not valid YAML: unacceptable character #x0007"),
        ("a: b: c", "f.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: [1", "f.yaml:1: not valid YAML:"),
        ("a: *x", "f.yaml:1: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 1", "f.yaml:2: not valid YAML:"),
        ("a: " + "[" * 5000, "f.yaml: not valid YAML: nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "f.yaml:1: too large or too deep for a config"),
        ("a: &x [*x]", "f.yaml:1: too large or too deep for a config"),
    ],
)
def test_refused(text, message):
    found = complaint(text)
    assert message in found
    assert "\n" not in found
    assert len(found) < 300


def test_a_billion_laughs_are_not_laughed():
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "too large or too deep" in complaint("\n".join(lines))


def test_the_command_line_has_no_lines():
    with pytest.raises(ConfigError, match=r"^command line: key: not valid YAML"):
        parse_yaml("[", f"{COMMAND_LINE}: key")


@pytest.mark.parametrize(
    "word", ["1e-4", "1e4", "5", "yes", "null", "2024-01-01", "<<", "=", "", " a", "a: b", "#", "é", ".inf"]
)
def test_words_survive_dumping(word):
    assert read(dump_yaml_text({"k": word, word: [word]})) == {"k": word, word: [word]}
