"""The extractors that a command asks for, each made with those of its options that it takes."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from data_prep.extractors import HUGGING_FACE, PREFIX, TABLES, Extractor
from mmtrain.errors import ConfigError

Maker = Callable[..., Extractor]


def choose(
    wanted: Mapping[str, str], *, options: Mapping[str, Any], weights: Mapping[str, str]
) -> Mapping[str, Callable[[], Extractor]]:
    """What makes the extractor of each modality. `options`: for all that take them; `weights`: by extractor.

    Errors: ConfigError for an unknown extractor, or an option that none of them takes.
    """
    makers = {modality: find_maker(modality, name) for modality, name in wanted.items()}
    for option in options:
        if not any(_takes(maker, option) for maker in makers.values()):
            tables = {key: {**table, f"{PREFIX}...": HUGGING_FACE[key]} for key, table in TABLES.items()}
            takers = [f"--{key} {name}" for key, table in tables.items() for name in table if _takes(table[name], option)]
            raise ConfigError(f"--{option.replace('_', '-')}: only {' and '.join(takers)} read it")
    for name in weights:
        if not any(wanted[modality] == name and _takes(maker, "weights") for modality, maker in makers.items()):
            raise ConfigError(f"--weights {name}={weights[name]}: no extractor of that name, with weights, is asked for")
    chosen = {}
    for modality, maker in makers.items():
        taken = {key: value for key, value in options.items() if _takes(maker, key)}
        if wanted[modality] in weights:
            taken["weights"] = weights[wanted[modality]]
        chosen[modality] = partial(maker, **taken)
    return chosen


def find_maker(modality: str, name: str) -> Maker:
    """Errors: ConfigError where the modality's table has no such extractor, and it is no model of Hugging Face either."""
    table = TABLES[modality]
    if name.startswith(PREFIX) and name != PREFIX:
        return partial(HUGGING_FACE[modality], path=name.removeprefix(PREFIX))
    if name not in table:
        raise ConfigError(
            f"--{modality} {name}: unknown extractor; write one of {', '.join(table)}, or {PREFIX} and the name or folder "
            "of a Hugging Face model"
        )
    return table[name]


def _takes(maker: Maker, option: str) -> bool:
    """Whether an extractor is made with an option, and its row in the table has not set it."""
    set_already = maker.keywords if isinstance(maker, partial) else {}
    return option in inspect.signature(maker).parameters and option not in set_already
