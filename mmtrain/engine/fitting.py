"""Which tensors of a checkpoint fit a model, by name and shape, in words and as a record."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Shape = tuple[int, ...]
_SHOWN = 6  # entries of a list in a sentence
_ADAPTED = ".base_layer."  # where peft puts the weights of a layer that it adapts


@dataclass(frozen=True)
class Fit:
    """The names on both sides and their shapes, apart by whether they fit. A name is that of a parameter or buffer."""

    fitting: tuple[str, ...]
    absent: tuple[str, ...]  # in the model, not in the checkpoint
    misshapen: Mapping[str, tuple[Shape, Shape]]  # there, here
    unused: tuple[str, ...]  # in the checkpoint, not in the model
    num_here: int
    num_there: int

    @property
    def is_whole(self) -> bool:
        return not (self.absent or self.misshapen or self.unused)

    def words(self) -> str:
        """`148 of 160 tensors; not in the checkpoint: heads.funny_head (4)`: names by the modules that they fill."""
        parts = [f"{len(self.fitting)} of {self.num_here} tensors"]
        known = {*self.fitting, *self.misshapen}
        if self.absent:
            parts.append(f"not in the checkpoint: {_listed(_modules(self.absent, known))}")
        if self.misshapen:
            shapes = (f"{name} {list(there)} there, {list(here)} here" for name, (there, here) in self.misshapen.items())
            parts.append(f"of another shape: {_listed(shapes)}")
        if self.unused:
            parts.append(f"only in the checkpoint: {_listed(_modules(self.unused, known))}")
        return "; ".join(parts)

    def record(self) -> dict[str, Any]:
        """Every name, as plain values."""
        return {
            "loaded": list(self.fitting),
            "not_in_the_checkpoint": list(self.absent),
            "of_another_shape": {name: {"there": there, "here": here} for name, (there, here) in self.misshapen.items()},
            "only_in_the_checkpoint": list(self.unused),
        }


def compare(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Fit:
    """`here`: the model's state, `there`: the checkpoint's tensors."""
    shapes = {name: (tuple(there[name].shape), tuple(value.shape)) for name, value in here.items() if name in there}
    return Fit(
        fitting=tuple(name for name, (one, other) in shapes.items() if one == other),
        absent=tuple(name for name in here if name not in there),
        misshapen={name: pair for name, pair in shapes.items() if pair[0] != pair[1]},
        unused=tuple(name for name in there if name not in here),
        num_here=len(here),
        num_there=len(there),
    )


def under_names_of(here: Collection[str], there: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of layers that have an adapter `here` and had none `there` under the names that they go by here."""
    found = dict(there)
    for name in here:
        plain = name.replace(_ADAPTED, ".")
        if name not in there and plain not in here and plain in there:
            found[name] = found.pop(plain)
    return found


def lost_adapters(here: Collection[str], there: Collection[str]) -> list[str]:
    """The layers that have an adapter `there` and are `here` without one."""
    plain = {name: name.replace(_ADAPTED, ".") for name in there if _ADAPTED in name}
    return sorted({name.split(_ADAPTED)[0] for name, other in plain.items() if name not in here and other in here})


def _modules(names: Collection[str], others: Collection[str]) -> Iterator[str]:
    """The highest modules that hold none of `others`, each with how many of the names it holds."""
    held = {prefix for name in others for prefix in _prefixes(name)}
    counts: dict[str, int] = {}
    for name in names:
        module = next((prefix for prefix in _prefixes(name) if prefix not in held), name)
        counts[module] = counts.get(module, 0) + 1
    for module, count in counts.items():
        yield module if module in names else f"{module} ({count})"


def _prefixes(name: str) -> list[str]:
    """Every module that a tensor lies in, from the outermost."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _listed(entries: Iterator[str]) -> str:
    found = list(entries)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{', '.join(found[:_SHOWN])}{more}"
