"""The file that a cell of a manifest names, kept inside of the manifest's folder."""

from pathlib import Path

from mmtrain.errors import DataError


def path_inside(file: Path, cell: str, where: str, *, allow_outside: bool = False) -> Path:
    """The media file that a cell names, refused where it leaves the manifest's folder, also by a symbolic link."""
    folder = (file if file.is_dir() else file.parent).resolve()
    try:
        target = (folder / cell).resolve()
        if target.resolve() != target:
            raise ValueError("a link in it leads to itself")  # and what stands behind it was not resolved
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {cell!r} is not a path ({error})") from None
    if not allow_outside and not target.is_relative_to(folder):
        raise DataError(f"{where}: '{cell}' leads out of {folder}; move the file into it, or pass --allow-outside")
    return target
