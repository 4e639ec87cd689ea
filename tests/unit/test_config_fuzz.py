"""Mangled experiment files: an experiment in which every written key counts, or a ConfigError; never anything else."""

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from mmtrain.config import dump_yaml, load_experiment, parse
from mmtrain.config_file import load_tree
from mmtrain.errors import ConfigError

VALID = """\
name: x
seed: 3
datasets:
  clips: {store: stores/clips}
  calls:
    store: stores/calls
streams:
  clips: {dataset: clips, tasks: [funny, mood]}
  calls:
    dataset: calls
    tasks:
      - funny
    modalities: [audio]
tasks:
  funny: {loss: {name: binary, pos_weight: auto}, head: {name: mlp, hidden: [8]}}
model:
  dim: 8
  text: {name: transformers, path: some/where}
  sequences:
    audio: {name: bilstm, hidden: 4}
  fusion: {name: hca, order: [audio, text]}
regularizers:
  anchor: {name: l2_initial, strength: 1e-4}
curriculum:
  window: 4
  sampler: {name: temperature, cap: null}
batch: {size: 7, micro: 3}
training:
  eval_every: 8
  optimizer: {lr: 1e-3, betas: [0.9, 0.99]}
tracking: {tensorboard: true}
"""
LINES = VALID.splitlines()
SCALARS = (
    *("", "null", "true", "off", "0", "-1", "1.5", "1e-4", "1e999", ".nan", "9" * 30, "9" * 5000, "0x" + "f" * 3000, "1:30"),
    *("word", "'", '"', '"\\0"', '"\\ud800"', "${seed}", "${", "${oc.env:NONE}", "???", "\\${x}", "*a", "&a x", "!!int x"),
    *("!!python/name:os.system", "!x y", "[]", "{}", "[a, {b: c}]", "{name: linear}", "{name: 5}", "{1: 2}", "é\u2028\x85"),
    *("2024-01-01", "|", ">", "? a", "- a", "#", "%", "@", "`", "\t", "\x07", "\ufffe", "[" * 60 + "]" * 60, "[" * 400),
)
KEYS = ("name", "base", "5", "true", "null", "a.b", "", "'a b'", "<<", "zz", "seed", "tasks", "store", "? x", "[a]", "é")

scalars = st.sampled_from(SCALARS) | st.text(max_size=12)
edit = st.one_of(
    st.tuples(st.just("delete"), st.integers(0, len(LINES)), st.just("")),
    st.tuples(st.just("double"), st.integers(0, len(LINES)), st.just("")),
    st.tuples(st.just("value"), st.integers(0, len(LINES)), scalars),
    st.tuples(st.just("key"), st.integers(0, len(LINES)), st.sampled_from(KEYS)),
    st.tuples(st.just("insert"), st.integers(0, len(LINES)), st.tuples(st.sampled_from(KEYS), scalars).map(": ".join)),
    st.tuples(st.just("indent"), st.integers(0, len(LINES)), st.integers(-2, 4).map(str)),
    st.tuples(st.just("garble"), st.integers(0, len(LINES)), st.text(max_size=6)),
)
override = st.tuples(st.sampled_from(("seed", "batch.size", "streams.calls", "tasks.funny.head", "x.y", "base")), scalars)


def mangle(edits):
    lines = list(LINES)
    for kind, number, what in edits:
        place = number % max(len(lines), 1)
        line = lines[place] if lines else ""
        indent = line[: len(line) - len(line.lstrip())]
        key, colon, value = line.partition(":")
        if kind == "delete":
            del lines[place : place + 1]
        elif kind == "double":
            lines.insert(place, line)
        elif kind == "value":
            lines[place : place + 1] = [f"{key}: {what}"]
        elif kind == "key":
            lines[place : place + 1] = [f"{indent}{what}{colon}{value}"]
        elif kind == "insert":
            lines.insert(place, indent + what)
        elif kind == "indent":
            lines[place : place + 1] = [" " * max(len(indent) + int(what), 0) + line.lstrip()]
        else:
            lines[place : place + 1] = [line[: len(line) // 2] + what + line[len(line) // 2 :]]
    return "\n".join(lines)


def unread(written, resolved, path=()):
    """Keys of a file that the experiment does not have."""
    if isinstance(written, dict):
        for key, value in written.items():
            if not isinstance(resolved, dict) or key not in resolved:
                yield (*path, key)
            else:
                yield from unread(value, resolved[key], (*path, key))


def check(folder, edits, overrides):
    file = folder / "c.yaml"
    try:
        file.write_text(mangle(edits), encoding="utf-8", newline="")
    except UnicodeEncodeError:
        return
    overrides = [f"{key}={value}" for key, value in overrides]
    try:
        tree = load_tree(file, overrides)
        experiment = parse(tree)
    except ConfigError as error:
        message = str(error)
        assert message.strip()
        for line in message.splitlines():
            assert line.startswith((str(file), "command line", f"config file {folder}")), line
            assert len(line) < 1000, line
        return
    assert not list(unread(tree.values, experiment.resolved()))
    file.write_text(dump_yaml(experiment), encoding="utf-8")
    assert load_experiment(file) == experiment


cases = given(edits=st.lists(edit, max_size=4), overrides=st.lists(override, max_size=2))
phases = (Phase.explicit, Phase.generate)  # a failure is printed as it was found: shrinking takes minutes
limits = {
    "phases": phases,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def test_the_unmangled_file_is_valid(folder):
    (folder / "c.yaml").write_text(VALID)
    assert load_experiment(folder / "c.yaml").batch.size == 7
    assert list(unread({"a": {"b": 1}, "c": 1}, {"a": {}, "c": 1})) == [("a", "b")]


@cases
@example(edits=[], overrides=[("x.y", "1")])
@example(edits=[("insert", 0, "base: c.yaml")], overrides=[])
@settings(max_examples=200, **limits)
def test_mangled(folder, edits, overrides):
    check(folder, edits, overrides)


@pytest.mark.slow
@cases
@settings(max_examples=10_000, **(limits | {"derandomize": False}))
def test_mangled_often(folder, edits, overrides):
    check(folder, edits, overrides)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)


@given(
    runs=words.filter(bool) | words.map(lambda word: f"{word}\\${{{word}}}"),
    store=words.filter(bool),
    dataset=names,
    task=names,
    lr=st.floats(min_value=1e-300, max_value=1e300),
    strength=st.floats(min_value=5e-324, max_value=1e300),
    seed=st.integers(0, 2**31 - 1),
    clip=st.none() | st.floats(min_value=1e-9, max_value=1e9),
)
@settings(max_examples=100, **limits)
def test_any_experiment_survives_its_file(folder, runs, store, dataset, task, lr, strength, seed, clip):
    (folder / "base.yaml").write_text(VALID)
    loaded = load_experiment(folder / "base.yaml")
    base = loaded.resolved()
    base |= {"runs": runs, "seed": seed, "datasets": {dataset: {"store": store}}, "tasks": {task: {}}}
    base["streams"] = {dataset: {"dataset": dataset, "tasks": [task]}}
    base["regularizers"] = {task: {"name": "l2", "strength": strength}}
    base["training"]["clipping"] = {"name": "none"} if clip is None else {"name": "norm", "max_norm": clip}
    base["training"]["optimizer"]["lr"] = lr
    experiment = type(loaded).model_validate(base)
    (folder / "dump.yaml").write_text(dump_yaml(experiment), encoding="utf-8")
    assert load_experiment(folder / "dump.yaml") == experiment
