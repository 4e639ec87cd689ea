"""A file of several stages as one tree for each: what a stage says, over what all of them share."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from mmtrain.config_errors import config_error, located, nearest
from mmtrain.config_file import ConfigTree, merge, without_removed
from mmtrain.config_yaml import COMMAND_LINE, KeyPath
from mmtrain.errors import ConfigError
from mmtrain.section import Name, Section

Parsed = TypeVar("Parsed")

# of these a stage that names one has what it lists and nothing else; all other sections it refines
_WHOLE = ("streams", "regularizers", "initial")
_LEVEL = ("stages", "stage")


class StagesSection(Section):
    """The stages of a file, in order: of each what differs from the rest of the file."""

    stages: dict[Name, dict[str, Any]] = Field(min_length=1)


def stage_trees(tree: ConfigTree, *, runs: str) -> dict[str, ConfigTree]:
    """The tree of every stage of a file that has `stages`. `runs`: the folder of runs where the file does not say it.

    Sections of a stage refine the shared ones as a file refines its base, but for those that it has whole. A task under
    the shared `tasks` or `pretext` that only other stages learn is left out. Without a word on it, a stage begins with what
    fits of the best weights of the one before. Errors: ConfigError for what is wrong with the level itself.
    """
    try:
        StagesSection.model_validate({"stages": tree.values["stages"]})
    except ValidationError as error:
        raise config_error(error, StagesSection, tree) from None
    if complaints := list(_complaints(tree)):
        raise ConfigError("\n".join(complaints))
    trees: dict[str, ConfigTree] = {}
    before: str | None = None
    for stage in tree.values["stages"]:
        trees[stage] = _stage_tree(tree, stage, folder=Path(str(tree.values.get("runs", runs))), before=before)
        before = stage
    _leave_out_tasks(trees)
    chosen = [stage for stage in trees if stage == tree.values.get("stage")] or list(trees)
    if complaints := list(_unread(tree, {stage: trees[stage] for stage in chosen})):
        raise ConfigError("\n".join(complaints))
    return trees


def parse_stages(tree: ConfigTree, parse: Callable[[ConfigTree], Parsed], *, runs: str) -> dict[str, Parsed]:
    """What `parse` makes of each stage's tree. Errors: all complaints together; what not all stages complain of in a key
    that they share says which.
    """
    trees = stage_trees(tree, runs=runs)
    parsed: dict[str, Parsed] = {}
    complaints: dict[str, list[str]] = {}
    for stage, own in trees.items():
        try:
            parsed[stage] = parse(own)
        except ConfigError as error:
            for line in str(error).splitlines():
                complaints.setdefault(line, []).append(stage)
    lines = [
        line if len(found) == len(trees) or f": stages.{found[0]}." in line else f"{line} (stage {', '.join(found)})"
        for line, found in complaints.items()
    ]
    if lines:
        raise ConfigError("\n".join(lines))
    return parsed


def shared_tree(tree: ConfigTree) -> ConfigTree:
    """What stands outside of the stages: the whole experiment where there are none."""
    return _without(tree, _LEVEL)


def _without(tree: ConfigTree, keys: Collection[str]) -> ConfigTree:
    values = {key: value for key, value in tree.values.items() if key not in keys}
    origins = {path: origin for path, origin in tree.origins.items() if not path or path[0] not in keys}
    return ConfigTree(values, origins, removed=frozenset(path for path in tree.removed if path[0] not in keys))


def _complaints(tree: ConfigTree) -> Iterator[str]:
    """What no stage may say, and stages that only the command line knows."""
    stages = tree.values["stages"]
    written = [stage for stage in stages if _is_in_file(tree, stage)]
    for stage, values in stages.items():
        if stage not in written:
            yield located(tree, ("stages", stage), f"the file has no such stage{nearest(stage, written)}")
        for key, why in {"name": "a stage is called by its key; ", "runs": "all stages lie in one folder; "}.items():
            if key in values:
                yield located(tree, ("stages", stage, key), f"{why}write `{key}:` outside of the stages")


def _is_in_file(tree: ConfigTree, stage: str) -> bool:
    places = [origin for path, origin in tree.origins.items() if path[:2] == ("stages", stage)]
    return any(not origin.startswith(COMMAND_LINE) for origin in places)


def _stage_tree(tree: ConfigTree, stage: str, *, folder: Path, before: str | None) -> ConfigTree:
    shared = shared_tree(tree)
    name, own = shared.values.get("name"), dict(tree.values["stages"][stage])
    if before is not None:
        own["initial"] = _initial(own, folder / str(name) / before)
    below = _without(shared, [key for key in _WHOLE if key in own])
    origins: dict[KeyPath, str] = {
        path[2:]: origin for path, origin in tree.origins.items() if path[:2] == ("stages", stage) and path[2:]
    }
    removed = frozenset(path[2:] for path in tree.removed if path[:2] == ("stages", stage))
    merged = without_removed(merge(below, ConfigTree(own, origins, removed=removed)))
    if isinstance(name, str):
        merged.values["name"] = f"{name}/{stage}"
    return ConfigTree(merged.values, merged.origins, above=("stages", stage), own=frozenset(origins))


def _initial(own: Mapping[str, Any], before: Path) -> Any:
    """What a stage behind another one begins with: null is a fresh start, and what does not name its source refines."""
    said = own.get("initial", {})
    if not isinstance(said, dict) or "run" in said or "file" in said:
        return said
    return {"run": str(before), "checkpoint": "best", "match": "shapes"} | said


def _leave_out_tasks(trees: Mapping[str, ConfigTree]) -> None:
    """Take the tasks of other stages out of what a stage has of the shared `tasks` and `pretext`."""
    learned = {stage: set(_learned(tree.values)) for stage, tree in trees.items()}
    somewhere = set().union(*learned.values())
    for stage, tree in trees.items():
        for key in ("tasks", "pretext"):
            tasks = tree.values.get(key)
            if isinstance(tasks, dict):
                strange = {task for task in tasks if task in somewhere - learned[stage] and (key, task) not in tree.own}
                tree.values[key] = {task: value for task, value in tasks.items() if task not in strange}


def _learned(values: Mapping[str, Any]) -> Iterator[str]:
    streams = values.get("streams")
    for stream in streams.values() if isinstance(streams, dict) else ():
        tasks = stream.get("tasks") if isinstance(stream, dict) else None
        yield from (task for task in tasks if isinstance(task, str)) if isinstance(tasks, list) else ()


def _unread(tree: ConfigTree, trees: Mapping[str, ConfigTree]) -> Iterator[str]:
    """Overrides of what the stages share that each of them overrides in its turn: they would change nothing."""
    for path in unread_overrides(tree, trees.values()):
        keys = " or ".join(f"stages.{stage}.{'.'.join(map(str, path))}" for stage in trees)
        yield located(tree, path, f"changes nothing: set again by {' and '.join(trees)}; write {keys}")


def unread_overrides(tree: ConfigTree, stages: Collection[ConfigTree]) -> list[KeyPath]:
    """The keys outside of the stages that the command line sets, and that none of these stages of the file reads."""
    given = [path for path, origin in shared_tree(tree).origins.items() if origin.startswith(COMMAND_LINE)]
    leaves = [path for path in given if not any(other != path and other[: len(path)] == path for other in given)]
    return [path for path in leaves if not any(path in own.origins and path not in own.own for own in stages)]
