"""The JSON schema of experiment files, which editors complete from."""

from typing import Any

from mmtrain.config import Experiment
from mmtrain.config_file import NAMED
from mmtrain.config_yaml import KeyPath
from mmtrain.section import NAME_PATTERN


def file_schema() -> dict[str, Any]:
    """The JSON schema of experiment files. Nothing is required in it: a `base:` may give what a file leaves out."""
    schema: dict[str, Any] = _refining(Experiment.model_json_schema())
    for path in NAMED:
        _allow_null(schema, path)
    keys = {key: value for key, value in schema["properties"].items() if key not in ("name", "runs")}
    stage = {"type": "object", "properties": keys, "additionalProperties": False}
    stages = {"type": "object", "patternProperties": {NAME_PATTERN: stage}, "additionalProperties": False}
    schema["properties"]["stages"] = {
        "anyOf": [stages, {"type": "null"}],
        "description": "Runs that follow each other, in order: of each what differs from the rest of the file.",
    }
    schema["properties"]["stage"] = {"type": "string", "description": "The one stage that is meant; null: all of them."}
    schema["properties"]["base"] = {"type": "string", "description": "A file that this one refines, relative to it."}
    return schema


def _allow_null(schema: dict[str, Any], path: KeyPath) -> None:
    """Null in place of an entry of the mapping at `path`, which takes it out of what the file refines."""
    found = schema
    for key in path:
        found = found["additionalProperties"] if key == "*" else found["properties"][key]
        found = schema["$defs"][found["$ref"].removeprefix("#/$defs/")] if "$ref" in found else found
    if "patternProperties" in found:
        found["patternProperties"] = {pattern: _or_null(entry) for pattern, entry in found["patternProperties"].items()}
    else:
        found["additionalProperties"] = _or_null(found["additionalProperties"])


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _refining(schema: Any) -> Any:
    """A schema without required keys; a component without its `name:` may then be one of several, so oneOf is anyOf."""
    if isinstance(schema, list):
        return [_refining(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {"anyOf" if key == "oneOf" else key: _refining(part) for key, part in schema.items() if key != "required"}
