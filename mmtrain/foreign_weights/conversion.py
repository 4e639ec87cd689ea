"""Foreign tensors to a safetensors file with our names, and what is said of each that was not taken."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import safetensors.torch
import torch
from torch import Tensor

from mmtrain.errors import CheckpointError
from mmtrain.foreign_weights.torch_file import read_torch_file

_SHOWN = 5
Tensors = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


class Scheme(Protocol):
    """How one code names its weights. `legacy` names are those of our reproduction of that code."""

    def legacy_name(self, name: str) -> str | None:
        """Under which legacy name a foreign tensor goes; None: it has no place."""

    def left_out(self, name: str) -> str | None:
        """Why a foreign tensor without a place has none; None: this code does not know the name."""

    def shapes(self, names: Sequence[str]) -> Shapes:
        """Every legacy name that a whole checkpoint has, with its shape; heads only of the tasks among `names`."""

    def ours(self, tensors: Tensors) -> Tensors:
        """Tensors under legacy names, under the names of the model that we build, with the same arithmetic."""

    def hint(self) -> str:
        """What names are expected, in a few words."""


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint."""

    tensors: Tensors
    left_out: dict[str, str]  # foreign name -> why
    unknown: tuple[str, ...]  # foreign names that the scheme does not know
    missing: tuple[str, ...]  # legacy names that no file had

    def lines(self) -> list[str]:
        """What a person is told."""
        said = [f"{len(self.tensors)} tensors converted"]
        for reason, names in groupby(sorted(self.left_out, key=lambda name: self.left_out[name]), self.left_out.__getitem__):
            said.append(f"left out, {reason}: {_listed(list(names))}")
        if self.unknown:
            said.append(f"left out, unknown: {_listed(self.unknown)}")
        if self.missing:
            said.append(f"not in the file, so left as they are initialized: {_listed(self.missing)}")
        return said


def convert(foreign: Tensors, scheme: Scheme, *, legacy: bool, origin: str) -> Conversion:
    """Rename and reshape.

    Errors: CheckpointError where no name is known, a shape differs, two tensors go to one place, or one is not finite.
    """
    named: Tensors = {}
    sources: dict[str, str] = {}
    others = []
    for name, tensor in foreign.items():
        target = scheme.legacy_name(name)
        if target is None:
            others.append(name)
            continue
        if target in named:
            raise CheckpointError(f"{origin}: '{sources[target]}' and '{name}' are both {target}; give one of them")
        named[target], sources[target] = tensor, name
    left_out = {name: reason for name in others if (reason := scheme.left_out(name)) is not None}
    if not named:
        raise CheckpointError(
            f"{origin}: no name is known among {_listed(list(foreign))}; expected names like {scheme.hint()}"
        )
    shapes = scheme.shapes(list(named))
    unknown = [name for name in others if name not in left_out]
    unknown += [sources[name] for name in named if name not in shapes]
    named = {name: tensor for name, tensor in named.items() if name in shapes}
    _check(named, sources, shapes, origin)
    named = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in named.items()}
    missing = tuple(name for name in shapes if name not in named)
    return Conversion(named if legacy else scheme.ours(named), left_out, tuple(unknown), missing)


def import_checkpoint(files: Sequence[Path], scheme: Scheme, *, out: Path, legacy: bool) -> Conversion:
    """Read one checkpoint, which may lie in several files, and write it as safetensors, whole or not at all.

    Errors: CheckpointError for files that cannot be read or do not fit, and where `out` exists or cannot be written.
    """
    if out.suffix != ".safetensors":
        raise CheckpointError(f"--out {out}: the name must end in .safetensors")
    if out.exists():
        raise CheckpointError(f"--out {out} exists already; write another name, or delete it")
    foreign: Tensors = {}
    for file in files:
        tensors = read_torch_file(file)
        twice = sorted(foreign.keys() & tensors.keys())
        if twice:
            raise CheckpointError(f"{file}: {_listed(twice)} stood in an earlier file already; give one of them")
        foreign |= tensors
    origin = ", ".join(str(file) for file in files)
    conversion = convert(foreign, scheme, legacy=legacy, origin=origin)
    metadata = {
        "format": "pt",
        "names": "legacy" if legacy else "mmtrain",
        "source": ", ".join(file.name for file in files),
        "source_sha256": ", ".join(_sha256(file) for file in files),
    }
    partial = out.with_name(f".{out.name}.partial")
    try:
        held = {name: tensor.contiguous().clone() for name, tensor in sorted(conversion.tensors.items())}
        safetensors.torch.save_file(held, partial, metadata=metadata)
        os.replace(partial, out)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"--out {out} could not be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return conversion


def _check(named: Tensors, sources: Mapping[str, str], shapes: Shapes, origin: str) -> None:
    wrong = [
        f"{sources[name]}: the file has {tuple(tensor.shape)}, the model {shapes[name]}"
        for name, tensor in named.items()
        if tuple(tensor.shape) != shapes[name]
    ]
    if wrong:
        more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise CheckpointError(f"{origin} is of other dimensions:\n" + "\n".join(wrong[:_SHOWN]) + more)
    for name, tensor in named.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{origin}: {sources[name]} holds NaN or Inf; take an earlier checkpoint")


def _listed(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
