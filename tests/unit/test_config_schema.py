"""The JSON schema that editors use: it fits what loads, refuses what does not, and says what each key is."""

import json
import re
from pathlib import Path

import pytest
import yaml

from mmtrain.config_file import load_tree
from mmtrain.config_schema import file_schema

CONFIGS = sorted(
    file
    for file in (Path(__file__).parents[2] / "configs").rglob("*.yaml")
    if file.parent.name not in ("search", "ablations")
)
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
# keys whose name says all; any other has a description
OBVIOUS = {
    *("name", "betas", "eps", "layers", "activation", "decay", "seed", "epochs", "precision", "mode", "head"),
    *("wandb", "project", "tensorboard"),
}


def is_kind(value, kind):
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, KINDS[kind])


def faults(value, schema, root, where="config"):
    """A small validator of the keywords that the schema uses (jsonschema is no dependency)."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in schema:
        tried = [list(faults(value, member, root, where)) for member in schema["anyOf"]]
        return [f"{where}: fits none: {tried}"] if all(tried) else []
    if "type" in schema and not is_kind(value, schema["type"]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if isinstance(value, dict):
        return [fault for key, item in value.items() for fault in below_key(key, item, schema, root, where)]
    if isinstance(value, list):
        return [fault for item in value for fault in faults(item, schema.get("items", {}), root, where)]
    return [] if is_allowed(value, schema) else [f"{where}: {value!r} is not allowed"]


def is_allowed(value, schema):
    if value != schema.get("const", value) or value not in schema.get("enum", [value]):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, int | float):
        floor, above = schema.get("minimum", value), schema.get("exclusiveMinimum", value - 1)
        ceiling, below = schema.get("maximum", value), schema.get("exclusiveMaximum", value + 1)
        return floor <= value <= ceiling and above < value < below
    return True


def below_key(key, item, schema, root, where):
    known = schema.get("properties", {}).get(key)
    patterns = schema.get("patternProperties", {})
    fitting = [below for pattern, below in patterns.items() if re.search(pattern, key)]
    rest = schema.get("additionalProperties", not patterns)
    below = known or (fitting[0] if fitting else rest)
    return faults(item, below, root, f"{where}.{key}") if isinstance(below, dict) else [f"{where}.{key}: unknown"]


def properties():
    schema = file_schema()
    for title, section in {**schema["$defs"], "Experiment": schema}.items():
        for key, value in section.get("properties", {}).items():
            yield pytest.param(schema, key, value, id=f"{title}.{key}")


def test_configs_are_shipped():
    assert CONFIGS


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_shipped_configs_fit_the_schema(file):
    schema = file_schema()
    assert not faults(load_tree(file).values, schema, schema)
    assert not faults(yaml.safe_load(file.read_text()) | {"base": "x.yaml"}, schema, schema)


WRONG = [
    {"zzz": 1},
    {"seed": -1},
    {"seed": "x"},
    {"batch": {"size": 0}},
    {"batch": {"sise": 1}},
    {"name": "../x"},
    {"curriculum": {"sampler": {"name": "none"}}},
    {"tasks": {"a b": {}}},
    {"base": 1},
    {"training": {"precision": False}},
    {"training": {"optimizer": {"betas": 1}}},
    {"model": {"sequences": {"a": {"name": "linear", "hidden": 3}}}},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_the_schema_refuses(change):
    schema = file_schema()
    assert faults(load_tree(CONFIGS[0]).values | change, schema, schema)


def test_nothing_is_required_of_a_file_that_refines_another():
    schema = file_schema()
    part = {"base": "x.yaml", "streams": {"a": {"tasks": ["t"]}}, "model": {"fusion": {"heads": 2}}}
    assert not faults(part, schema, schema)
    assert '"required"' not in json.dumps(schema)
    assert '"oneOf"' not in json.dumps(schema), "several components fit a section that leaves its name to the base"


def test_null_stands_for_an_entry_that_a_file_takes_out_of_its_base():
    schema = file_schema()
    part = {"base": "x.yaml", "tasks": {"a": None}, "model": {"sequences": {"audio": None}}, "augmentation": {"audio": None}}
    assert not faults(part | {"stages": {"one": {"streams": {"a": None}}}}, schema, schema)
    assert not faults({"augmentation": {"audio": {"noise": None}}}, schema, schema)
    assert faults({"tasks": None}, schema, schema)
    assert faults({"tasks": {"a": {"head": None}}}, schema, schema)


def test_the_schema_is_plain_json():
    assert json.loads(json.dumps(file_schema(), allow_nan=False)) == file_schema()


@pytest.mark.parametrize(("schema", "key", "value"), list(properties()))
def test_every_key_says_what_it_is(schema, key, value):
    section = schema["$defs"].get(str(value.get("$ref", "")).removeprefix("#/$defs/"), {})
    members = value.get("anyOf") or value.get("patternProperties")
    assert value.get("description") or section.get("description") or members or key in OBVIOUS
