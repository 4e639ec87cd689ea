"""What dataset.json says of an extraction: the manifest, the extractors with their weights, and the code that ran."""

import importlib.metadata
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.extractors import Extractor
from data_prep.manifest import Manifest
from data_prep.shard import Shard


def describe_extraction(
    manifest: Manifest,
    extractors: Mapping[str, Extractor],
    asked: Mapping[str, str],
    options: Mapping[str, Mapping[str, Any]],
    *,
    text: str | None = None,
    shard: Shard | None = None,
) -> dict[str, object]:
    """Nothing of it changes from one run of the same command to the next, so that stores can be compared by their bytes."""
    return {
        "made_by": "python -m data_prep extract",
        "mmtrain": importlib.metadata.version("mmtrain"),
        "commit": _commit(Path(__file__).resolve().parent),
        "manifest": manifest.file.name,
        "manifest_sha256": manifest.sha256,
        **({} if text is None else {"text": text}),
        **({} if shard is None else {"shard": f"{shard.number}/{shard.count}"}),
        "extractors": {key: describe_extractor(extractors[key], asked[key], options[key]) for key in extractors},
    }


def describe_extractor(extractor: Extractor, asked: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that its rows depend on beside the media file; `asked`: its name on the command line."""
    return {
        "asked": asked,
        "name": extractor.spec.extractor,
        "version": extractor.spec.extractor_version,
        "weights_sha256": extractor.weights,
        "frames_per_second": extractor.frames_per_second,
        "rows_per_second": extractor.spec.rows_per_second,
        "dtype": extractor.spec.dtype,
        "options": {name: value for name, value in options.items() if name != "weights"},
    }


def _commit(folder: Path) -> str | None:
    """Of the checkout that holds the code; behind it `+` where files differ from it. None where there is no checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return commit.strip() + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
