"""Experiment files: `base:` chains, overrides, interpolation, and the place of every key."""

import pytest

from mmtrain.config_file import ConfigTree, load_tree, merge
from mmtrain.errors import ConfigError


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="c.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


def complaint(*arguments):
    with pytest.raises(ConfigError) as error:
        load_tree(*arguments)
    return str(error.value)


def test_a_chain_of_bases_refines_from_the_bottom(write):
    write("a: {x: 1, y: 1, z: 1}\nonly: below", "one.yaml")
    write("base: one.yaml\na: {y: 2, z: 2}", "deep/../two.yaml")
    write("base: two.yaml\na: {z: 3}", "three.yaml")
    tree = load_tree("three.yaml")
    assert tree.values == {"a": {"x": 1, "y": 2, "z": 3}, "only": "below"}
    assert tree.origins[("a", "x")] == "one.yaml:1"
    assert tree.origins[("a", "y")] == "two.yaml:2"
    assert tree.origins[("a", "z")] == "three.yaml:2"
    assert tree.origins[()] == "three.yaml"


def test_a_base_is_relative_to_the_file_that_names_it(write):
    write("a: 1", "common/base.yaml")
    write("base: ../common/base.yaml", "mine/c.yaml")
    assert load_tree("mine/c.yaml").values == {"a": 1}


def test_a_null_base_is_none(write):
    assert load_tree(write("base: null\na: 1")).values == {"a": 1}


def test_bases_in_a_circle(write):
    write("base: two.yaml", "one.yaml")
    write("base: one.yaml", "two.yaml")
    assert complaint("one.yaml") == "one.yaml: `base:` leads back to this file: one.yaml -> two.yaml -> one.yaml"


def test_files_that_cannot_be_read(write, tmp_path):
    assert complaint("none.yaml") == "config file none.yaml does not exist"
    message = complaint(write("base: none.yaml"))
    assert message.startswith("config file none.yaml does not exist (`base:` of ")
    assert message.endswith("c.yaml)")
    assert complaint(tmp_path).endswith("cannot be read: Is a directory")
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    assert complaint("bytes.yaml") == "config file bytes.yaml is not UTF-8 text (byte 3)"
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert "config file loop.yaml" in complaint("loop.yaml")
    assert complaint("x" * 5000).endswith("cannot be read: File name too long")


def test_what_is_no_mapping_is_no_config(write):
    assert complaint(write("- a")) == "c.yaml: a config is a mapping of keys to values, found ['a']"
    assert complaint(write("word")) == "c.yaml: a config is a mapping of keys to values, found 'word'"
    assert complaint(write("base: [x]")) == "c.yaml:1: base: must be a path relative to this file, found ['x']"
    assert load_tree(write("")).values == {}


def test_a_byte_order_mark_is_no_key(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert load_tree(tmp_path / "c.yaml").values == {"a": 1}


def test_overrides_set_several_keys_of_one_section(write):
    file = write("batch: {size: 1, micro: 1, prefetch: 1}")
    tree = load_tree(file, ["batch.size=2", "batch.micro=null", "new.deep.key=[a, 1e-4]"])
    assert tree.values == {"batch": {"size": 2, "micro": None, "prefetch": 1}, "new": {"deep": {"key": ["a", 0.0001]}}}
    assert tree.origin(("batch", "size")) == "command line"
    assert tree.origin(("batch", "prefetch")) == "c.yaml:1"
    assert tree.origin(("batch",)) == "c.yaml:1", "the override entered the section, it did not make it"
    assert tree.origin(("new", "deep")) == "command line"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("", None),
        ("null", None),
        ("'5'", "5"),
        ("a=b", "a=b"),
        ("{x: 1}", {"x": 1, "old": 0}),
        ("[1]", [1]),
    ],
)
def test_override_values(write, text, value):
    assert load_tree(write("key: {old: 0}"), [f"key={text}"]).values["key"] == value


def test_the_last_override_wins(write):
    assert load_tree(write("a: 0"), ["a=1", "a=2"]).values == {"a": 2}
    assert load_tree(write("a: {x: 0}"), ["a=null", "a.y=2"]).values == {"a": {"x": 0, "y": 2}}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", ".a=1", "a.=1", "-a=1", "--resume", "", " a=1", "a =1"])
def test_what_is_no_override(write, override):
    message = f"command line: '{override}' is not an override; write key.path=value"
    assert complaint(write("a: 0"), [override]) == message


def test_the_base_is_not_overridden(write):
    assert complaint(write("a: 0"), ["base=x.yaml"]) == (
        "command line: base: stands in a file; give the file that you mean with --config"
    )


def test_a_bad_override_value_names_its_key(write):
    assert complaint(write("a: 0"), ["a.b=[1"]).startswith("command line: a.b: not valid YAML: ")
    assert "the key 'x' stands here twice" in complaint(write("a: 0"), ["a={x: 1, x: 2}"])


