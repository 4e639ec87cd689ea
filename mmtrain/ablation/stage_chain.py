"""The stages behind a run of a matrix: each named by a hash of all that it is, so that equal ones are trained once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtrain.config import Experiment, Staged
from mmtrain.config_file import load_tree
from mmtrain.config_stages import stage_trees, unread_overrides
from mmtrain.config_yaml import COMMAND_LINE, KeyPath, parse_yaml
from mmtrain.run_files import identity
from mmtrain.tuning.search_space import overrides_of

SHARED = "shared"


@dataclass(frozen=True)
class Link:
    """A stage that a variant's last stage is, or begins with. `needs`: the stages whose weights or files it reads.

    `places`: by the keys that name a folder of an earlier stage, what stands there, below `shared/<digest>/<stage>`.
    """

    stage: str
    digest: str
    needs: tuple[str, ...]
    places: Mapping[KeyPath, str]

    @property
    def folder(self) -> str:
        """Below that of the matrix; not of the last stage, which has a variant's."""
        return f"{SHARED}/{self.digest}/{self.stage}"


def digest_of(values: Any) -> str:
    """Eight hexadecimal digits by which plain values are told apart."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def chain_of(staged: Staged) -> list[Link]:
    """The last stage and all that it needs, in order. Two stages have one digest where they would train alike."""
    links: dict[str, Link] = {}
    for stage, run in staged.stages.items():
        places = dict(_places(run.resolved(), (), staged, links))
        values = identity(run, {})["config"]
        assert isinstance(values, dict)
        for path, place in places.items():
            _put(values, path, place)
        digest = digest_of({key: value for key, value in values.items() if key != "name"})
        needs = [name for name, link in links.items() if any(_lies_in(place, link.folder) for place in places.values())]
        links[stage] = Link(stage, digest, tuple(needs), places)
    *_, last = links
    needed = {last}
    for stage in reversed(links):
        needed |= set(links[stage].needs) if stage in needed else set()
    return [link for stage, link in links.items() if stage in needed]


def _places(values: Any, path: KeyPath, staged: Staged, links: Mapping[str, Link]) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _places(value, (*path, key), staged, links)
    elif isinstance(values, str):
        for stage, link in links.items():
            if _lies_in(values, str(staged.stages[stage].folder)):
                yield path, str(Path(link.folder) / Path(values).relative_to(staged.stages[stage].folder))


def _lies_in(place: str, folder: str) -> bool:
    return Path(place).is_relative_to(folder)


def _put(values: dict[str, Any], path: KeyPath, value: str) -> None:
    for key in path[:-1]:
        values = values[str(key)]
    values[str(path[-1])] = value


def words_of(file: Path, words: Sequence[str], link: Link, run: Experiment, *, folder: Path) -> list[str]:
    """Words that make one stage of `file`: without what it sets anew by itself, and with the folders of shared stages.

    `words` make all stages; `folder` is the matrix's.
    """
    tree = load_tree(file, words)
    own = stage_trees(tree, runs=Experiment.model_fields["runs"].default)[link.stage]
    unread = unread_overrides(tree, [own])
    kept = [word for given in words for word in _without(given, unread)]
    moved: dict[str, Any] = {}
    for path, place in link.places.items():
        if path == ("initial", "run"):
            moved[f"stages.{link.stage}.initial"] = run.resolved()["initial"] | {"run": str(folder / place)}
        else:
            moved[f"stages.{link.stage}.{'.'.join(map(str, path))}"] = str(folder / place)
    return [*kept, *overrides_of(moved), f"stage={link.stage}"]


def _without(word: str, unread: Sequence[KeyPath]) -> Iterator[str]:
    """The word without those keys; nothing where none is left."""
    name, _, text = word.partition("=")
    above = tuple(name.split("."))
    dropped = [path[len(above) :] for path in unread if path[: len(above)] == above]
    if not dropped:
        yield word
        return
    value, _ = parse_yaml(text, COMMAND_LINE)
    for path in dropped:
        value = _dropped(value, path)
    if value is not None:
        yield from overrides_of({name: value})


def _dropped(values: Any, path: KeyPath) -> Any:
    """Without the entry at `path`; None where nothing is left."""
    if not path:
        return None
    kept = {key: value if key != path[0] else _dropped(value, path[1:]) for key, value in values.items()}
    return {key: value for key, value in kept.items() if value is not None or key != path[0]} or None
