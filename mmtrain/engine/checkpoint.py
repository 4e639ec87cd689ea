"""A checkpoint on disk: a folder that appears whole or not at all, hashed, and read without executing anything."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import EFBIG
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mmtrain.errors import CheckpointError

MANIFEST = "manifest.json"
STATE = "state.json"
_REPLACED = ".replaced.partial"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: named groups of tensors, a JSON-able state, and copies of small text files."""

    tensors: Mapping[str, Tensors]  # group -> name -> tensor; one safetensors file a group
    state: Mapping[str, Any]
    texts: Mapping[str, str]  # file name -> content


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, or would."""
    return root / f"step-{step:08d}"


def save_checkpoint(root: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write `root`/step-XXXXXXXX; readers see nothing of it until every byte is on disk.

    Errors: CheckpointError where the disk refuses it (full, or over a limit); what was there before is untouched.
    """
    final = step_folder(root, step)
    partial, replaced = root / f".{final.name}.partial", root / f".{final.name}{_REPLACED}"
    try:
        for litter in (partial, replaced):
            shutil.rmtree(litter, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial, checkpoint)
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
        _fsync(root)
    except BaseException as error:
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise CheckpointError(_refusal(final, checkpoint, error)) from None
        raise
    return final


def _write(partial: Path, checkpoint: Checkpoint) -> None:
    """Every file, and the manifest of them, down to the disk."""
    for group, tensors in checkpoint.tensors.items():
        held = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        safetensors.torch.save_file(held, partial / f"{group}.safetensors")
    for name, text in checkpoint.texts.items():
        (partial / name).write_text(text, encoding="utf-8")
    (partial / STATE).write_text(json.dumps(checkpoint.state, indent=1, allow_nan=False), encoding="utf-8")
    manifest = {file.name: _record(file) for file in sorted(partial.iterdir())}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for file in partial.iterdir():
        _fsync(file)
    _fsync(partial)


def _refusal(final: Path, checkpoint: Checkpoint, error: OSError | SafetensorError) -> str:
    """Why a checkpoint could not be written, and whether there was room for it."""
    size = sum(tensor.nbytes for tensors in checkpoint.tensors.values() for tensor in tensors.values())
    place = next(path for path in final.parents if path.is_dir())
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    free = shutil.disk_usage(place).free
    is_limited = getattr(error, "errno", None) == EFBIG or f"os error {EFBIG}" in reason
    limit = "; a file may not be so large there (`ulimit -f`, or a quota)" if is_limited else ""
    return (
        f"checkpoint {final} could not be written: {reason}. Its tensors take {size:,} bytes; "
        f"{free:,} bytes are free there now{limit}"
    )


def point(root: Path, name: str, target: Path) -> None:
    """Make `root`/`name` (last, best) lead to `target`, in one atomic step."""
    link = root / f".{name}.link"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target.name)
        os.replace(link, root / name)
    finally:
        link.unlink(missing_ok=True)
    _fsync(root)


def prune(root: Path, *, keep: int, step: int) -> None:
    """Delete checkpoints older than the newest `keep` up to `step`, and what a killed save left behind.

    What `last` and `best` lead to stays. Those above `step` are of an earlier life of the run, which found them damaged:
    they do not count as newest.
    """
    held = {(root / name).resolve() for name in ("last", "best")}
    reached = [folder for folder in _steps(root) if folder.name <= step_folder(root, step).name]
    for folder in reached[keep:]:
        if folder.resolve() not in held:
            shutil.rmtree(folder)
    for partial in root.glob(".step-*.partial"):
        shutil.rmtree(partial)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Verify every file against the manifest, then load. Errors: CheckpointError with the file and the reason."""
    verify(folder)
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors = {file.stem: safetensors.torch.load_file(file) for file in sorted(folder.glob("*.safetensors"))}
        texts = {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.yaml"))}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {folder}: {error}") from None
    return Checkpoint(tensors, state, texts)


def verify(folder: Path) -> None:
    """Compare sizes and hashes with the manifest. Errors: CheckpointError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a whole checkpoint: it has no {MANIFEST}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {folder}: {MANIFEST} is damaged ({error})") from None
    try:
        present = {file.name for file in folder.iterdir()} - {MANIFEST}
        faults = (_fault(folder, name, expected.get(name), name in present) for name in sorted(present | set(expected)))
        fault = next((found for found in faults if found), None)
    except OSError as error:
        fault = f"{error.filename} cannot be read ({error.strerror})"
    if fault:
        raise CheckpointError(f"checkpoint {folder}: {fault}")


def _fault(folder: Path, name: str, expected: tuple[int, str] | None, is_present: bool) -> str | None:
    """What is wrong with one file of a checkpoint."""
    if expected is None:
        return f"{name} is not of it"
    if not is_present:
        return f"{name} is missing"
    size = (folder / name).stat().st_size
    if size != expected[0]:
        return f"{name} is {size} bytes long, not {expected[0]}"
    if _record(folder / name)["sha256"] != expected[1]:
        return f"{name} is damaged (its sha256 differs from the manifest)"
    return None


def has_checkpoints(root: Path) -> bool:
    """Whether there is one, whole or not, in its place or moved aside by a killed save."""
    return any(root.glob("step-*")) or any(root.glob(f".step-*{_REPLACED}"))


def newest_valid(root: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint and the complaints about newer ones; None where there is no checkpoint at all.

    One that a killed save had moved aside, and had not put another in place of, is put back first.
    Errors: CheckpointError where there are checkpoints and none is whole.
    """
    _put_back(root)
    complaints = []
    for folder in _steps(root):
        try:
            verify(folder)
        except CheckpointError as error:
            complaints.append(str(error))
        else:
            return folder, complaints
    if complaints:
        raise CheckpointError("no checkpoint of this run is whole:\n" + "\n".join(complaints))
    return None, []


def _put_back(root: Path) -> None:
    """Give whole checkpoints that were moved aside their names back, where nothing took those; several processes may try."""
    for aside in root.glob(f".step-*{_REPLACED}"):
        final = root / aside.name.removeprefix(".").removesuffix(_REPLACED)
        if final.exists():
            continue
        with suppress(CheckpointError, FileNotFoundError):  # damaged, or another process was here first
            verify(aside)
            aside.rename(final)


def _steps(root: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in root.glob("step-*") if path.is_dir()), reverse=True)


def _record(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