def test_another_name_replaces_a_section_and_the_same_name_mixes(write):
    write("fusion: {name: hca, heads: 2, dropout: 0.5}", "base.yaml")
    replaced = load_tree(write("base: base.yaml\nfusion: {name: concat, hidden: [8]}"))
    assert replaced.values == {"fusion": {"name": "concat", "hidden": [8]}}
    assert ("fusion", "heads") not in replaced.origins
    mixed = load_tree(write("base: base.yaml\nfusion: {name: hca, heads: 4}"))
    assert mixed.values == {"fusion": {"name": "hca", "heads": 4, "dropout": 0.5}}
    unnamed = load_tree(write("base: base.yaml\nfusion: {heads: 4}"))
    assert unnamed.values == mixed.values


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_overrides_of_one_section_replace_it_in_any_order(write, order):
    overrides = ["fusion.name=concat", "fusion.hidden=[8]"]
    tree = load_tree(write("fusion: {name: hca, heads: 2}"), [overrides[index] for index in order])
    assert tree.values == {"fusion": {"name": "concat", "hidden": [8]}}


def test_the_name_of_the_experiment_replaces_nothing(write):
    write("name: below\nseed: 3", "base.yaml")
    assert load_tree(write("base: base.yaml\nname: above"), ["name=top"]).values == {"name": "top", "seed": 3}


def test_merge_leaves_both_sides_as_they_were():
    below, above = ConfigTree({"a": {"x": 1}}), ConfigTree({"a": {"y": 2}})
    merge(below, above).values["a"]["x"] = 5
    assert (below.values, above.values) == ({"a": {"x": 1}}, {"a": {"y": 2}})


def test_interpolation(write, monkeypatch):
    monkeypatch.setenv("MMTRAIN_TEST_ROOT", "/scratch")
    file = write("root: ${oc.env:MMTRAIN_TEST_ROOT}\na: ${root}/x\nb: ${a}\nc: '\\${root}'\nd: ${oc.env:NONE_OF_THESE,5}")
    assert load_tree(file, ["e=${a}/y"]).values == {
        "root": "/scratch",
        "a": "/scratch/x",
        "b": "/scratch/x",
        "c": "${root}",
        "d": "5",
        "e": "/scratch/x/y",
    }


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            "${oc.env:NONE_OF_THESE}",
            "Environment variable 'NONE_OF_THESE' not found; set it, or write ${oc.env:NAME,default}",
        ),
        ("${nowhere}", "Interpolation key 'nowhere' not found"),
        ("${a.b}", "Recursive interpolation detected"),
        ("${", "no viable alternative at input '${'"),
        ("${run:ls}", "Unsupported interpolation type run"),
        ("???", "??? asks for a value; write it here, in a file that refines this one, or as an override"),
    ],
)
def test_interpolation_that_fails_names_its_key(write, value, problem):
    assert complaint(write(f"a:\n  b: '{value}'")) == f"c.yaml:2: a.b: {problem}"
    assert complaint(write("a: {b: 1}"), [f"a.b={value}"]) == f"command line: a.b: {problem}"


NAMED = "tasks: {x: {head: 1}, y: 2}\nmodel: {sequences: {audio: 1, video: 2}}\naugmentation: {audio: {noise: 1, mask: 2}}"


@pytest.mark.parametrize(
    ("override", "key", "left"),
    [
        ("tasks.x=null", "tasks", {"y": 2}),
        ("tasks={x: null}", "tasks", {"y": 2}),
        ("model.sequences.audio=null", "model", {"sequences": {"video": 2}}),
        ("augmentation.audio.mask=null", "augmentation", {"audio": {"noise": 1}}),
        ("augmentation.audio=null", "augmentation", {}),
    ],
)
def test_null_takes_an_entry_with_a_name_out(write, override, key, left):
    tree = load_tree(write(NAMED), [override])
    assert tree.values[key] == left
    assert tree.origin(("tasks", "y")) == "c.yaml:1"
    assert not any("null" in str(path) or path == ("tasks", "x") for path in tree.origins if override.startswith("tasks"))


def test_a_file_takes_entries_out_of_its_base_and_puts_others_in(write):
    write(NAMED, "base.yaml")
    write("base: base.yaml\ntasks: {x: null}", "middle.yaml")
    assert load_tree(write("base: middle.yaml")).values["tasks"] == {"y": 2}
    assert load_tree(write("base: middle.yaml\ntasks: {x: {loss: 3}}")).values["tasks"] == {"y": 2, "x": {"loss": 3}}
    assert load_tree(write("base: middle.yaml"), ["tasks.x.loss=3"]).values["tasks"]["x"] == {"loss": 3}


def test_null_over_nothing_stays_and_so_does_that_of_other_keys(write):
    """What is not there cannot be taken out: the schema complains of the null. A key without a name keeps its null."""
    tree = load_tree(write(NAMED), ["tasks.z=null", "model.text=null", "tasks.y=null", "tasks.y=5"])
    assert tree.values["tasks"] == {"x": {"head": 1}, "z": None, "y": 5}
    assert tree.values["model"]["text"] is None
    assert load_tree(write("tasks: {x: null}\nbatch: {size: 1}"), ["batch.size=null"]).values == {
        "tasks": {"x": None},
        "batch": {"size": None},
    }
